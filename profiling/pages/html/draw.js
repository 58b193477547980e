/* Drawing. Slices are written straight into pixels: one line of pixels for each row, repeated over the row's
   height. The cost is that of the pixels shown and does not depend on how many slices share them. */

const LABEL = '11px -apple-system, "Segoe UI", Roboto, "Liberation Sans", Arial, sans-serif';

/* One row of slices into `line`. Returns the slices wide enough for a label, as [slice, left, right]. */
function paintRow(timeline, row, line, t0, scale, colours, search, labels, minimum) {
  const { start, duration, busy } = timeline;
  const width = line.length;
  const hits = search && search.before;
  for (let i = firstVisible(timeline, row, t0); i < row.to; ) {
    const left = (start[i] - t0) * scale;
    if (left >= width) break;
    const right = left + duration[i] * scale;
    const x = left > 0 ? left | 0 : 0;
    if (right - left >= 1.5) {
      const end = Math.min(Math.max(Math.round(right), x + 1), width);
      let fill = fillOf(timeline, i);
      if (hits) fill = hits[i + 1] > hits[i] ? colours.hitFill : colours.dimmed;
      line.fill(colours.packed[fill * (LEVELS + 1) + LEVELS], x, end);
      // A gap of paper keeps neighbours apart without hiding a narrow slice.
      if (end - x > 3 && end < width) line[end - 1] = colours.paperPixel;
      if (labels && end - x >= minimum) labels.push([i, x, end, fill]);
      i++;
      continue;
    }
    // All that starts within this pixel is merged; a wide one among them begins its own run.
    let next = gallop(start, t0 + (x + 1) / scale, i + 1, row.to);
    if (next - 1 > i && duration[next - 1] * scale >= 1.5) next--;
    const coverage = Math.min((busy[next] - busy[i]) * scale, 1);
    const one = next - i === 1 ? i : longestIn(timeline, i, next);
    let fill = fillOf(timeline, one);
    if (hits) fill = hits[next] > hits[i] ? colours.hitFill : colours.dimmed;
    const level = hits && fill === colours.hitFill ? LEVELS : Math.round(coverage * LEVELS);
    line[x] = colours.packed[fill * (LEVELS + 1) + level];
    i = next;
  }
}

/* The rows between `top` and `bottom` of a stage's layout, as pixels with labels over them. */
function drawLanes(context, stage, colours, search) {
  const { timeline, layout, ratio, pixels } = stage;
  const { width, height } = pixels;
  const words = new Uint32Array(pixels.data.buffer);
  words.fill(colours.paperPixel);
  const line = new Uint32Array(width);
  const [t0, scale] = [stage.start, (width / (stage.end - stage.start))];
  const top = stage.scroll;
  const labels = [];
  for (const band of layout.bands) {
    const y0 = Math.round((band.y - top) * ratio);
    const gap = band.height > 3 ? Math.max(1, Math.round(ratio)) : 0;
    const y1 = Math.round((band.y + band.height - top) * ratio) - gap;
    if (y1 <= 0 || y0 >= height) continue;
    line.fill(colours.paperPixel);
    const found = [];
    paintRow(timeline, band.row, line, t0, scale, colours, search, band.height >= 12 ? found : null, 34 * ratio);
    for (let y = Math.max(y0, 0); y < Math.min(y1, height); y++) words.set(line, y * width);
    for (const label of found) labels.push([(y0 + y1) / 2, ...label]);
  }
  context.putImageData(pixels, 0, 0);
  drawLabels(context, stage, labels, colours);
  context.fillStyle = colours.rule;
  for (const y of layout.rules) {
    const at = Math.round((y - top) * ratio);
    if (at >= 0 && at < height) context.fillRect(0, at, width, Math.max(1, Math.round(ratio)));
  }
}

function drawLabels(context, stage, labels, colours) {
  const { timeline, ratio } = stage;
  context.font = LABEL.replace("11", String(11 * ratio));
  context.textBaseline = "middle";
  context.textAlign = "left";
  const character = 5.9 * ratio; // an average; what is longer is cut by the slice's own edge below
  for (const [y, i, left, right, fill] of labels) {
    const name = short(timeline.names[timeline.name[i]]);
    const room = Math.floor((right - left - 8 * ratio) / character);
    if (room < 3) continue;
    context.fillStyle = fill === colours.dimmed ? colours.soft : fill === colours.hitFill ? colours["on-hit"] : colours["on-fill"];
    context.fillText(name.length > room ? `${name.slice(0, room - 1)}…` : name, left + 4 * ratio, y + 0.5 * ratio, right - left - 6 * ratio);
  }
}

/* Round steps: 1, 2 or 5 times a power of ten. */
function ticks(from, to, most) {
  const raw = (to - from) / Math.max(most, 1);
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].find((m) => m * power >= raw) * power;
  const found = [];
  for (let k = Math.ceil(from / step); k * step <= to; k++) found.push(k * step);
  return { step, at: found };
}

