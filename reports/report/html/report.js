"use strict";
(() => {
  const dataOf = (page) => JSON.parse(page.getElementById("data").textContent);
  let data = dataOf(document);
  const { pages } = data;
  const root = document.documentElement;
  const element = (tag, properties = {}, ...children) => {
    const made = Object.assign(document.createElement(tag), properties);
    made.append(...children);
    return made;
  };

  function theme() {
    const button = document.getElementById("theme");
    const system = matchMedia("(prefers-color-scheme: dark)");
    const asked = new URLSearchParams(location.search).get("theme");
    if (asked === "light" || asked === "dark") root.dataset.theme = asked;
    const dark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);
    const label = () => {
      button.textContent = dark() ? "Light" : "Dark";
    };
    button.addEventListener("click", () => {
      root.dataset.theme = dark() ? "light" : "dark";
      label();
    });
    system.addEventListener("change", label);
    label();
    button.hidden = false;
  }

  /* Repeating a case's name on each of its lines makes a table hard to scan: mark it so that only the first
     shows. */
  function markRepeats(rows) {
    let before = null;
    for (const row of rows) {
      const name = row.querySelector("th");
      name.classList.toggle("same", name.textContent === before);
      before = name.textContent;
    }
  }

  function forest() {
    const table = document.getElementById("forest");
    const form = document.getElementById("filters");
    const output = form.querySelector("output");
    const cases = [...table.querySelectorAll("tr.case")];
    const means = [...table.querySelectorAll("tr.mean")];
    const filters = [...form.elements].filter((e) => e.name && !["group", "order"].includes(e.name));
    const dtype = form.elements.namedItem("dtype");

    function arrange() {
      const group = form.elements.namedItem("group").value;
      const byValue = form.elements.namedItem("order").value === "value";
      const passes = (row, ignored) =>
        filters.every((f) => f.name === ignored || !f.value || row.dataset[f.name] === f.value);
      for (const row of cases) row.hidden = !passes(row);
      for (const row of means) {
        // A mean is over all dtypes or one: show those that match the cases shown.
        row.hidden = !passes(row, "dtype") || row.dataset.dtype !== (dtype ? dtype.value : "");
      }
      const bodies = new Map();
      const ordered = byValue ? [...cases].sort((a, b) => b.dataset.value - a.dataset.value) : cases;
      for (const name of [...new Set(cases.map((row) => row.dataset[group]))]) {
        const heading = element(
          "tr",
          { className: "heading" },
          element("th", { colSpan: 4, scope: "rowgroup" }, name),
        );
        bodies.set(name, element("tbody", { className: "cases" }, heading));
      }
      for (const row of ordered) bodies.get(row.dataset[group]).append(row);
      for (const body of table.querySelectorAll("tbody.cases")) body.remove();
      for (const body of bodies.values()) {
        const shown = [...body.querySelectorAll("tr.case")].filter((row) => !row.hidden);
        body.hidden = shown.length === 0;
        table.append(body);
        markRepeats(shown);
      }
      markRepeats(means.filter((row) => !row.hidden));
      table.classList.toggle("by-implementation", group !== "operator");
      const shown = cases.filter((row) => !row.hidden).length;
      output.textContent = `${shown} of ${cases.length} comparisons`;
    }

    form.addEventListener("change", arrange);
    form.addEventListener("submit", (event) => event.preventDefault());
    form.hidden = cases.length === 0;
    arrange();
    details(table);
  }

  function details(table) {
    const panel = document.getElementById("details");
    const rowOf = (event) => event.target.closest?.("tr[data-id]");
    function show(row, x, y) {
      const [[title, compared], ...facts] = data.details[row.dataset.id];
      const list = element("dl");
      for (const [label, value] of facts) list.append(element("dt", {}, label), element("dd", {}, value));
      panel.replaceChildren(element("p", {}, title), element("p", { className: "soft" }, compared), list);
      panel.hidden = false;
      const { width, height } = panel.getBoundingClientRect();
      panel.style.left = `${Math.max(8, Math.min(x + 16, innerWidth - width - 8))}px`;
      panel.style.top = `${y + 20 + height > innerHeight ? Math.max(8, y - height - 14) : y + 20}px`;
    }
    const hide = () => {
      panel.hidden = true;
    };
    table.addEventListener("pointermove", (event) => {
      const row = rowOf(event);
      if (row) show(row, event.clientX, event.clientY);
      else hide();
    });
    table.addEventListener("pointerleave", hide);
    table.addEventListener("focusin", (event) => {
      const row = rowOf(event);
      if (!row?.matches(":focus-visible")) return;
      const field = row.querySelector(".field").getBoundingClientRect();
      show(row, field.left, field.top);
    });
    table.addEventListener("focusout", hide);
    document.onkeydown = (event) => {
      if (event.key === "Escape") hide();
    };
  }

  function sortable(table) {
    const body = table.tBodies[0];
    const key = (row, column) => {
      const cell = row.cells[column];
      if (!cell || cell.colSpan > 1) return "";
      return "value" in cell.dataset ? cell.dataset.value : cell.textContent;
    };
    const number = (text) => (text === "inf" ? Infinity : Number(text));
    [...table.tHead.rows[0].cells].forEach((header, column) => {
      const button = element("button", { type: "button" }, ...header.childNodes);
      header.append(button);
      button.addEventListener("click", () => {
        const descending = header.getAttribute("aria-sort") === "ascending";
        for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
        header.setAttribute("aria-sort", descending ? "descending" : "ascending");
        const numeric = header.classList.contains("number");
        const rows = [...body.rows].map((row) => [key(row, column), row]);
        rows.sort(([a], [b]) => {
          // What has no value stays at the end either way.
          if (a === "" || b === "") return (a === "") - (b === "");
          const order = numeric ? number(a) - number(b) : a.localeCompare(b, undefined, { numeric: true });
          return descending ? -order : order;
        });
        body.append(...rows.map(([, row]) => row));
        markRepeats(body.rows);
      });
    });
    markRepeats(body.rows);
  }

  function replicates() {
    const select = document.getElementById("comparison");
    if (!select) return;
    const table = document.getElementById("strip");
    const template = table.tBodies[0].rows[0].cloneNode(true);
    const axis = table.tHead.querySelector(".axis");
    const tick = axis.querySelector("text");
    const set = (node, attributes) => {
      for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    };
    select.addEventListener("change", () => {
      const strip = data.strips[select.value];
      axis.replaceChildren(
        ...strip.ticks.map(([x, label]) => {
          const text = tick.cloneNode();
          text.textContent = label;
          set(text, { x: `${x}%` });
          return text;
        }),
      );
      table.tBodies[0].replaceChildren(
        ...strip.lines.map((line) => {
          const row = template.cloneNode(true);
          row.className = line.rug ? "" : "estimate";
          row.cells[0].textContent = line.name;
          row.cells[2].textContent = line.text;
          set(row.querySelector(".interval"), { x1: `${line.low}%`, x2: `${line.high}%` });
          set(row.querySelector(".rug"), { d: line.rug });
          set(row.querySelector(".call"), { cx: `${line.x}%` });
          return row;
        }),
      );
    });
    select.disabled = false;
  }

  async function inflated(text) {
    const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new Response(stream).text();
  }

  /* Every baseline has a page of its own, as Python computed and wrote it: the chosen one takes the place of
     what is shown. */
  function baselines() {
    const line = document.getElementById("against");
    if (!line) return;
    const select = line.querySelector("select");
    const output = line.querySelector("output");
    if (!("DecompressionStream" in window)) {
      line.hidden = false;
      select.disabled = true;
      output.textContent =
        "To choose another, this browser is too old (it needs Chrome 80, Firefox 113, Safari 16.4 or newer).";
      return;
    }
    select.addEventListener("change", async () => {
      const name = select.value;
      const text = await inflated(pages[name]);
      if (select.value !== name) return; // another was chosen meanwhile
      const page = new DOMParser().parseFromString(text, "text/html");
      data = dataOf(page);
      for (const which of ["main", "#axes"]) {
        document.querySelector(which).replaceWith(document.adoptNode(page.querySelector(which)));
      }
      arrange();
    });
    line.hidden = false;
  }

  function arrange() {
    forest();
    document.querySelectorAll("table.sortable").forEach(sortable);
    replicates();
  }

  theme();
  baselines();
  arrange();
})();
