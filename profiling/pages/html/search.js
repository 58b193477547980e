/* Search by name: part of it in any case, or a regular expression between slashes. */

function matcher(text) {
  const expression = /^\/(.+)\/$/.exec(text);
  if (expression) {
    const pattern = new RegExp(expression[1], "i");
    return (name) => pattern.test(name);
  }
  const wanted = text.toLowerCase();
  return (name) => name.toLowerCase().includes(wanted);
}

/* The hits of one timeline: how many lie before each slice, so that a pixel knows at once whether it hides one, and
   which they are in order of start. */
function searchIn(timeline, matches) {
  const named = Uint8Array.from(timeline.names, (name) => matches(name));
  const before = new Uint32Array(timeline.count + 1);
  for (let i = 0; i < timeline.count; i++) before[i + 1] = before[i] + named[timeline.name[i]];
  const hits = new Uint32Array(before[timeline.count]);
  for (let i = 0; i < timeline.count; i++) if (before[i + 1] > before[i]) hits[before[i]] = i;
  return { before, hits: byStart(hits, timeline.start) };
}
