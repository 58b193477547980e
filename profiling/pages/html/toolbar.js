/* The toolbar above the timelines, and the button of the theme. */

import { Colours } from "./colours.js";
import { byId } from "./dom.js";
import { showLegend } from "./legend.js";

export function connectToolbar(app) {
  const input = byId("search");
  let typing = 0;
  input.addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(() => app.find(input.value.trim()), 80);
  });
  input.addEventListener("keydown", (event) => {
    if (event.key === "Enter") {
      event.preventDefault();
      clearTimeout(typing);
      if (app.hit < 0) app.find(input.value.trim());
      app.go(event.shiftKey ? -1 : 1);
    } else if (event.key === "Escape") {
      input.value = "";
      app.find("");
      app.current.scroller.focus();
    }
  });
  byId("previous").addEventListener("click", () => app.go(-1));
  byId("next").addEventListener("click", () => app.go(1));
  byId("in").addEventListener("click", () => app.current.zoom(1 / 1.6));
  byId("out").addEventListener("click", () => app.current.zoom(1.6));
  byId("all").addEventListener("click", () => app.current.showAll());
  byId("measure").addEventListener("click", () => app.setMeasuring(!app.measuring));
  const link = byId("link");
  for (const one of document.querySelectorAll(".several")) one.hidden = app.stages.length < 2;
  link.addEventListener("change", () => {
    app.linked = link.checked;
    app.measure = app.pending = null;
    if (app.linked) app.setView(app.current, app.current.view);
    app.panels();
    app.draw();
  });
  connectTheme(app, byId("theme"));
  byId("toolbar").addEventListener("submit", (event) => event.preventDefault());
  byId("toolbar").hidden = false;
}

function connectTheme(app, button) {
  const root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)");
  const dark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);
  const changed = () => {
    button.textContent = dark() ? "Light" : "Dark";
    app.colours = new Colours(app.kindNames);
    if (app.kernels) {
      showLegend(app);
      app.tables();
    }
    app.draw();
  };
  button.addEventListener("click", () => {
    root.dataset.theme = dark() ? "light" : "dark";
    changed();
  });
  system.addEventListener("change", changed);
  button.textContent = dark() ? "Light" : "Dark";
  button.hidden = false;
}
