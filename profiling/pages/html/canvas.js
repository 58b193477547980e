/* What every drawing on a canvas shares. `ratio` is device pixels per CSS pixel. */

const FAMILY = '-apple-system, "Segoe UI", Roboto, "Liberation Sans", Arial, sans-serif';

/* `size` in device pixels. */
export const labelFont = (size) => `${size}px ${FAMILY}`;

/* The thinnest line that is a whole number of device pixels. */
export const hairline = (ratio) => Math.max(1, Math.round(ratio));

export function clear(context, colours) {
  context.fillStyle = colours.paper;
  context.fillRect(0, 0, context.canvas.width, context.canvas.height);
}
