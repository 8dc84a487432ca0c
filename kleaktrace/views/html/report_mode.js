// SPDX-License-Identifier: GPL-2.0-or-later
// What a page says of one recording: what the verdicts say of each stack, and all its details.

/** What a stack, or a part of what it holds, is known to be; the worst first. */
const KINDS = ["confirmed", "undecided", "growing", "alive"];
const KIND_MEANING = {
  confirmed: "leaked, by verdict",
  undecided: "suspected; the evidence does not suffice",
  growing: "of a stack that keeps growing, unexplained",
  alive: "outstanding, and nothing speaks against it",
};
const [CONFIRMED, UNDECIDED, GROWING, ALIVE] = KINDS.keys();

const KIND_WORDS = KINDS;
const NOTHING = "Nothing was allocated while it was traced.";

class PageStacks extends Stacks {
  constructor(data) {
    super(data);
    const columns = this.columns;
    this._readSuspected();
    this.detailed = columns.curve_steps.length;
    this._curveStarts = startsOf(columns.curve_steps);
    this._siteStarts = startsOf(columns.free_sites);
    this._sourceStarts = startsOf(columns.frame_sources);
    this.times = Float64Array.from(columns.times_ms, (time) => time / 1000);
    this.withLevels = this.times.length ? columns.levels.length / this.times.length : 0;
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

  /** A frame with its source, in lines: functions that are inlined there come before it, innermost first. */
  frameLines(frame) {
    const { source, frame_sources: counts } = this.columns;
    const start = this._sourceStarts[frame];
    const lines = Array.from(source.slice(start, start + counts[frame]), (text) => this.strings[text]);
    const place = lines.pop();
    return [...lines, this.frameText(frame) + (place ? `  ${place}` : "")];
  }

  /** How many objects of a stack are confirmed and undecided. */
  suspectsOf(stack) {
    const i = this._suspected.get(stack);
    return i === undefined ? [0, 0] : [this.columns.confirmed[i], this.columns.undecided[i]];
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

class PagePanel extends StackPanel {
  sections(stack) {
    return [this._figures(stack), ...this._survival(stack), ...this._freeSites(stack), ...this._levels(stack)];
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
    return [head, survivalChart(curve, this.width, 170), element("p", { class: "meaning" }, words)];
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
    return [element("h3", {}, "Outstanding over time"), levelsChart(this.stacks.times, [layer], this.width, 140)];
  }
}

/** What the table shows. */
function tableColumns(stacks) {
  const { objects, bytes, allocations, freed, oldest_ms: oldest } = stacks.columns;
  return [
    {
      name: "verdict",
      class: "kind",
      meaning: "Of its suspects the worst verdict",
      value: (s) => -stacks.kind[s],
      show: (s) => chip(stacks, s),
    },
    {
      name: "bytes",
      class: "number",
      first: true,
      meaning: "Outstanding, as allocated",
      value: (s) => bytes[s],
      show: (s) => sizeWords(bytes[s]),
    },
    {
      name: "objects",
      class: "number",
      meaning: "Outstanding",
      value: (s) => objects[s],
      show: (s) => countWords(objects[s]),
    },
    {
      name: "alloc/s",
      class: "number wide",
      meaning: "Allocations a second, over the whole recording",
      value: (s) => allocations[s],
      show: (s) => rateWords(allocations[s] / stacks.seconds),
    },
    {
      name: "freed",
      class: "number wide",
      meaning: "Share of its allocations that was freed",
      value: (s) => freed[s] / Math.max(allocations[s], 1),
      show: (s) => shareWords(freed[s] / Math.max(allocations[s], 1)),
    },
    {
      name: "oldest",
      class: "number wide",
      meaning: "Age of the oldest outstanding",
      value: (s) => oldest[s],
      show: (s) => (objects[s] ? timeWords(oldest[s] / 1000) : ""),
    },
    ...originColumns(stacks),
    {
      name: "task",
      class: "widest",
      text: true,
      meaning: "Context and task",
      value: (s) => stacks.comm(s),
      show: (s) => [stacks.context(s), stacks.comm(s)].filter(Boolean).join(": "),
    },
  ];
}

function chip(stacks, stack) {
  const kind = KINDS[stacks.kind[stack]];
  const [confirmed, undecided] = stacks.suspectsOf(stack);
  const count = { confirmed, undecided }[kind];
  return kind === "alive"
    ? ""
    : element("span", { class: `chip ${kind}` }, count ? `${countWords(count)} ${kind}` : kind);
}
