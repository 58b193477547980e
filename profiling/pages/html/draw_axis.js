/* The axis of times, and above it a strip of the whole trace. */

import { clear, hairline, labelFont } from "./canvas.js";
import { OVERVIEW } from "./lane_layout.js";
import { lowerBound } from "./sorted.js";
import { ticks } from "./times.js";
import { busyWithin } from "./work.js";

const MOST_MARKS = 20000; // of search hits: more only hide each other

/* A strip of the whole trace with the window shown, then the ticks of that window. */
export function drawAxis(context, stage, colours) {
  const { ratio, overview } = stage;
  const { width, height } = context.canvas;
  clear(context, colours);
  const strip = OVERVIEW * ratio;
  drawOverview(context, stage, colours, strip);
  const inStrip = (t) => ((t - overview.from) / (overview.to - overview.from)) * width;
  const [a, b] = [Math.max(0, inStrip(stage.start)), Math.min(width, inStrip(stage.end))];
  context.globalAlpha = 0.62;
  context.fillStyle = colours.paper;
  context.fillRect(0, 0, a, strip);
  context.fillRect(b, 0, width - b, strip);
  context.globalAlpha = 1;
  context.strokeStyle = colours.ink;
  context.lineWidth = ratio;
  context.strokeRect(a + ratio / 2, ratio / 2, Math.max(b - a - ratio, ratio), strip - ratio);
  const window = stage.end - stage.start;
  const { at, texts } = ticks(stage.start - stage.zero, stage.end - stage.zero, width / ratio / 105);
  context.font = labelFont(11 * ratio);
  context.textBaseline = "alphabetic";
  context.fillStyle = colours.soft;
  for (const [k, t] of at.entries()) {
    const x = Math.round(((t + stage.zero - stage.start) / window) * width);
    context.fillRect(x, height - 5 * ratio, hairline(ratio), 5 * ratio);
    context.textAlign = x < 24 * ratio ? "left" : x > width - 34 * ratio ? "right" : "center";
    context.fillText(texts[k], x, height - 8 * ratio);
  }
  context.fillStyle = colours.ink;
  context.fillRect(0, height - hairline(ratio), width, hairline(ratio));
}

/* How busy the devices are over the whole trace, and where the search hits are. */
function drawOverview(context, stage, colours, height) {
  const { timeline, overview, search, ratio } = stage;
  const { width } = context.canvas;
  const per = (overview.to - overview.from) / width;
  context.fillStyle = colours.grid;
  context.fillRect(0, height - ratio, width, ratio);
  context.fillStyle = colours.soft;
  const unions = timeline.work.map((one) => one.union);
  // Where nothing ran, what is known of memory shows the shape of the trace.
  const series = !unions.length && timeline.charts.length ? timeline.charts[0].series[0] : null;
  for (let x = 0; series && x < width; x++) {
    const i = lowerBound(series.time, overview.from + (x + 1) * per, 0, series.time.length) - 1;
    if (i < 0 || !(series.value[i] > 0)) continue;
    const bar = (series.value[i] / timeline.charts[0].highest) * (height - 4 * ratio);
    context.fillRect(x, height - bar, 1, bar);
  }
  for (let x = 0; x < width && unions.length; x++) {
    const t = overview.from + x * per;
    let busy = 0;
    for (const union of unions) busy += busyWithin(union, t, t + per);
    const share = Math.min(busy / per / unions.length, 1);
    const bar = share > 0 ? Math.max(share * (height - 4 * ratio), ratio) : 0;
    if (bar) context.fillRect(x, height - bar, 1, bar);
  }
  if (!search?.hits.length) return;
  context.fillStyle = colours.hit;
  const stride = Math.max(1, Math.ceil(search.hits.length / MOST_MARKS));
  for (let k = 0; k < search.hits.length; k += stride) {
    const x = Math.floor((timeline.start[search.hits[k]] - overview.from) / per);
    context.fillRect(x, 0, Math.max(1, ratio), 4 * ratio);
  }
}
