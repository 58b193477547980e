/* Numbers as a reader sees them: three significant digits, always with a unit. */

const UNITS = {
  ns: [[1e9, "s"], [1e6, "ms"], [1e3, "µs"], [1, "ns"]],
  cycles: [[1e9, "Gcycles"], [1e6, "Mcycles"], [1e3, "kcycles"], [1, "cycles"]], // of a static plan
};
let TIME_UNITS = UNITS.ns; // one for the whole page: `open` chooses

function fixed(value, places) {
  const text = value.toLocaleString("en-US", { minimumFractionDigits: places, maximumFractionDigits: places });
  return text.replace("-", "−");
}

function significant(value, digits = 3) {
  if (value === 0) return "0";
  const size = Math.floor(Math.log10(Math.abs(Number(value.toPrecision(digits)))));
  return fixed(value, Math.min(Math.max(digits - 1 - size, 0), 12));
}

function time(ns, digits = 3) {
  const [size, unit] = TIME_UNITS.find(([size]) => Math.abs(ns) >= size * 0.9995) || TIME_UNITS[3];
  return `${significant(ns / size, digits)} ${unit}`;
}

/* A point in time, with as many digits as the window shown can tell apart. */
function moment(ns, window) {
  const [size, unit] = TIME_UNITS.find(([size]) => Math.max(Math.abs(ns), 1) >= size) || TIME_UNITS[3];
  const step = Math.max(window / 2000, 1) / size;
  const places = Math.min(Math.max(Math.ceil(-Math.log10(step)), 0), 9);
  return `${fixed(ns / size, places)} ${unit}`;
}

function memory(bytes) {
  for (const [size, unit] of [[2 ** 40, "TiB"], [2 ** 30, "GiB"], [2 ** 20, "MiB"], [2 ** 10, "KiB"]]) {
    if (Math.abs(bytes) >= size) return `${significant(bytes / size)} ${unit}`;
  }
  return `${significant(bytes)} B`;
}

function quantity(value, unit) {
  return unit === "bytes" ? memory(value) : `${significant(value)}${unit ? ` ${unit}` : ""}`;
}

const count = (number, word) => `${number.toLocaleString("en-US")} ${word}${number === 1 ? "" : "s"}`;
const percent = (share) => `${significant(100 * share)} %`;

/* What fits on a slice: a kernel's own name, without return type, namespaces and arguments. */
const shortNames = new Map();
function short(name) {
  let made = shortNames.get(name);
  if (made === undefined) {
    made = name.replace(/\(anonymous namespace\)::/g, "").replace(/^void /, "");
    if (/^[\w:~ ]+[<(]/.test(made) && made.includes("::")) {
      made = made.replace(/\b(?:[A-Za-z_]\w*::)+(?=[\w~])/g, "");
      // Arguments follow the last template bracket at depth zero.
      let depth = 0;
      for (let i = 0; i < made.length; i++) {
        const c = made[i];
        if (c === "<") depth++;
        else if (c === ">") depth--;
        else if (c === "(" && depth === 0 && i > 0) { made = made.slice(0, i); break; }
      }
    }
    shortNames.set(name, made || name);
  }
  return made || name;
}

function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [key, value] of Object.entries(properties)) {
    if (key in made) made[key] = value;
    else made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}
