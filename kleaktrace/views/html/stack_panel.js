// SPDX-License-Identifier: GPL-2.0-or-later
// All that is known of one call stack, beside the page. What a page is about extends it by `sections(stack)`.

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
      ...this.sections(stack),
      element("h3", {}, "Call stack"),
      element(
        "pre",
        { tabindex: 0 },
        this.stacks
          .frames(stack)
          .flatMap((frame) => this.stacks.frameLines(frame))
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

  /** How wide what is drawn in it can be. */
  get width() {
    return Math.max(this.place.clientWidth, 300) - 32;
  }
}
