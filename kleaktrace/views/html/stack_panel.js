// SPDX-License-Identifier: GPL-2.0-or-later
// All that is known of one call stack, beside the page.

class StackPanel {
  constructor(place, stacks) {
    this.place = place;
    this.stacks = stacks;
    this.before = null;
    place.addEventListener("keydown", (event) => {
      if (event.key === "Escape") this.close();
    });
  }

  open(stack) {
    if (this.place.hidden) this.before = document.activeElement;
    this.place.hidden = false; // what is hidden has no width
    const close = element(
      "button",
      { type: "button", class: "close", "aria-label": "Close", click: () => this.close() },
      "✕",
    );
    const heading = element("h2", { id: "panel-title" }, this.stacks.title(stack));
    this.place.replaceChildren(
      element("div", { class: "panel-head" }, heading, close),
      this._figures(stack),
      ...this._survival(stack),
      ...this._freeSites(stack),
      ...this._levels(stack),
      element("h3", {}, "Call stack"),
      element(
        "pre",
        { tabindex: 0 },
        this.stacks
          .frames(stack)
          .map((frame) => this.stacks.frameText(frame))
          .join("\n"),
      ),
    );
    this.place.scrollTop = 0;
    close.focus();
  }

  close() {
    this.place.hidden = true;
    this.before?.focus();
  }

  get _width() {
    return Math.max(this.place.clientWidth, 300) - 32;
  }

  _figures(stack) {
    const { objects, bytes, allocations, freed, oldest_ms: oldest } = this.stacks.columns;
    const facts = [
      ["verdict", chip(this.stacks, stack) || KIND_MEANING.alive],
      ["outstanding", `${plural(objects[stack], "object")}, ${sizeWords(bytes[stack])}`],
      ["oldest", objects[stack] ? timeWords(oldest[stack] / 1000) : ""],
      [
        "allocated",
        `${countWords(allocations[stack])}, ${rateWords(allocations[stack] / this.stacks.seconds)} a second`,
      ],
      ["freed", `${countWords(freed[stack])} (${shareWords(freed[stack] / Math.max(allocations[stack], 1))})`],
      ["cache", this.stacks.cache(stack)],
      ["context", this.stacks.context(stack)],
      ["task", this.stacks.comm(stack)],
    ].filter(([, value]) => value !== "");
    return element(
      "dl",
      {},
      facts.flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)]),
    );
  }

  _survival(stack) {
    const head = element("h3", {}, "How long its allocations live");
    const curve = this.stacks.curve(stack);
    if (!curve) {
      const words = `Only the first ${countWords(this.stacks.detailed)} stacks have curves in this file.`;
      return [head, element("p", { class: "meaning" }, words)];
    }
    const left = curve.shares.at(-1) ?? 1;
    const end = `${shareWords(left)} outlive ${timeWords(curve.end)}`;
    const words = `The share that outlives an age, those still alive counted in: ${end}.`;
    return [head, survivalChart(curve, this._width, 170), element("p", { class: "meaning" }, words)];
  }

  _freeSites(stack) {
    const sites = this.stacks.freeSites(stack);
    const head = element("h3", {}, "Where its siblings are freed");
    if (!sites.length) return [head, element("p", { class: "meaning" }, "No free of its allocations was seen.")];
    const rows = sites.map(([site, count]) =>
      element(
        "tr",
        {},
        element("td", { class: "number" }, countWords(count)),
        element("td", {}, element("code", {}, site)),
      ),
    );
    return [head, element("table", {}, element("tbody", {}, rows))];
  }

  _levels(stack) {
    const levels = this.stacks.levels(stack);
    if (!levels || this.stacks.times.length < 2) return [];
    const layer = { name: this.stacks.title(stack), levels, colour: "c0" };
    return [element("h3", {}, "Outstanding over time"), levelsChart(this.stacks.times, [layer], this._width, 140)];
  }
}
