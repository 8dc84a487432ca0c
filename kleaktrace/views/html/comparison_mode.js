// SPDX-License-Identifier: GPL-2.0-or-later
// What a page says of two recordings: how much more or less each stack that has changed has left in the second.

/** What became of a stack; what matters most first. */
const KINDS = ["leak", "more", "less", "kept"];
const KIND_WORDS = ["new leak", "[+more]", "[-less]", "kept"];
const KIND_MEANING = {
  leak: "confirmed in AFTER, and not in BEFORE",
  more: "there is more of it in AFTER",
  less: "there is less of it in AFTER",
  kept: "has changed, but is kept on purpose",
};
const NOTHING = "Nothing has changed by more than chance explains.";

class PageStacks extends Stacks {
  constructor(data) {
    super(data);
    this.kind = this.columns.kind;
  }

  /** By how much a stack has changed; the colour of a sum says in which direction. */
  words(measure, value) {
    return measure.unit === "bytes" ? sizeWords(value) : plural(value, "object");
  }

  /** Of each kind the values of all stacks by a measure; a stack is of one kind. */
  parts(measure) {
    const values = this.values(measure);
    const parts = KINDS.map(() => new Float64Array(this.count));
    this.kind.forEach((kind, stack) => (parts[kind][stack] = values[stack]));
    return parts;
  }

  /** With its sign. */
  change(column, stack) {
    return this.columns[`${column}_less`][stack] ? -this.columns[column][stack] : this.columns[column][stack];
  }

  text(column, stack) {
    return this.strings[this.columns[column][stack]];
  }
}

class PagePanel extends StackPanel {
  sections(stack) {
    const { stacks } = this;
    const facts = [
      ["change", stacks.text("heading", stack)],
      ["bytes", stacks.text("bytes_words", stack)],
      ["objects", stacks.text("objects_words", stack)],
      ["rate", stacks.text("rate_words", stack)],
      ["before", stacks.text("before_words", stack)],
      ["after", stacks.text("after_words", stack)],
      ["why", stacks.text("reason", stack)],
      ["cache", stacks.cache(stack)],
      ["context", stacks.context(stack)],
      ["task", stacks.comm(stack)],
      ["key", stacks.text("key", stack)],
    ].filter(([, value]) => value !== "");
    return [
      element(
        "dl",
        {},
        facts.flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)]),
      ),
    ];
  }
}

/** What the table shows. */
function tableColumns(stacks) {
  const signed = (value, words) => (value < 0 ? `-${words(-value)}` : `+${words(value)}`);
  return [
    {
      name: "change",
      class: "kind",
      meaning: "What became of it",
      value: (s) => -stacks.kind[s],
      show: (s) => element("span", { class: `chip ${KINDS[stacks.kind[s]]}` }, KIND_WORDS[stacks.kind[s]]),
    },
    {
      name: "bytes",
      class: "number",
      first: true,
      meaning: "By how much more there is in AFTER, as allocated",
      value: (s) => stacks.change("bytes", s),
      show: (s) => signed(stacks.change("bytes", s), sizeWords),
    },
    {
      name: "objects",
      class: "number",
      meaning: "By how much more there is in AFTER",
      value: (s) => stacks.change("objects", s),
      show: (s) => signed(stacks.change("objects", s), countWords),
    },
    {
      name: "95 %",
      class: "wide",
      text: true,
      meaning: "The bytes with their interval",
      value: (s) => stacks.columns.bytes[s],
      show: (s) => stacks.text("bytes_words", s),
    },
    ...originColumns(stacks),
    {
      name: "why",
      class: "widest",
      text: true,
      meaning: "Why it is listed, or kept",
      value: (s) => stacks.text("heading", s),
      show: (s) => stacks.text("reason", s) || stacks.text("heading", s),
    },
  ];
}
