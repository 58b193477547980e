/* The keyboard: what each key does to the current stage. */

import { byId } from "./dom.js";

export function listenToKeys(app) {
  const held = new Set();
  let last = 0;
  // A held key moves steadily, frame by frame, not in the jumps of the keyboard's own repetition.
  const move = (now) => {
    if (!held.size) return;
    const passed = Math.min(now - last, 50) / 1000;
    last = now;
    const stage = app.current;
    if (held.has("w")) stage.zoom(Math.exp(-2.4 * passed));
    if (held.has("s")) stage.zoom(Math.exp(2.4 * passed));
    if (held.has("a")) stage.pan(-1.1 * stage.width * passed);
    if (held.has("d")) stage.pan(1.1 * stage.width * passed);
    requestAnimationFrame(move);
  };
  addEventListener("keydown", (event) => {
    if (event.target.closest("input, select, textarea") || event.ctrlKey || event.metaKey || event.altKey)
      return;
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const stage = app.current;
    if ("wasd".includes(key)) {
      if (!held.size) {
        last = performance.now() - 16; // a tap moves by a frame at least
        requestAnimationFrame(move);
      }
      held.add(key);
    } else if (key === "/") {
      byId("search").focus();
    } else if (key === "m") {
      app.setMeasuring(!app.measuring);
    } else if (key === "f") {
      if (stage.selected >= 0) stage.showSlice(stage.selected);
    } else if (key === "0" || key === "Home") {
      if (key === "Home" && !event.target.closest(".scroller")) return;
      stage.showAll();
    } else if (key === "+" || key === "-") {
      stage.zoom(key === "+" ? 1 / 1.6 : 1.6);
    } else if (key === "n" || key === "N") {
      app.go(event.shiftKey ? -1 : 1);
    } else if (key === "Escape") {
      app.hideDetails();
      if (app.measure || app.pending || app.measuring) {
        app.measure = null;
        app.setMeasuring(false);
      } else {
        app.choose(stage, -1);
      }
      app.tables("measured");
    } else if (
      key.startsWith("Arrow") &&
      event.target.closest(".scroller") &&
      !event.target.closest("button")
    ) {
      const i = stage.neighbour(key);
      if (i >= 0) {
        app.choose(stage, i, true);
        stage.reveal(i);
        app.draw();
      }
    } else {
      return;
    }
    event.preventDefault();
  });
  addEventListener("keyup", (event) => held.delete(event.key.toLowerCase()));
  addEventListener("blur", () => held.clear());
}
