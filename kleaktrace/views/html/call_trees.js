// SPDX-License-Identifier: GPL-2.0-or-later
// Call stacks merged by function: from the outermost caller, or inverted, from the function at the allocator.
//
// A tree has a root; a node has a name, its `weights` (one for each kind), their sum `total`, and `children()`, which
// are worked out when they are asked for: of a hundred thousand stacks few are wide enough to be drawn.

class CallNode {
  constructor(parent, name, key) {
    this.parent = parent;
    this.name = name;
    this.key = key;
    this.weights = KINDS.map(() => 0);
    this.total = 0;
    this.members = [];
    this._children = null;
  }

  /** The worst first, and then the largest. */
  children() {
    if (!this._children) {
      this._children = this.grow().filter((child) => child.total > 0);
      this._children.sort((a, b) => worstFirst(a, b));
    }
    return this._children;
  }

  add(kind, weight) {
    this.weights[kind] += weight;
    this.total += weight;
  }

  /** The names from the root down to it. */
  path() {
    return this.parent ? [...this.parent.path(), this.key] : [];
  }

  /** The node that a path leads to, or as far as there is one. */
  at(path) {
    let node = this;
    for (const key of path) {
      const next = node.children().find((child) => child.key === key);
      if (!next) break;
      node = next;
    }
    return node;
  }
}

function worstFirst(a, b) {
  for (let kind = 0; kind < KINDS.length - 1; kind++) {
    if (a.weights[kind] !== b.weights[kind]) return b.weights[kind] - a.weights[kind];
  }
  return b.total - a.total || (a.name < b.name ? -1 : 1);
}

/** Members are nodes of the tree of frames. */
class FromCaller extends CallNode {
  constructor(source, parent, name, key) {
    super(parent, name, key);
    this.source = source;
  }

  static root(stacks, parts, shown) {
    const source = { stacks, weights: weighNodes(stacks, parts, shown), below: childrenOf(stacks) };
    const root = new FromCaller(source, null, "all", "");
    parts.forEach((part, kind) => part.forEach((value, stack) => shown[stack] && root.add(kind, value)));
    return root;
  }

  grow() {
    const { stacks, weights, below } = this.source;
    const found = new Map();
    for (const node of this.parent ? this.members : [-1]) {
      for (let i = below.starts[node + 1]; i < below.starts[node + 2]; i++) {
        const inner = below.nodes[i];
        if (!weights.some((of) => of[inner])) continue;
        const child = childNamed(this, found, stacks.frame[inner], FromCaller);
        child.members.push(inner);
        weights.forEach((of, kind) => child.add(kind, of[inner]));
      }
    }
    return [...found.values()];
  }

  /** Which stacks go through it. */
  stacks() {
    const { stacks } = this.source;
    const within = new Uint8Array(stacks.parent.length);
    for (const node of this.members) within[node] = 1;
    for (let node = 0; node < within.length; node++) {
      if (stacks.parent[node] >= 0) within[node] |= within[stacks.parent[node]];
    }
    return Uint8Array.from(stacks.leaf, (leaf) => within[leaf]);
  }
}

/** Members are stacks, `places` the node of each that it has come to. */
class FromAllocator extends CallNode {
  constructor(source, parent, name, key) {
    super(parent, name, key);
    this.source = source;
    this.places = [];
  }

  static root(stacks, parts, shown) {
    const root = new FromAllocator({ stacks, parts }, null, "all", "");
    for (let stack = 0; stack < stacks.count; stack++) {
      if (shown[stack]) root.take(stack, stacks.leaf[stack]);
    }
    return root;
  }

  take(stack, place) {
    this.members.push(stack);
    this.places.push(place);
    this.source.parts.forEach((part, kind) => this.add(kind, part[stack]));
  }

  grow() {
    const { stacks } = this.source;
    const found = new Map();
    this.members.forEach((stack, i) => {
      const place = this.places[i];
      if (place >= 0) childNamed(this, found, stacks.frame[place], FromAllocator).take(stack, stacks.parent[place]);
    });
    return [...found.values()];
  }

  /** Which stacks go through it. */
  stacks() {
    const found = new Uint8Array(this.source.stacks.count);
    for (const stack of this.members) found[stack] = 1;
    return found;
  }
}

function childNamed(parent, found, frame, Tree) {
  const { stacks } = parent.source;
  const key = `${stacks.columns.frame_function[frame]} ${stacks.columns.frame_module[frame]}`;
  if (!found.has(key)) found.set(key, new Tree(parent.source, parent, stacks.label(frame), key));
  return found.get(key);
}

/** Of each kind the sums over all stacks shown that go through a node. */
function weighNodes(stacks, parts, shown) {
  return parts.map((part) => {
    const weights = new Float64Array(stacks.parent.length);
    for (let stack = 0; stack < stacks.count; stack++) {
      if (shown[stack]) weights[stacks.leaf[stack]] += part[stack];
    }
    for (let node = weights.length - 1; node >= 0; node--) {
      if (stacks.parent[node] >= 0) weights[stacks.parent[node]] += weights[node];
    }
    return weights;
  });
}

/** The nodes below each node: of node n `nodes[starts[n + 1]]` up to `nodes[starts[n + 2]]`; -1 is above all. */
function childrenOf(stacks) {
  if (!stacks.below) {
    const counts = new Uint32Array(stacks.parent.length + 1);
    for (const parent of stacks.parent) counts[parent + 1]++;
    const starts = startsOf(counts);
    const next = starts.slice();
    const nodes = new Uint32Array(stacks.parent.length);
    stacks.parent.forEach((parent, node) => (nodes[next[parent + 1]++] = node));
    stacks.below = { starts, nodes };
  }
  return stacks.below;
}
