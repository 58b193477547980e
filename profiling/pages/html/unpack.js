/* Unpacks a timeline, which packing.py packed: one deflated stream, base64 inside its own script block.

   The stream is: length of the manifest (4 bytes, little endian), the manifest (JSON), then the columns. A
   column is a table of unsigned integers stored plane by plane (all lowest bytes, then all next bytes, ...):
   the upper planes of small numbers are runs of zeros, which deflate almost for free. */

async function inflate(text) {
  const bytes = Uint8Array.fromBase64 ? Uint8Array.fromBase64(text) : fromBase64(text);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

function fromBase64(text) {
  const characters = atob(text);
  const bytes = new Uint8Array(characters.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = characters.charCodeAt(i);
  return bytes;
}

/* Integers up to 2^53 in a Float64Array; unsigned ones of four bytes or fewer in a Uint32Array. */
export function column(bytes, { at, planes, count, code }) {
  const plane = (p) => bytes.subarray(at + p * count, at + (p + 1) * count);
  if (code === "float") {
    const whole = new Uint8Array(count * 8);
    for (let p = 0; p < 8; p++) {
      const from = plane(p);
      for (let i = 0; i < count; i++) whole[i * 8 + p] = from[i];
    }
    return new Float64Array(whole.buffer);
  }
  const small = planes <= 4;
  const low = new Uint32Array(count);
  for (let p = 0; p < Math.min(planes, 4); p++) {
    const from = plane(p);
    const shift = 8 * p;
    for (let i = 0; i < count; i++) low[i] |= from[i] << shift;
  }
  if (small && code === "plain") return low;
  const values = new Float64Array(low);
  for (let p = 4; p < planes; p++) {
    const from = plane(p);
    const factor = 2 ** (8 * p);
    for (let i = 0; i < count; i++) values[i] += from[i] * factor;
  }
  if (code !== "plain") {
    // Zigzag: 0, -1, 1, -2, ... as 0, 1, 2, 3, ...; then each value is a step from the one before.
    let sum = 0;
    for (let i = 0; i < count; i++) {
      const v = values[i];
      const step = v % 2 ? -(v + 1) / 2 : v / 2;
      sum += step;
      values[i] = code === "zigzag" ? step : sum;
    }
  }
  return values;
}

/* The manifest with its columns decoded. Slices stand row by row; starts are since the first event. */
export async function unpack(text) {
  const bytes = await inflate(text);
  const length = new DataView(bytes.buffer).getUint32(0, true);
  const manifest = JSON.parse(new TextDecoder().decode(bytes.subarray(4, 4 + length)));
  const body = bytes.subarray(4 + length);
  const read = (one) => column(body, one);

  const duration = read(manifest.columns.duration);
  // In place: a gap is the time since the end of the slice before, in the same row.
  const start = new Float64Array(read(manifest.columns.gap));
  // The sum of durations before a slice, so that any range sums in O(1).
  const busy = new Float64Array(start.length + 1);
  const rows = [];
  let from = 0;
  manifest.lanes.forEach((lane, index) => {
    lane.index = index;
    lane.rows = lane.rows.map((count, depth) => {
      const row = { lane, depth, from, to: from + count };
      rows.push(row);
      let end = 0;
      for (let i = from; i < row.to; i++) {
        start[i] += end;
        end = start[i] + duration[i];
        busy[i + 1] = busy[i] + duration[i];
      }
      from = row.to;
      return row;
    });
  });
  return {
    ...manifest,
    count: start.length,
    rows,
    start,
    duration,
    busy,
    name: read(manifest.columns.name),
    kind: read(manifest.columns.kind),
    correlation: read(manifest.columns.correlation),
    detail: read(manifest.columns.detail),
    sparse: manifest.sparse.map((one) => ({ ...one, at: read(one.at), value: read(one.value) })),
    charts: manifest.charts.map((chart) => ({
      ...chart,
      series: chart.series.map((series) => ({
        ...series,
        time: read(series.time),
        value: read(series.value),
      })),
    })),
  };
}
