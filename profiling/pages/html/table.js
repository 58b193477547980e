/* A table whose columns sort. */

import { element, swatch } from "./dom.js";
import { integer } from "./numbers.js";

const FIRST_ROWS = 60;

/* A row is { cells, title, fill, action, className }; a cell is [text or node, value to sort by]. */
export class SortableTable {
  constructor(table, columns, sorted) {
    this.table = table;
    this.sorted = sorted; // column, negative direction is descending
    this.direction = -1;
    this.all = false;
    this.rows = [];
    const head = element("tr");
    columns.forEach(({ label, number, title }, column) => {
      const button = element("button", { type: "button" }, label);
      if (title) button.title = title;
      const header = element("th", { scope: "col", className: number ? "number" : "" }, button);
      button.addEventListener("click", () => {
        this.direction = this.sorted === column ? -this.direction : number ? -1 : 1;
        this.sorted = column;
        this.render();
      });
      head.append(header);
    });
    this.columns = columns;
    this.body = element("tbody");
    this.more = element("button", { type: "button", hidden: true });
    this.more.addEventListener("click", () => {
      this.all = true;
      this.render();
    });
    table.replaceChildren(element("thead", {}, head), this.body);
    table.parentElement.after(this.more);
  }

  set(rows) {
    this.rows = rows;
    this.render();
  }

  render() {
    const c = this.sorted;
    const ordered = [...this.rows].sort((a, b) => {
      const [x, y] = [a.cells[c][1], b.cells[c][1]];
      return this.direction * (typeof x === "string" ? x.localeCompare(y) : x - y);
    });
    [...this.table.tHead.rows[0].cells].forEach((header, i) => {
      if (i === c) header.setAttribute("aria-sort", this.direction < 0 ? "descending" : "ascending");
      else header.removeAttribute("aria-sort");
    });
    const shown = this.all ? ordered : ordered.slice(0, FIRST_ROWS);
    this.body.replaceChildren(
      ...shown.map((row) => {
        const made = element("tr", { className: row.className || "" });
        row.cells.forEach(([content], i) => {
          const cell = element(i === 0 ? "th" : "td", { className: this.columns[i].number ? "number" : "" });
          if (i === 0) {
            cell.scope = "row";
            const button = element("button", { type: "button", title: row.title || "" });
            button.append(swatch(row.fill), element("span", {}, content));
            button.addEventListener("click", row.action);
            cell.append(button);
          } else {
            cell.append(content);
          }
          made.append(cell);
        });
        return made;
      }),
    );
    this.more.hidden = shown.length === ordered.length;
    this.more.textContent = `Show all ${integer(ordered.length)}`;
  }
}
