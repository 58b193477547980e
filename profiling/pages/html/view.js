/* The window of time that a stage shows, as arithmetic. A view is { from, to }, in time since the chosen
   zero; `bounds` are the first and last moment that there is something to see. */

export const SHORTEST = 20; // ns: deeper zoom would show nothing but rounding

/* Everything, with a little room on both sides. */
export function wholeView([first, last]) {
  const margin = (last - first) * 0.01 || SHORTEST;
  return { from: first - margin, to: last + margin };
}

export function widestWindow([first, last]) {
  return (last - first) * 1.3 || SHORTEST * 2;
}

/* `factor` times as much time, with `at` staying where it is on the screen. */
export function zoomed(view, factor, at, bounds) {
  const window = view.to - view.from;
  const wanted = Math.min(Math.max(window * factor, SHORTEST), widestWindow(bounds));
  const share = (at - view.from) / window;
  return { from: at - share * wanted, to: at + (1 - share) * wanted };
}

export function panned(view, step) {
  return { from: view.from + step, to: view.to + step };
}

export function centred(middle, window) {
  return { from: middle - window / 2, to: middle + window / 2 };
}

/* Moved to where at least a tenth of it shows the trace; as wide as it was. */
export function kept({ from, to }, [first, last]) {
  const window = to - from;
  const moved = Math.min(Math.max(from, first - 0.9 * window), last - 0.1 * window);
  return { from: moved, to: moved + window };
}

/* The view in which a slice is large. */
export function viewOfSlice(start, duration) {
  return centred(start + duration / 2, Math.max(duration * 6, SHORTEST * 10));
}

/* The view nearest to this one in which a slice can be seen; `width` is that of the view in pixels. */
export function revealing(view, start, duration, width) {
  const window = view.to - view.from;
  const shown = (duration / window) * width;
  if (shown < 3) return centred(start, Math.max(duration * 60, SHORTEST));
  if (start + duration >= view.from && start <= view.to && shown <= width * 3) return view;
  return centred(start + duration / 2, Math.max(window, duration * 1.5));
}

/* t, or the nearer edge of a slice if that is within `near`. */
export function snapped(t, start, duration, near) {
  const end = start + duration;
  const edge = Math.abs(end - t) < Math.abs(start - t) ? end : start;
  return Math.abs(edge - t) <= near ? edge : t;
}
