/* Lanes. Slices are written straight into pixels: one line of pixels for each row, repeated over the row's
   height. The cost is that of the pixels shown and does not depend on how many slices share them. */

import { hairline, labelFont } from "./canvas.js";
import { DIMMED, FOUND, fillOf, LEVELS } from "./colours.js";
import { shortName } from "./short_name.js";
import { firstVisible, longestIn } from "./slices.js";
import { gallop } from "./sorted.js";

/* One row of slices into `line`, a Uint32Array of pixels of which the first begins at `t0`; `scale` is pixels
   per time. `search`: hits to bring out, or null. Returns the slices at least `labelled` pixels wide, as
   [slice, left, right, fill]. */
export function paintRow(line, timeline, row, { t0, scale, colours, search = null, labelled = Infinity }) {
  const wide = [];
  const { start, duration, busy } = timeline;
  const width = line.length;
  const hits = search?.before;
  for (let i = firstVisible(timeline, row, t0); i < row.to; ) {
    const left = (start[i] - t0) * scale;
    if (left >= width) break;
    const right = left + duration[i] * scale;
    const x = left > 0 ? left | 0 : 0;
    if (right - left >= 1.5) {
      const end = Math.min(Math.max(Math.round(right), x + 1), width);
      let fill = fillOf(timeline, i);
      if (hits) fill = hits[i + 1] > hits[i] ? FOUND : DIMMED;
      line.fill(colours.packed[fill * (LEVELS + 1) + LEVELS], x, end);
      // A gap of paper keeps neighbours apart without hiding a narrow slice.
      if (end - x > 3 && end < width) line[end - 1] = colours.paperPixel;
      if (end - x >= labelled) wide.push([i, x, end, fill]);
      i++;
      continue;
    }
    // All that starts within this pixel is merged; a wide one among them begins its own run.
    let next = gallop(start, t0 + (x + 1) / scale, i + 1, row.to);
    if (next - 1 > i && duration[next - 1] * scale >= 1.5) next--;
    const coverage = Math.min((busy[next] - busy[i]) * scale, 1);
    const one = next - i === 1 ? i : longestIn(timeline, i, next);
    let fill = fillOf(timeline, one);
    if (hits) fill = hits[next] > hits[i] ? FOUND : DIMMED;
    const level = hits && fill === FOUND ? LEVELS : Math.round(coverage * LEVELS);
    line[x] = colours.packed[fill * (LEVELS + 1) + level];
    i = next;
  }
  return wide;
}

/* The rows of a stage's layout that are scrolled into view, as pixels with labels over them. */
export function drawLanes(context, stage, colours) {
  const { timeline, layout, ratio, pixels, search } = stage;
  const { width, height } = pixels;
  const words = new Uint32Array(pixels.data.buffer);
  words.fill(colours.paperPixel);
  const line = new Uint32Array(width);
  const [t0, scale] = [stage.start, width / (stage.end - stage.start)];
  const top = stage.scroll;
  const labels = [];
  for (const band of layout.bands) {
    const y0 = Math.round((band.y - top) * ratio);
    const gap = band.height > 3 ? hairline(ratio) : 0;
    const y1 = Math.round((band.y + band.height - top) * ratio) - gap;
    if (y1 <= 0 || y0 >= height) continue;
    line.fill(colours.paperPixel);
    const labelled = band.height >= 12 ? 34 * ratio : Infinity;
    const wide = paintRow(line, timeline, band.row, { t0, scale, colours, search, labelled });
    for (let y = Math.max(y0, 0); y < Math.min(y1, height); y++) words.set(line, y * width);
    for (const label of wide) labels.push([(y0 + y1) / 2, ...label]);
  }
  context.putImageData(pixels, 0, 0);
  drawLabels(context, stage, labels, colours);
  context.fillStyle = colours.rule;
  for (const y of layout.rules) {
    const at = Math.round((y - top) * ratio);
    if (at >= 0 && at < height) context.fillRect(0, at, width, hairline(ratio));
  }
}

function drawLabels(context, stage, labels, colours) {
  const { timeline, ratio } = stage;
  context.font = labelFont(11 * ratio);
  context.textBaseline = "middle";
  context.textAlign = "left";
  const character = 5.9 * ratio; // an average; what is longer is cut by the slice's own edge below
  for (const [y, i, left, right, fill] of labels) {
    const name = shortName(timeline.names[timeline.name[i]]);
    const room = Math.floor((right - left - 8 * ratio) / character);
    if (room < 3) continue;
    context.fillStyle = colours[fill === DIMMED ? "soft" : fill === FOUND ? "on-hit" : "on-fill"];
    context.fillText(
      name.length > room ? `${name.slice(0, room - 1)}…` : name,
      left + 4 * ratio,
      y + 0.5 * ratio,
      right - left - 6 * ratio,
    );
  }
}
