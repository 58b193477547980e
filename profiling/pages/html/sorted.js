/* Sorted arrays: searching them, and sorting many integers. */

/* The first i in [from, to) with values[i] >= limit, else `to`. */
export function lowerBound(values, limit, from = 0, to = values.length) {
  let [low, high] = [from, to];
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (values[middle] < limit) low = middle + 1;
    else high = middle;
  }
  return low;
}

/* As lowerBound, but cheap when the answer is near `from`, as it is between one pixel and the next. */
export function gallop(values, limit, from, to) {
  let step = 1;
  let low = from;
  while (low + step < to && values[low + step] < limit) {
    low += step;
    step *= 2;
  }
  return lowerBound(values, limit, low, Math.min(low + step + 1, to));
}

/* Indices in order of start, equal starts in the order given; `indices` is overwritten. By least significant
   digits first: comparing 500,000 numbers takes ten times as long. */
export function byStart(indices, start) {
  let from = indices;
  let to = new Uint32Array(indices.length);
  const largest = indices.reduce((most, i) => Math.max(most, start[i]), 0);
  for (let scale = 1; scale <= largest; scale *= 65536) {
    const counts = new Uint32Array(65537);
    const digit = (i) => Math.floor(start[i] / scale) % 65536;
    for (const i of from) counts[digit(i) + 1]++;
    for (let d = 0; d < 65536; d++) counts[d + 1] += counts[d];
    for (const i of from) to[counts[digit(i)]++] = i;
    [from, to] = [to, from];
  }
  return from;
}
