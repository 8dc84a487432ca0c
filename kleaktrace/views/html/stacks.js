// SPDX-License-Identifier: GPL-2.0-or-later
// All call stacks of a page: how much each is, of which kind, which of them a reader wants to see.
//
// A stack is a number, and so is a node of the tree of frames, in which stacks that begin alike share their callers.

/**
 * What a page is about extends it by `kind` (of each stack), `parts(measure)` (of each kind the values of all stacks; they
 * add up to a stack's own) and `words(measure, value)`.
 */
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
    this._modules = null;
  }

  values(measure) {
    return this.columns[measure.column];
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

  /** The same, in lines, with what else is known of where that is. */
  frameLines(frame) {
    return [this.frameText(frame)];
  }

  /** The frames of a stack, innermost first. */
  frames(stack) {
    const found = [];
    for (let node = this.leaf[stack]; node >= 0; node = this.parent[node]) found.push(this.frame[node]);
    return found;
  }

  /** The frame that asked for the memory, and the one that called it, if any. */
  requesterAndCaller(stack) {
    let node = this.leaf[stack];
    for (let further = this.columns.requester_at[stack]; further > 0; further--) node = this.parent[node];
    const caller = this.parent[node];
    return [this.frame[node], caller >= 0 ? this.frame[caller] : null];
  }

  title(stack) {
    return this.label(this.requesterAndCaller(stack)[0]);
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
}
