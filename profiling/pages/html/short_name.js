/* The part of a kernel's name that fits on a slice. */

const known = new Map();

/* A kernel's own name, without return type, namespaces and arguments. */
export function shortName(name) {
  let made = known.get(name);
  if (made === undefined) {
    made = shorten(name) || name;
    known.set(name, made);
  }
  return made;
}

function shorten(name) {
  const whole = name.replace(/\(anonymous namespace\)::/g, "").replace(/^void /, "");
  if (!/^[\w:~ ]+[<(]/.test(whole) || !whole.includes("::")) return whole;
  const bare = whole.replace(/\b(?:[A-Za-z_]\w*::)+(?=[\w~])/g, "");
  // Arguments follow the last template bracket at depth zero.
  let depth = 0;
  for (let i = 0; i < bare.length; i++) {
    const c = bare[i];
    if (c === "<") depth++;
    else if (c === ">") depth--;
    else if (c === "(" && depth === 0 && i > 0) return bare.slice(0, i);
  }
  return bare;
}
