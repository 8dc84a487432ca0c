// SPDX-License-Identifier: GPL-2.0-or-later
// The page: what the reader has chosen, and everything that shows it.

class StackPage {
  constructor(stacks) {
    this.stacks = stacks;
    this.measure = stacks.measures[0];
    this.kinds = new Set(KINDS.keys());
    this.module = "";
    this.query = "";
    this.only = ""; // the query that was entered: the flame graph shows nothing else then
    this.inverted = false;
    this.panel = new PagePanel(byId("panel"), stacks);
    this.flame = new FlameGraph(byId("flame"), (node) => this._nodeWords(node), {
      told: (node) => this._tell(node),
      zoomed: (node) => this._zoomed(node),
    });
    this.table = new StackTable(byId("table"), stacks, (stack) => this.panel.open(stack));
    this._controls();
    this._drawTree();
    if (byId("timeline")) new ResizeObserver(() => this._drawTimeline()).observe(byId("timeline"));
  }

  // What the reader chooses

  _controls() {
    const search = byId("search");
    search.addEventListener("input", () => this._search(search.value.trim()));
    search.addEventListener("keydown", (event) => this._searchKey(event));
    byId("controls").addEventListener("submit", (event) => event.preventDefault());
    byId("module").append(...this._modules().map((name) => element("option", { value: name }, name)));
    byId("module").addEventListener("change", (event) => this._set({ module: event.target.value }));
    byId("invert").addEventListener("change", (event) => this._set({ inverted: event.target.checked }));
    byId("zoom-out").addEventListener("click", () => this.flame.zoomOut());
    byId("measures").append(...this.stacks.measures.map((measure, i) => this._measureChoice(measure, i)));
    byId("kinds").append(...[...KINDS.keys()].map((kind) => this._kindChoice(kind)));
    document.addEventListener("keydown", (event) => this._key(event));
    for (const button of document.querySelectorAll("button.show")) {
      button.addEventListener("click", () => this.panel.open(Number(button.dataset.stack)));
    }
  }

  _measureChoice(measure, i) {
    const change = () => this._set({ measure });
    return element(
      "label",
      {},
      element("input", { type: "radio", name: "measure", value: measure.name, checked: i === 0, change }),
      measure.name,
    );
  }

  _kindChoice(kind) {
    const change = (event) => {
      if (event.target.checked) this.kinds.add(kind);
      else this.kinds.delete(kind);
      this._set({});
    };
    const box = element("input", { type: "checkbox", checked: true, value: KINDS[kind], change });
    return element(
      "label",
      { title: KIND_MEANING[KINDS[kind]] },
      box,
      element("span", { class: `chip ${KINDS[kind]}` }, KIND_WORDS[kind]),
    );
  }

  _modules() {
    const strings = this.stacks.strings;
    return [...new Set(this.stacks.columns.frame_module)]
      .map((number) => strings[number])
      .filter(Boolean)
      .sort();
  }