/* Time axis: a strip of the whole trace with the window shown, then the ticks of that window. */
function drawAxis(context, stage, colours) {
  const { ratio, overview } = stage;
  const { width, height } = context.canvas;
  context.fillStyle = colours.paper;
  context.fillRect(0, 0, width, height);
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
  const { step, at } = ticks(stage.start - stage.zero, stage.end - stage.zero, width / ratio / 105);
  const [size, unit] = TIME_UNITS.find(([size]) => Math.max(...at.map(Math.abs), 1) >= size) || TIME_UNITS[3];
  const places = Math.min(Math.max(Math.ceil(-Math.log10(step / size) - 1e-9), 0), 9);
  context.font = LABEL.replace("11", String(11 * ratio));
  context.textBaseline = "alphabetic";
  context.fillStyle = colours.soft;
  for (const t of at) {
    const x = Math.round(((t + stage.zero - stage.start) / window) * width);
    context.fillRect(x, height - 5 * ratio, Math.max(1, Math.round(ratio)), 5 * ratio);
    context.textAlign = x < 24 * ratio ? "left" : x > width - 34 * ratio ? "right" : "center";
    context.fillText(t === 0 ? "0" : `${fixed(t / size, places)} ${unit}`, x, height - 8 * ratio);
  }
  context.fillStyle = colours.ink;
  context.fillRect(0, height - Math.max(1, Math.round(ratio)), width, Math.max(1, Math.round(ratio)));
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
  if (!search || !search.hits.length) return;
  context.fillStyle = colours.hit;
  const stride = Math.max(1, Math.ceil(search.hits.length / 20000)); // more marks than that only hide each other
  for (let k = 0; k < search.hits.length; k += stride) {
    const x = Math.floor((timeline.start[search.hits[k]] - overview.from) / per);
    context.fillRect(x, 0, Math.max(1, ratio), 4 * ratio);
  }
}

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
    run.forEach(([x, y], k) => (k ? context.lineTo(x, y) : context.moveTo(x, y)));
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
  const hold = (x) => { if (step && run.length) run.push([x, run[run.length - 1][1]]); };
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
      if (!step && points++ < 2000) context.fillRect(x - 1.5 * ratio, scaleY(high) - 1.5 * ratio, 3 * ratio, 3 * ratio);
    }
    i = next;
  }
  hold(i < time.length ? width + 8 : Math.min(end, width + 8));
  flush();
}

function drawCharts(context, stage, colours) {
  const { ratio } = stage;
  const { width, height } = context.canvas;
  context.fillStyle = colours.paper;
  context.fillRect(0, 0, width, height);
  for (const band of stage.chartBands) {
    const { chart } = band;
    context.fillStyle = colours.rule;
    context.fillRect(0, Math.round(band.y * ratio), width, Math.max(1, Math.round(ratio)));
    const top = (band.y + band.label + 5) * ratio;
    const bottom = (band.y + band.height) * ratio - ratio;
    const scaleY = (value) => bottom - ((value - chart.lowest) / (chart.highest - chart.lowest || 1)) * (bottom - top);
    chart.series.forEach((series, k) => drawSeries(context, series, stage, colours.charts[k % 2], scaleY, bottom));
    context.font = LABEL.replace("11", String(10.5 * ratio));
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

/* What is pointed at, selected and measured: its own canvas, so that moving the pointer redraws nothing else. */
function drawMarks(context, stage, colours, app) {
  const { ratio, timeline } = stage;
  const { width, height } = context.canvas;
  context.clearRect(0, 0, width, height);
  const x = (t) => ((t - stage.start) / (stage.end - stage.start)) * width;
  const box = (i, colour, thick) => {
    const band = stage.bandOf(i);
    if (!band) return null;
    const left = Math.max(x(timeline.start[i]), -8);
    const right = Math.min(Math.max(x(timeline.start[i] + timeline.duration[i]), left + 2 * ratio), width + 8);
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
      const [from, to] = timeline.start[other] < timeline.start[stage.selected] ? [there, chosen] : [chosen, there];
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
    context.fillRect(Math.round(x(stage.pointer)), 0, Math.max(1, Math.round(ratio)), height);
  }
  const interval = stage.interval;
  if (!interval) return;
  const [a, b] = [x(interval[0]), x(interval[1])];
  context.fillStyle = colours.mark;
  context.globalAlpha = 0.12;
  context.fillRect(a, 0, b - a, height);
  context.globalAlpha = 1;
  for (const edge of [a, b]) context.fillRect(Math.round(edge), 0, Math.max(1, Math.round(ratio)), height);
  const text = time(interval[1] - interval[0], 4);
  context.font = LABEL.replace("11", String(12 * ratio));
  const wide = context.measureText(text).width + 12 * ratio;
  const middle = Math.min(Math.max((Math.max(a, 0) + Math.min(b, width)) / 2, wide / 2), width - wide / 2);
  context.fillRect(middle - wide / 2, 4 * ratio, wide, 19 * ratio);
  context.fillStyle = colours.paper;
  context.textAlign = "center";
  context.textBaseline = "middle";
  context.fillText(text, middle, 14 * ratio);
}
