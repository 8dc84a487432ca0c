# SPDX-License-Identifier: GPL-2.0-or-later
"""The slider that hides what is younger."""

from __future__ import annotations

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from kleaktrace.views.screen.short_units import age

_STEPS = (0.0, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0)
_WORDS = "older than "


class AgeSlider(Widget):
    """A knob on a line of ages. Set by `move`, a click, or by drawing it with the mouse."""

    DEFAULT_CSS = "AgeSlider { height: 1; width: 36; }"

    class Moved(Message):
        """Only what is at least so many seconds old is to be shown."""

        def __init__(self, older_s: float) -> None:
            super().__init__()
            self.older_s = older_s

    def __init__(self, older_s: float = 0.0) -> None:
        super().__init__()
        self._steps = sorted({*_STEPS, older_s})
        self._at = self._steps.index(older_s)

    @property
    def older_s(self) -> float:
        """Where the knob is."""
        return self._steps[self._at]

    def move(self, steps: int) -> None:
        """Move the knob."""
        self._set(self._at + steps)

    def _set(self, at: int) -> None:
        at = min(max(at, 0), len(self._steps) - 1)
        if at != self._at:
            self._at = at
            self.refresh()
            self.post_message(self.Moved(self.older_s))

    def render_line(self, y: int) -> Strip:
        """`older than [---O---------] 5s`."""
        rail = "".join("O" if step == self._at else "-" for step in range(len(self._steps)))
        value = age(self.older_s) if self.older_s else "any age"
        style = Style(bold=self._at > 0)
        return Strip([Segment(f"{_WORDS}[{rail}] {value}", style)]).adjust_cell_length(self.size.width)

    def on_mouse_down(self, event: events.MouseDown) -> None:
        """Put the knob there, and hold it."""
        self.capture_mouse()
        self._set(event.x - len(_WORDS) - 1)

    def on_mouse_move(self, event: events.MouseMove) -> None:
        """Draw the knob along."""
        if self.app.mouse_captured is self:
            self._set(event.x - len(_WORDS) - 1)

    def on_mouse_up(self) -> None:
        """Let go of the knob."""
        self.release_mouse()
