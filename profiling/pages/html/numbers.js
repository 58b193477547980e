/* Numbers as a reader sees them: three significant digits, always with a unit. */

export function fixed(value, places) {
  const text = value.toLocaleString("en-US", {
    minimumFractionDigits: places,
    maximumFractionDigits: places,
  });
  return text.replace("-", "−");
}

export function significant(value, digits = 3) {
  if (value === 0) return "0";
  const size = Math.floor(Math.log10(Math.abs(Number(value.toPrecision(digits)))));
  return fixed(value, Math.min(Math.max(digits - 1 - size, 0), 12));
}

export function memory(bytes) {
  for (const [size, unit] of [
    [2 ** 40, "TiB"],
    [2 ** 30, "GiB"],
    [2 ** 20, "MiB"],
    [2 ** 10, "KiB"],
  ]) {
    if (Math.abs(bytes) >= size) return `${significant(bytes / size)} ${unit}`;
  }
  return `${significant(bytes)} B`;
}

export function quantity(value, unit) {
  return unit === "bytes" ? memory(value) : `${significant(value)}${unit ? ` ${unit}` : ""}`;
}

/* With commas between thousands. */
export const integer = (number) => number.toLocaleString("en-US");
export const count = (number, word) => `${integer(number)} ${word}${number === 1 ? "" : "s"}`;
export const percent = (share) => `${significant(100 * share)} %`;
