/* The part of a timeline that a table is about, as its choice "Over" names it. */

import { touches } from "./slices.js";

/* [from, to] in time of the stage's timeline. `scope`: "all", "window", "measured" or "call". */
export function scopeOf(stage, scope) {
  if (scope === "window") return [stage.start, stage.end];
  if (scope === "measured" && stage.interval) return stage.interval;
  if (scope === "call" && stage.call) return stage.call;
  return [0, stage.timeline.span + 1];
}

/* Whether slice i lies in it, wholly or partly. */
export function within(stage, i, scope) {
  const { start, duration } = stage.timeline;
  return touches(start[i], duration[i], ...scopeOf(stage, scope));
}
