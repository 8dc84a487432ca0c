# SPDX-License-Identifier: GPL-2.0-or-later
"""What lies over the table for a moment: the list of keys, and the question for a name."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Input, Static

KEYS = (
    ("up, down, PgUp, PgDn, Home, End", "choose a row; the pane below tells about it"),
    ("Enter", "make the pane below larger, hide it, bring it back"),
    ("Tab", "go to the pane below, to scroll it, and back"),
    ("1 to 8, g", "group by call stack, requester, cache, comm, pid, cgroup, module, context; or by the next of them"),
    ("o, r", "sort by the next column; the other way round"),
    ("/", "show only rows that contain a text: frames, names, caches, comms. Esc shows all again"),
    ("[ ]", "show only what is older: less old, older"),
    ("u", "hide what the kernel takes back by itself when memory is short, or show it again"),
    ("m, M", "mark now: from then on, only what came since is shown. M shows all again"),
    ("p", "stand still, and go on"),
    ("s", "let kmemleak scan, which takes half a minute or more, and show its verdicts in a column"),
    ("w", "write all that is known by now to a capture, for `kleaktrace report`"),
    ("q, Ctrl-C", "end; the report is printed then"),
)
_INTRODUCTION = (
    "Outstanding memory: what was allocated since tracing began, and its free was not seen. That is not a leak yet: "
    "caches hold memory on purpose. What grows and never shrinks is worth a look (net/s, trend).\n\n"
    "Your driver leaks when you do something? Press m, do it once more, and look at what is left.\n"
)
_MOUSE = "\nWith the mouse: click a row, a heading to sort by it, the slider, or a key below; the wheel scrolls."


def help_text() -> Text:
    """All keys in plain words."""
    text = Text(_INTRODUCTION)
    for keys, words in KEYS:
        text.append(f"\n{keys}\n", style="bold")
        text.append(f"    {words}")
    text.append(f"\n{_MOUSE}")
    return text


class HelpScreen(ModalScreen[None]):
    """The list of keys. Any of the usual keys closes it."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("question_mark,escape,q,enter", "dismiss", "Close")]
    DEFAULT_CSS = """
    HelpScreen { align: center middle; }
    HelpScreen VerticalScroll { width: 76; max-width: 95%; height: 90%; border: round ansi_default; padding: 0 1; }
    """

    def compose(self) -> ComposeResult:
        """The text, to be scrolled."""
        with VerticalScroll(classes="dialog") as box:
            box.border_title = "kleaktrace trace: keys"
            box.border_subtitle = "Esc closes this"
            yield Static(help_text(), markup=False)


class NameQuestion(ModalScreen[str]):
    """Asks for the name of a capture; empty: none is wanted."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss('')", "Cancel")]
    DEFAULT_CSS = """
    NameQuestion { align: center middle; }
    NameQuestion Vertical { width: 70; max-width: 95%; height: auto; border: round ansi_default; padding: 0 1; }
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self._default = name

    def compose(self) -> ComposeResult:
        """The question, and room for the answer."""
        with Vertical(classes="dialog") as dialog:
            dialog.border_title = "write a capture"
            dialog.border_subtitle = "Enter writes it, Esc does not"
            yield Static("Name of the capture to be made:", markup=False)
            box = Input(self._default, select_on_focus=False, compact=True)
            box.cursor_blink = False
            yield box

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """It is answered."""
        self.dismiss(event.value.strip())
