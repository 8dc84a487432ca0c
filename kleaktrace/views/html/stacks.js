// SPDX-License-Identifier: GPL-2.0-or-later
// All call stacks of the report: what they hold, what the verdicts say, which of them a reader wants to see.
//
// A stack is a number, and so is a node of the tree of frames, in which stacks that begin alike share their callers.

/** What a stack, or a part of what it holds, is known to be; the worst first. */
const KINDS = ["confirmed", "undecided", "growing", "alive"];
const KIND_MEANING = {
  confirmed: "leaked, by verdict",
  undecided: "suspected; the evidence does not suffice",
  growing: "of a stack that keeps growing, unexplained",
  alive: "outstanding, and nothing speaks against it",
};
const [CONFIRMED, UNDECIDED, GROWING, ALIVE] = KINDS.keys();

class Stacks {
  constructor(data) {
    const columns = data.columns;
    this.strings = data.strings;
    this.seconds = data.seconds;
    this.measures = data.measures;
    this.columns = columns;
    this.count = columns.leaf.length;
    this.leaf = columns.leaf;
    this.frame = columns.frame;
    this.parent = new Int32Array(columns.up.length);
    for (let node = 0; node < this.parent.length; node++) this.parent[node] = node - columns.up[node];
    this._readSuspected();
    this.detailed = columns.curve_steps.length;
    this._curveStarts = startsOf(columns.curve_steps);
    this._siteStarts = startsOf(columns.free_sites);
    this.times = Float64Array.from(columns.times_ms, (time) => time / 1000);
    this.withLevels = this.times.length ? columns.levels.length / this.times.length : 0;
    this._modules = null;
  }

  _readSuspected() {
    const columns = this.columns;
    this.kind = new Uint8Array(this.count).fill(ALIVE);
    this._suspected = new Map();
    for (let i = 0; i < columns.suspected.length; i++) {
      const stack = columns.suspected[i];
      if (columns.confirmed[i]) this.kind[stack] = CONFIRMED;
      else if (columns.undecided[i]) this.kind[stack] = UNDECIDED;
      else this.kind[stack] = GROWING;
      this._suspected.set(stack, i);
    }
  }

  /** How many objects of a stack are confirmed and undecided. */
  suspectsOf(stack) {
    const i = this._suspected.get(stack);
    return i === undefined ? [0, 0] : [this.columns.confirmed[i], this.columns.undecided[i]];
  }

  values(measure) {
    return this.columns[measure.column];
  }

  /** A value of a measure in words. */
  words(measure, value) {
    if (measure.unit === "bytes") return sizeWords(value);
    if (measure.unit === "allocations") return `${rateWords(value / this.seconds)} allocations/s`;
    return plural(value, "object");
  }

  /** Of each kind the values of all stacks by a measure; they add up to the stack's own. */
  parts(measure) {
    const values = this.values(measure);
    const parts = KINDS.map(() => new Float64Array(this.count));
    for (let stack = 0; stack < this.count; stack++) {
      if (this.kind[stack] === ALIVE) parts[ALIVE][stack] = values[stack];
    }
    for (const [stack, i] of this._suspected) {
      let rest = values[stack];
      for (const [kind, share] of this._shares(measure, stack, i)) {
        parts[kind][stack] = Math.min(rest, share);
        rest -= parts[kind][stack];
      }
      parts[this.columns.growing[i] ? GROWING : ALIVE][stack] = rest;
    }
    return parts;
  }

  _shares(measure, stack, i) {
    const columns = this.columns;
    if (measure.unit === "bytes") {
      return [
        [CONFIRMED, columns.confirmed_bytes[i]],
        [UNDECIDED, columns.undecided_bytes[i]],
      ];
    }
    const each = this.values(measure)[stack] / Math.max(columns.objects[stack], 1);
    return [
      [CONFIRMED, columns.confirmed[i] * each],
      [UNDECIDED, columns.undecided[i] * each],
    ];
  }

  // Names

  functionName(frame) {
    return this.strings[this.columns.frame_function[frame]];
  }

  moduleName(frame) {
    return this.strings[this.columns.frame_module[frame]];
  }

  /** A function with its module. */
  label(frame) {
    const module = this.moduleName(frame);
    return module ? `${this.functionName(frame)} [${module}]` : this.functionName(frame);
  }

  /** A frame in the form of the kernel's own traces. */
  frameText(frame) {
    const offset = this.columns.frame_offset[frame];
    const size = this.columns.frame_size[frame];
    const module = this.moduleName(frame);
    const place = offset || size ? `+0x${offset.toString(16)}/0x${size.toString(16)}` : "";
    return this.functionName(frame) + place + (module ? ` [${module}]` : "");
  }

