// SPDX-License-Identifier: GPL-2.0-or-later
// The table of call stacks: only the rows in sight are elements, however many there are.

const LINE = 24;
const PRINTED = 100;
const SPARE = 6;

class StackTable {
  /** `open(stack)` is called when a row is chosen. */
  constructor(place, stacks, open) {
    this.stacks = stacks;
    this.open = open;
    this.columns = tableColumns(stacks); // `value` to sort by, `show` as text or element; `text`: ascending at first
    this.sortedBy = this.columns.findIndex((column) => column.first);
    this.ascending = false;
    this.rows = new Uint32Array(0);
    this.current = 0;
    this.head = element("div", { role: "row", class: "row head" });
    this.spacer = element("div", { class: "spacer" });
    this.body = element(
      "div",
      { class: "rows", tabindex: 0, role: "rowgroup", "aria-label": "Call stacks", scroll: () => this.draw() },
      this.spacer,
    );
    this.grid = element("div", { role: "grid", "aria-readonly": "true", class: "grid" }, this.head, this.body);
    this.body.addEventListener("keydown", (event) => this._key(event));
    this.body.addEventListener("click", (event) => this._click(event));
    window.addEventListener("beforeprint", () => this.draw(PRINTED));
    window.addEventListener("afterprint", () => this.draw());
    new ResizeObserver(() => this.draw()).observe(this.body);
    place.replaceChildren(this.grid);
    this._drawHead();
  }

  /** Show those stacks of which it is true. */
  show(chosen) {
    this.rows = new Uint32Array(chosen.reduce((count, is) => count + is, 0));
    let place = 0;
    chosen.forEach((is, stack) => is && (this.rows[place++] = stack));
    this._sort();
    this.current = 0;
    this.body.scrollTop = 0;
    this.draw();
  }

  sort(column) {
    this.ascending = column === this.sortedBy ? !this.ascending : this.columns[column].text;
    this.sortedBy = column;
    this._drawHead();
    this._sort();
    this.draw();
  }

  _sort() {
    const { value } = this.columns[this.sortedBy];
    const sign = this.ascending ? 1 : -1;
    const values = Array.from(this.rows, (stack) => value(stack));
    const order = Uint32Array.from(values.keys());
    order.sort((a, b) => {
      if (values[a] === values[b]) return a - b;
      return values[a] < values[b] ? -sign : sign;
    });
    this.rows = order.map((place) => this.rows[place]);
  }

  _drawHead() {
    const cells = this.columns.map((column, number) => {
      const button = element(
        "button",
        { type: "button", title: column.meaning, click: () => this.sort(number) },
        column.name,
      );
      const sorted = number !== this.sortedBy ? "none" : this.ascending ? "ascending" : "descending";
      return element("div", { role: "columnheader", "aria-sort": sorted, class: column.class }, button);
    });
    const focused = [...this.head.children].findIndex((cell) => cell.contains(document.activeElement));
    this.head.replaceChildren(...cells);
    if (focused >= 0) cells[focused].firstChild.focus();
  }

  /** Make the rows in sight; `printed` of them from the top for paper. */
  draw(printed = 0) {
    const height = this.rows.length * LINE;
    this.spacer.style.height = `${printed ? Math.min(printed, this.rows.length) * LINE : height}px`;
    this.grid.setAttribute("aria-rowcount", this.rows.length + 1);
    const first = printed ? 0 : Math.max(Math.floor(this.body.scrollTop / LINE) - SPARE, 0);
    const many = printed || Math.ceil(this.body.clientHeight / LINE) + 2 * SPARE;
    const rows = [];
    for (let place = first; place < Math.min(first + many, this.rows.length); place++) rows.push(this._row(place));
    this.spacer.replaceChildren(...rows);
    this.body.setAttribute("aria-activedescendant", `row${this.current}`);
  }

  _row(place) {
    const stack = this.rows[place];
    const cells = this.columns.map((column) => {
      const shown = column.show(stack);
      return element("div", { role: "gridcell", class: column.class, title: column.text ? shown : null }, shown);
    });
    const row = element("div", { role: "row", class: "row", id: `row${place}`, "aria-rowindex": place + 2 }, cells);
    row.style.top = `${place * LINE}px`;
    if (place === this.current) row.classList.add("current");
    row.place = place;
    return row;
  }

  _click(event) {
    const row = event.target.closest(".row");
    if (!row) return;
    this._select(row.place);
    this.open(this.rows[row.place]);
  }

  _key(event) {
    const page = Math.max(Math.floor(this.body.clientHeight / LINE) - 1, 1);
    const step = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity }[
      event.key
    ];
    if (step !== undefined) this._select(this.current + step);
    else if (event.key === "Enter" && this.rows.length) this.open(this.rows[this.current]);
    else return;
    event.preventDefault();
  }

  _select(place) {
    this.current = Math.max(Math.min(place, this.rows.length - 1), 0);
    const top = this.current * LINE;
    const { scrollTop, clientHeight } = this.body;
    if (top < scrollTop) this.body.scrollTop = top;
    else if (top + LINE > scrollTop + clientHeight) this.body.scrollTop = top + LINE - clientHeight;
    this.draw();
  }
}

function whoAsked(stacks, stack) {
  const [requester, caller] = stacks.requesterAndCaller(stack);
  return stacks.functionName(requester) + (caller === null ? "" : ` ← ${stacks.functionName(caller)}`);
}

/** The columns that say what a stack is, whatever the page says of it. */
function originColumns(stacks) {
  const modules = stacks.innermostModules();
  return [
    {
      name: "asked for by",
      class: "name",
      text: true,
      meaning: "The function that wanted the memory, and its caller",
      value: (s) => stacks.title(s),
      show: (s) => whoAsked(stacks, s),
    },
    {
      name: "module",
      class: "wide",
      text: true,
      meaning: "The innermost module",
      value: (s) => stacks.strings[modules[s]],
      show: (s) => stacks.strings[modules[s]],
    },
    {
      name: "cache",
      class: "wide",
      text: true,
      meaning: "What it is allocated from",
      value: (s) => stacks.cache(s),
      show: (s) => stacks.cache(s),
    },
  ];
}
