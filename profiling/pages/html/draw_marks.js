/* What is pointed at, selected and measured: on its own canvas, so that a pointer redraws nothing else. */

import { hairline, labelFont } from "./canvas.js";
import { time } from "./times.js";

export function drawMarks(context, stage, colours, app) {
  const { ratio, timeline } = stage;
  const { width, height } = context.canvas;
  context.clearRect(0, 0, width, height);
  const x = (t) => ((t - stage.start) / (stage.end - stage.start)) * width;
  const box = (i, colour, thick) => {
    const band = stage.bandOf(i);
    if (!band) return null;
    const left = Math.max(x(timeline.start[i]), -8);
    const right = Math.min(
      Math.max(x(timeline.start[i] + timeline.duration[i]), left + 2 * ratio),
      width + 8,
    );
    const top = (band.y - stage.scroll) * ratio;
    if (right < 0 || left > width) return { left, right, top, bottom: top + band.height * ratio };
    context.strokeStyle = colour;
    context.lineWidth = thick * ratio;
    context.strokeRect(left, top, right - left, (band.height - 1) * ratio);
    return { left, right, top, bottom: top + band.height * ratio };
  };
  if (stage.hover >= 0) box(stage.hover, colours.ink, 1);
  if (stage.selected >= 0) {
    const chosen = box(stage.selected, colours.mark, 2);
    // From a launch to the kernel it launched.
    for (const other of stage.partners) {
      const there = box(other, colours.mark, 1);
      if (!chosen || !there) continue;
      const [from, to] =
        timeline.start[other] < timeline.start[stage.selected] ? [there, chosen] : [chosen, there];
      context.beginPath();
      const [y0, y1] = from.top < to.top ? [from.bottom, to.top] : [from.top, to.bottom];
      const bend = Math.max(Math.abs(to.left - from.right) / 3, 14 * ratio);
      context.moveTo(from.right, y0);
      context.bezierCurveTo(from.right + bend, y0, to.left - bend, y1, to.left, y1);
      context.lineWidth = 1.25 * ratio;
      context.stroke();
    }
  }
  if (stage.pointer !== null && app.measuring) {
    context.fillStyle = colours.mark;
    context.fillRect(Math.round(x(stage.pointer)), 0, hairline(ratio), height);
  }
  const interval = stage.interval;
  if (!interval) return;
  const [a, b] = [x(interval[0]), x(interval[1])];
  context.fillStyle = colours.mark;
  context.globalAlpha = 0.12;
  context.fillRect(a, 0, b - a, height);
  context.globalAlpha = 1;
  for (const edge of [a, b]) context.fillRect(Math.round(edge), 0, hairline(ratio), height);
  const text = time(interval[1] - interval[0], 4);
  context.font = labelFont(12 * ratio);
  const wide = context.measureText(text).width + 12 * ratio;
  const middle = Math.min(Math.max((Math.max(a, 0) + Math.min(b, width)) / 2, wide / 2), width - wide / 2);
  context.fillRect(middle - wide / 2, 4 * ratio, wide, 19 * ratio);
  context.fillStyle = colours.paper;
  context.textAlign = "center";
  context.textBaseline = "middle";
  context.fillText(text, middle, 14 * ratio);
}