  /** The frames of a stack, innermost first. */
  frames(stack) {
    const found = [];
    for (let node = this.leaf[stack]; node >= 0; node = this.parent[node]) found.push(this.frame[node]);
    return found;
  }

  /** The frame that asked for the memory, and the one that called it, if any. */
  asker(stack) {
    let node = this.leaf[stack];
    for (let further = this.columns.asker[stack]; further > 0; further--) node = this.parent[node];
    const caller = this.parent[node];
    return [this.frame[node], caller >= 0 ? this.frame[caller] : null];
  }

  title(stack) {
    return this.label(this.asker(stack)[0]);
  }

  /** The innermost module of each stack, as the number of a string. */
  innermostModules() {
    if (!this._modules) {
      const of = this.columns.frame_module;
      const strings = this.strings;
      const inner = new Uint32Array(this.parent.length);
      const none = strings.indexOf("");
      for (let node = 0; node < inner.length; node++) {
        const own = of[this.frame[node]];
        const parent = this.parent[node];
        inner[node] = strings[own] && strings[own] !== "bpf" ? own : parent >= 0 ? inner[parent] : none;
      }
      this._modules = Uint32Array.from(this.leaf, (leaf) => inner[leaf]);
    }
    return this._modules;
  }

  cache(stack) {
    return this.strings[this.columns.caches[stack]];
  }

  context(stack) {
    return this.strings[this.columns.contexts[stack]];
  }

  comm(stack) {
    return this.strings[this.columns.comms[stack]];
  }

  // Selecting

  /** Which frames have a string of which it is true: `test` gets the number of each string once. */
  framesWhere(stringsFound) {
    const functions = this.columns.frame_function;
    const modules = this.columns.frame_module;
    return Uint8Array.from(functions, (own, frame) => stringsFound[own] | stringsFound[modules[frame]]);
  }

  /** Which strings contain a text, whatever the case. */
  stringsWith(text) {
    const wanted = text.toLowerCase();
    return Uint8Array.from(this.strings, (string) => (string.toLowerCase().includes(wanted) ? 1 : 0));
  }

  /** Which nodes have such a frame, or are called below one. */
  nodesBelow(frames) {
    const found = new Uint8Array(this.parent.length);
    for (let node = 0; node < found.length; node++) {
      const parent = this.parent[node];
      found[node] = frames[this.frame[node]] | (parent >= 0 ? found[parent] : 0);
    }
    return found;
  }

  /** Which stacks are of the given kinds and pass through a module, all if it is "". */
  shown(kinds, module) {
    const nodes = module ? this.nodesBelow(this._framesOf(module)) : null;
    const found = new Uint8Array(this.count);
    for (let stack = 0; stack < this.count; stack++) {
      found[stack] = kinds.has(this.kind[stack]) && (!nodes || nodes[this.leaf[stack]]) ? 1 : 0;
    }
    return found;
  }

  _framesOf(module) {
    const number = this.strings.indexOf(module);
    return Uint8Array.from(this.columns.frame_module, (own) => (own === number ? 1 : 0));
  }

  /** Of the stacks shown, those that contain a text in a frame, cache, context or comm. */
  matching(shown, text) {
    if (!text) return shown;
    const strings = this.stringsWith(text);
    const { caches, contexts, comms } = this.columns;
    const nodes = this.nodesBelow(this.framesWhere(strings));
    return shown.map((is, stack) =>
      is && (nodes[this.leaf[stack]] || strings[caches[stack]] || strings[contexts[stack]] || strings[comms[stack]])
        ? 1
        : 0,
    );
  }

  // Details of one stack

  /** The survival curve of a stack; null: it is not in the file. */
  curve(stack) {
    if (stack >= this.detailed) return null;
    const [from, to] = [this._curveStarts[stack], this._curveStarts[stack + 1]];
    return {
      ages: Array.from(this.columns.curve_ages_ns.subarray(from, to), (age) => age / 1e9),
      shares: Array.from(this.columns.curve_shares.subarray(from, to), (share) => share / 65535),
      end: this.columns.curve_end_ns[stack] / 1e9,
    };
  }

  /** Where allocations of a stack were freed: [place, how many], most first. */
  freeSites(stack) {
    if (stack >= this.detailed) return [];
    const found = [];
    for (let i = this._siteStarts[stack]; i < this._siteStarts[stack + 1]; i++) {
      found.push([this.strings[this.columns.free_site[i]], this.columns.free_count[i]]);
    }
    return found;
  }

  /** Bytes outstanding of a stack at each of `times`; null: they are not in the file. */
  levels(stack) {
    return stack < this.withLevels ? rowOf(this.columns.levels, stack, this.times.length) : null;
  }
}