  _key(event) {
    const typing = event.target.matches("input[type=search], select");
    if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "/") byId("search").focus();
    else if (event.key === "i") byId("invert").click();
    else if (event.key === "Escape" && !byId("panel").hidden) this.panel.close();
    else if (event.key === "Escape") this.flame.zoomOut();
    else return;
    event.preventDefault();
  }

  _set(chosen) {
    const turned = chosen.inverted !== undefined;
    Object.assign(this, chosen);
    this._drawTree(turned ? [] : this.flame.focus.path());
  }

  _searchKey(event) {
    if (event.key === "Escape") event.target.blur();
    else if (event.key === "Enter") this._set({ only: this.query });
  }

  _search(query) {
    this.query = query;
    if (this.only) {
      this._set({ only: "" });
      return;
    }
    this.flame.show(this.flame.root, this.flame.focus, this._finder());
    this._drawList();
  }

  // What shows it

  _drawTree(path = []) {
    this.shown = this.stacks.matching(this.stacks.shown(this.kinds, this.module), this.only);
    const Tree = this.inverted ? FromAllocator : FromCaller;
    const root = Tree.root(this.stacks, this.stacks.parts(this.measure), this.shown);
    this.flame.show(root, root.at(path), this._finder());
    this._drawList();
  }

  _finder() {
    if (!this.query) return null;
    const wanted = this.query.toLowerCase();
    return (node) => node.name.toLowerCase().includes(wanted);
  }

  /** The stacks that are left of all that is chosen: those below the zoom, shown, and found. */
  _drawList() {
    const focus = this.flame.focus;
    const within = focus.parent ? focus.stacks() : null;
    const matching = this.stacks.matching(this.shown, this.query);
    this.chosen = within ? matching.map((is, stack) => is & within[stack]) : matching;
    this.table.show(this.chosen);
    this._drawTimeline();
    this._status();
    byId("zoom-out").disabled = !focus.parent;
    this._tell(focus);
  }

  _status() {
    const values = this.stacks.values(this.measure);
    let count = 0;
    let sum = 0;
    let all = 0;
    this.chosen.forEach((is, stack) => {
      count += is;
      sum += is * values[stack];
      all += values[stack];
    });
    const share = all ? ` (${shareWords(sum / all)})` : "";
    const of = count === this.stacks.count ? "" : ` of ${countWords(this.stacks.count)}`;
    const words = this.stacks.words(this.measure, sum);
    byId("status").textContent = this.stacks.count
      ? `${countWords(count)}${of} call stack${this.stacks.count === 1 ? "" : "s"}, ${words}${of ? share : ""}`
      : NOTHING;
  }

  _nodeWords(node) {
    const share = this.flame.root?.total ? `, ${shareWords(node.total / this.flame.root.total)}` : "";
    return this.stacks.words(this.measure, node.total) + share;
  }

  _tell(node) {
    const parts = [...KINDS.keys()].filter((kind) => kind !== KINDS.length - 1 && node.weights[kind]);
    const of = parts.map((kind) => `${KIND_WORDS[kind]} ${this.stacks.words(this.measure, node.weights[kind])}`);
    byId("frame-words").textContent = node.total ? [`${node.name}: ${this._nodeWords(node)}`, ...of].join("; ") : "";
  }

  _zoomed(node) {
    this._drawList();
    if (node.children().length) return;
    const only = this.chosen.indexOf(1);
    if (only >= 0 && this.chosen.indexOf(1, only + 1) < 0) this.panel.open(only);
  }

  _drawTimeline() {
    const place = byId("timeline");
    if (!place) return;
    const { times, withLevels } = this.stacks;
    if (times.length < 2) {
      place.replaceChildren(element("p", { class: "meaning" }, "There are not enough samples to draw."));
      return;
    }
    const layers = this._layers(withLevels);
    const chart = levelsChart(times, layers, Math.max(place.clientWidth, 300), 220);
    const legend = layers.map((layer) => {
      const mark = element("span", { class: `mark ${layer.colour}` });
      if (layer.stack === undefined) return element("li", {}, mark, layer.name);
      return element(
        "li",
        {},
        element("button", { type: "button", click: () => this.panel.open(layer.stack) }, mark, layer.name),
      );
    });
    place.replaceChildren(chart, element("ul", { class: "legend" }, legend));
  }

  /** The stacks chosen that hold most, and all others of them together. */
  _layers(withLevels) {
    const chosen = [];
    for (let stack = 0; stack < withLevels; stack++) if (this.chosen[stack]) chosen.push(stack);
    const bytes = this.stacks.columns.bytes;
    const most = chosen
      .slice()
      .sort((a, b) => bytes[b] - bytes[a])
      .slice(0, COLOURS);
    const layers = most.map((stack, i) => ({
      name: this.stacks.title(stack),
      levels: this.stacks.levels(stack),
      colour: `c${i}`,
      stack,
    }));
    const others = this._others(chosen, new Set(most), layers);
    if (others) layers.push({ name: this._othersName(), levels: others, colour: "others" });
    return layers;
  }

  _othersName() {
    const { count, withLevels } = this.stacks;
    const some = withLevels < count && !this.chosen.every((is) => is);
    return some ? `all others of the first ${countWords(withLevels)}` : "all others";
  }

  _others(chosen, known, layers) {
    const everything = this.chosen.every((is) => is);
    if (!everything && chosen.length <= known.size) return null;
    if (everything) {
      if (this.stacks.count <= known.size) return null;
      return Float64Array.from(this.stacks.columns.all_levels, (all, i) =>
        layers.reduce((rest, layer) => rest - layer.levels[i], all),
      );
    }
    const sums = new Float64Array(this.stacks.times.length);
    for (const stack of chosen) {
      if (!known.has(stack)) this.stacks.levels(stack).forEach((level, i) => (sums[i] += level));
    }
    return sums;
  }
}

async function main() {
  if (!("DecompressionStream" in window)) throw new Error("this browser is too old to unpack the report");
  const stacks = new PageStacks(await unpack(byId("stack-data").textContent));
  new StackPage(stacks);
  document.documentElement.dataset.ready = "yes";
  performance.mark("kleaktrace-ready");
}

main().catch((error) => {
  document.documentElement.dataset.ready = "no";
  byId("status").textContent = `The call stacks cannot be shown: ${error.message}`;
  console.error(error);
});
