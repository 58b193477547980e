/* What the mouse and fingers do on a stage: wheel, drag, pinch, click, and the strip above the ticks. */

import { describeChart, describeSlice, seriesFacts } from "./describe.js";
import { OVERVIEW } from "./lane_layout.js";
import { centred, panned } from "./view.js";

const CLICK = 4; // CSS pixels a pointer may move and still have clicked
const MOST_CHARTS = 3; // whose values stand with a slice that is pointed at

/* What is going on between a pointer's press and its release, on the plot or on the charts. */
class Gesture {
  pointers = new Map(); // those pressed, each where it is
  spread = 0; // distance of two fingers
  drag = null; // of the pointer pressed last: where it began, whether it moved, from when it measures
}

export function listenToPointer(stage) {
  listenToWheel(stage);
  const gesture = new Gesture();
  for (const surface of [stage.plot, stage.chart]) listenToDrags(stage, surface, gesture);
  stage.plot.addEventListener("dblclick", (event) => {
    const i = stage.hit(...placeOf(stage, event));
    if (i >= 0) stage.showSlice(i);
    else stage.showAll();
  });
  listenToOverview(stage);
}

/* Where an event is on the plot, in CSS pixels. */
function placeOf(stage, event) {
  const box = stage.plot.getBoundingClientRect();
  return [event.clientX - box.left, event.clientY - box.top];
}

function listenToWheel(stage) {
  const { app } = stage;
  const wheel = (event) => {
    if (app.scrollingPage() || event.altKey) return; // a page being scrolled past must not be caught here
    event.preventDefault();
    app.wheeled();
    const unit = event.deltaMode === 1 ? 16 : event.deltaMode === 2 ? 400 : 1;
    const [dx, dy] = [event.deltaX * unit, event.deltaY * unit];
    if (event.shiftKey && !event.ctrlKey) stage.pan(dx || dy);
    else if (Math.abs(dx) > Math.abs(dy)) stage.pan(dx);
    else {
      const speed = event.ctrlKey ? 0.008 : 0.0022;
      stage.zoom(Math.exp(Math.max(Math.min(dy, 240), -240) * speed), placeOf(stage, event)[0]);
    }
  };
  for (const surface of [stage.plot, stage.axis, stage.chart]) {
    surface.addEventListener("wheel", wheel, { passive: false });
  }
}

function listenToDrags(stage, surface, gesture) {
  const { app, plot } = stage;
  const { pointers } = gesture;
  surface.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    surface.setPointerCapture(event.pointerId);
    const [x, y] = placeOf(stage, event);
    pointers.set(event.pointerId, [x, y]);
    gesture.drag = { x, y, moved: false, measuredFrom: event.shiftKey ? stage.snap(x, y) : null };
    if (pointers.size === 2) gesture.spread = distance(pointers);
    app.focus(stage);
  });
  surface.addEventListener("pointermove", (event) => {
    const [x, y] = placeOf(stage, event);
    if (!pointers.has(event.pointerId)) {
      if (event.pointerType !== "touch") point(stage, x, y, event);
      return;
    }
    const { drag } = gesture;
    const [px, py] = pointers.get(event.pointerId);
    pointers.set(event.pointerId, [x, y]);
    if (pointers.size === 2) {
      const now = distance(pointers);
      const middle = [...pointers.values()].reduce((sum, [one]) => sum + one / 2, 0);
      if (gesture.spread > 8 && now > 8) stage.zoom(gesture.spread / now, middle);
      stage.pan((px - x) / 2);
      gesture.spread = now;
      drag.moved = true;
      return;
    }
    if (Math.hypot(x - drag.x, y - drag.y) > CLICK) drag.moved = true;
    if (!drag.moved) return;
    app.hideDetails();
    if (drag.measuredFrom !== null) {
      app.setMeasure(stage, drag.measuredFrom, stage.snap(x, y));
      return;
    }
    plot.classList.add("dragging");
    stage.pan(px - x);
    if (event.pointerType !== "touch" && surface === plot) stage.scroller.scrollTop += py - y;
  });
  const up = (event) => {
    if (!pointers.delete(event.pointerId)) return;
    plot.classList.remove("dragging");
    const { drag } = gesture;
    if (event.type === "pointerup" && drag && !drag.moved && pointers.size === 0) {
      const [x, y] = placeOf(stage, event);
      if (app.measuring || event.shiftKey) app.measurePoint(stage, stage.snap(x, y));
      else if (surface === plot) app.choose(stage, stage.hit(x, y));
      if (event.pointerType === "touch") point(stage, x, y, event);
    }
    if (pointers.size === 1) drag.moved = true;
  };
  surface.addEventListener("pointerup", up);
  surface.addEventListener("pointercancel", up);
  surface.addEventListener("pointerleave", () => {
    stage.hover = -1;
    stage.pointer = app.crossAt = null;
    app.hideDetails();
    app.drawMarks();
  });
}

function distance(pointers) {
  const [[x0, y0], [x1, y1]] = [...pointers.values()];
  return Math.hypot(x1 - x0, y1 - y0);
}

/* On the strip of the whole trace a drag moves the window, and one beside the window brings it there. */
function listenToOverview(stage) {
  const { axis, app } = stage;
  let last = null;
  const span = () => stage.overview.to - stage.overview.from;
  axis.addEventListener("pointerdown", (event) => {
    axis.setPointerCapture(event.pointerId);
    app.focus(stage);
    const box = axis.getBoundingClientRect();
    last = { x: event.clientX, strip: event.clientY - box.top < OVERVIEW };
    if (!last.strip) return;
    const t = stage.overview.from + ((event.clientX - box.left) / stage.width) * span() - stage.zero;
    const { from, to } = stage.view;
    if (t < from || t > to) stage.show(centred(t, to - from));
  });
  axis.addEventListener("pointermove", (event) => {
    if (!last) return;
    const step = event.clientX - last.x;
    last.x = event.clientX;
    if (last.strip) stage.show(panned(stage.view, (step / stage.width) * span()));
    else stage.pan(-step);
  });
  const end = () => {
    last = null;
  };
  for (const name of ["pointerup", "pointercancel"]) axis.addEventListener(name, end);
}

/* The pointer is at (x, y): the line there, the slice under it, and the details beside it. */
function point(stage, x, y, event) {
  const { app, timeline } = stage;
  stage.pointer = app.measuring ? stage.snap(x, y) : stage.timeAt(x);
  app.crossAt = { stage, since: stage.pointer - stage.zero };
  const onLanes = event.currentTarget === stage.plot || event.type === "pointerup";
  stage.hover = onLanes ? stage.hit(x, y) : -1;
  if (stage.hover >= 0) {
    const described = describeSlice(timeline, stage.hover, stage.zero);
    for (const chart of timeline.charts.slice(0, MOST_CHARTS)) {
      described.facts.push(...seriesFacts(chart, stage.pointer, chart.name));
    }
    app.showDetails(described, event.clientX, event.clientY);
  } else if (onLanes) {
    app.hideDetails();
  } else {
    const at = event.clientY - stage.chart.getBoundingClientRect().top;
    const band = stage.chartBands.find((one) => at >= one.y && at < one.y + one.height);
    const window = stage.end - stage.start;
    const described = band && describeChart(band.chart, stage.pointer, stage.zero, window);
    if (described) app.showDetails(described, event.clientX, event.clientY);
    else app.hideDetails();
  }
  app.drawMarks();
}
