/* Charts of memory and counters, below the lanes. */

import { clear, hairline, labelFont } from "./canvas.js";
import { quantity } from "./numbers.js";
import { gallop, lowerBound } from "./sorted.js";

/* A quantity over time: held until the next event as a filled step line, or sampled as points on a thin line.
   Of what shares a pixel the extremes are drawn; where the value is unknown the line is broken. */
function drawSeries(context, series, stage, colour, scaleY, bottom) {
  const { ratio } = stage;
  const { width } = context.canvas;
  const { time, value, step } = series;
  const scale = width / (stage.end - stage.start);
  const end = (stage.timeline.span - stage.start) * scale;
  context.strokeStyle = context.fillStyle = colour;
  context.lineWidth = 1.25 * ratio;
  let run = []; // points of the line since it last broke
  const flush = () => {
    if (!run.length) return;
    context.beginPath();
    for (const [x, y] of run) context.lineTo(x, y);
    context.stroke();
    if (step) {
      context.lineTo(run[run.length - 1][0], bottom);
      context.lineTo(run[0][0], bottom);
      context.globalAlpha = 0.14;
      context.fill();
      context.globalAlpha = 1;
    }
    run = [];
  };
  const hold = (x) => {
    if (step && run.length) run.push([x, run[run.length - 1][1]]);
  };
  let points = 0;
  let i = Math.max(lowerBound(time, stage.start, 0, time.length) - 1, 0);
  while (i < time.length) {
    const x = Math.max((time[i] - stage.start) * scale, -8);
    if (x > width + 8) break;
    const limit = stage.start + (Math.floor(Math.max(x, 0)) + 1) / scale;
    const next = Math.max(gallop(time, limit, i, time.length), i + 1);
    let [low, high] = [Infinity, -Infinity];
    for (let j = i; j < next; j++) {
      if (value[j] < low) low = value[j];
      if (value[j] > high) high = value[j];
    }
    hold(x);
    if (high < low) {
      flush();
    } else {
      const last = value[next - 1];
      if (low !== high) run.push([x, scaleY(low)], [x, scaleY(high)]);
      if (!Number.isNaN(last)) run.push([x, scaleY(last)]);
      if (!step && points++ < 2000)
        context.fillRect(x - 1.5 * ratio, scaleY(high) - 1.5 * ratio, 3 * ratio, 3 * ratio);
    }
    i = next;
  }
  hold(i < time.length ? width + 8 : Math.min(end, width + 8));
  flush();
}

export function drawCharts(context, stage, colours) {
  const { ratio } = stage;
  const { width } = context.canvas;
  clear(context, colours);
  for (const band of stage.chartBands) {
    const { chart } = band;
    context.fillStyle = colours.rule;
    context.fillRect(0, Math.round(band.y * ratio), width, hairline(ratio));
    const top = (band.y + band.label + 5) * ratio;
    const bottom = (band.y + band.height) * ratio - ratio;
    const scaleY = (value) =>
      bottom - ((value - chart.lowest) / (chart.highest - chart.lowest || 1)) * (bottom - top);
    for (const [k, series] of chart.series.entries()) {
      drawSeries(context, series, stage, colours.charts[k % 2], scaleY, bottom);
    }
    context.font = labelFont(10.5 * ratio);
    context.textBaseline = "top";
    context.textAlign = "left";
    const text = quantity(chart.highest, chart.unit);
    const room = context.measureText(text).width + 8 * ratio;
    context.globalAlpha = 0.8;
    context.fillStyle = colours.paper;
    context.fillRect(0, top - 2 * ratio, room, 14 * ratio);
    context.globalAlpha = 1;
    context.fillStyle = colours.soft;
    context.fillText(text, 4 * ratio, top);
  }
}
