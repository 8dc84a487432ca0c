// SPDX-License-Identifier: GPL-2.0-or-later
// The flame graph: one box for each function, as wide as what was asked for below it, painted by kind.
//
// Boxes are elements, so that a browser's own search, its printer and a screen reader find their text. Those too narrow
// to be seen are one box, and what is below them is left out.

const ROW = 20;
const NARROWEST = 2;

class FlameGraph {
  /** `told(node)` is called when a node is pointed at, `zoomed(node)` when one is zoomed into. */
  constructor(place, words, { told, zoomed }) {
    this.place = place;
    this.words = words;
    this.told = told;
    this.zoomed = zoomed;
    this.boxes = new Map();
    place.addEventListener("click", (event) => this._at(event, (node) => this.zoom(node)));
    place.addEventListener("pointerover", (event) => this._at(event, (node) => this.told(node)));
    place.addEventListener("keydown", (event) => this._key(event));
    new ResizeObserver(() => this._resized()).observe(place);
  }

  /** Show a tree, zoomed into `focus`. `found(node)`: whether a node is searched for; null: nothing is. */
  show(root, focus, found) {
    this.root = root;
    this.focus = focus;
    this.found = found;
    this.current = focus;
    this.draw();
  }

  zoom(node) {
    this.focus = node;
    this.current = node;
    this.draw();
    this.zoomed(node);
  }

  zoomOut() {
    if (this.focus.parent) this.zoom(this.focus.parent);
  }

  draw() {
    this.width = this.place.clientWidth;
    this.boxes.clear();
    this.deepest = 0;
    const boxes = document.createDocumentFragment();
    const above = [];
    for (let node = this.focus; node; node = node.parent) above.unshift(node);
    above.forEach((node, row) => boxes.append(this._box(node, row, 0, this.width, node !== this.focus)));
    if (this.focus.total > 0) this._below(boxes, this.focus, above.length, 0);
    this.place.replaceChildren(boxes);
    this.place.style.height = `${(this.deepest + 1) * ROW}px`;
    this._mark();
  }

  _below(boxes, node, row, left) {
    const scale = this.width / this.focus.total;
    const narrow = [];
    for (const child of node.children()) {
      const width = child.total * scale;
      if (width < NARROWEST) {
        narrow.push(child);
        continue;
      }
      boxes.append(this._box(child, row, left, width, false));
      this._below(boxes, child, row + 1, left);
      left += width;
    }
    const rest = restOf(node, narrow);
    if (rest.total * scale >= NARROWEST) boxes.append(this._box(rest, row, left, rest.total * scale, false));
  }

  _box(node, row, left, width, isAbove) {
    const box = element("div", { class: "box", role: "treeitem", id: `box${this.boxes.size}`, "aria-level": row + 1 });
    if (width > 24) box.textContent = node.name;
    box.setAttribute("aria-label", `${node.name}, ${this.words(node)}`);
    const place = `left:${left}px;top:${row * ROW}px;width:${Math.max(width - 1, 1)}px`;
    box.style.cssText = `${place};background:${painted(node)}`;
    if (isAbove) box.classList.add("above");
    if (node.isRest) box.classList.add("rest");
    if (this.found && !isAbove) box.classList.add(this.found(node) ? "found" : "other");
    box.node = node;
    this.boxes.set(node, box);
    this.deepest = Math.max(this.deepest, row);
    return box;
  }

  _at(event, act) {
    const box = event.target.closest(".box");
    if (box && !box.node.isRest) act(box.node);
  }

  _key(event) {
    const next = this._neighbour(event.key);
    if (next) {
      this.current = next;
      this._mark();
      this.told(next);
    } else if (event.key === "Enter") this.zoom(this.current);
    else if (event.key === "Escape" || event.key === "Backspace") this.zoomOut();
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  _neighbour(key) {
    const drawn = (nodes) => nodes.filter((node) => this.boxes.has(node));
    const below = drawn(this.current.children());
    switch (key) {
      case "ArrowUp":
        return this.current.parent ?? this.current;
      case "ArrowDown":
        // From above the zoom down to it, else to the widest.
        return below.reduce((widest, node) => (node.total > widest.total ? node : widest), below[0] ?? this.current);
      case "Home":
        return this.root;
      case "ArrowLeft":
      case "ArrowRight": {
        const beside = this.current.parent ? drawn(this.current.parent.children()) : [this.current];
        const step = key === "ArrowLeft" ? -1 : 1;
        return beside[beside.indexOf(this.current) + step] ?? this.current;
      }
      default:
        return null;
    }
  }

  _mark() {
    this.place.querySelector(".current")?.classList.remove("current");
    const box = this.boxes.get(this.current);
    if (!box) return;
    box.classList.add("current");
    this.place.setAttribute("aria-activedescendant", box.id);
  }

  _resized() {
    if (this.root && this.place.clientWidth !== this.width) this.draw();
  }
}

/** Several nodes as one, which leads nowhere. */
function restOf(parent, nodes) {
  const weights = KINDS.map(() => 0);
  const rest = { parent, name: `${countWords(nodes.length)} narrower`, weights, total: 0, isRest: true };
  for (const node of nodes) {
    node.weights.forEach((weight, kind) => (rest.weights[kind] += weight));
    rest.total += node.total;
  }
  return rest;
}

/** The colours of a node, as wide as its parts. */
function painted(node) {
  const colour = (kind) => `var(--${KINDS[kind]}-fill)`;
  const kinds = [...KINDS.keys()].filter((kind) => node.weights[kind] > 0);
  if (kinds.length < 2) return colour(kinds[0] ?? KINDS.length - 1);
  let share = 0;
  const stops = kinds.map((kind) => {
    const from = share;
    share += (node.weights[kind] / node.total) * 100;
    return `${colour(kind)} ${from.toFixed(2)}% ${share.toFixed(2)}%`;
  });
  return `linear-gradient(90deg,${stops.join(",")})`;
}
