# SPDX-License-Identifier: GPL-2.0-or-later
"""What the manual shows of commands and their output, and whether they still print that.

A block is fenced as `console`; a line in it that begins with "$ " is a command, and what follows is all that it prints.
A line of "…" alone stands for lines that are left out.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
_FENCE = re.compile(r"^( *)```console\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_PROMPT = "$ "
LEFT_OUT = "…"
_INLINED = re.compile(r"^ +\S+  \S.*:\d+ (?:\(inlined\)|\[inline\])$")
_SOURCE_LINE = re.compile(r"^( +\S+\+0x\w+/0x\w+(?: \[\w+\])?)  \S.*:\d+$")
_NO_SOURCE_LINES = "no source lines for "


@dataclass(frozen=True)
class Shown:
    """A command that a page shows, and the lines that it is said to print."""

    page: Path
    line: int
    command: str
    output: tuple[str, ...]

    @property
    def needs_root(self) -> bool:
        """Whether it can only be run in a guest."""
        return "sudo " in self.command

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"


def pages() -> list[Path]:
    """The pages of the manual."""
    return [PROJECT / "README.md", *sorted((PROJECT / "docs").rglob("*.md"))]


def shown(page: Path) -> list[Shown]:
    """What a page shows."""
    text = page.read_text()
    return [
        Shown(page, text.count("\n", 0, block.start()) + 2 + line, command, output)
        for block in _FENCE.finditer(text)
        for line, command, output in _commands(block)
    ]


def _commands(block: re.Match[str]) -> Iterator[tuple[int, str, tuple[str, ...]]]:
    """The commands of a block: the line in it, the command, what it is said to print."""
    lines = [line.removeprefix(block[1]) for line in block[2].splitlines()]
    begins = [number for number, line in enumerate(lines) if line.startswith(_PROMPT)]
    for begin, end in zip(begins, [*begins[1:], len(lines)], strict=True):
        yield begin, lines[begin].removeprefix(_PROMPT), tuple(lines[begin + 1 : end])


def printed(command: str) -> list[str]:
    """What a command prints now, run by a shell at the top of the project; without source lines."""
    programs = Path(sys.executable).parent
    done = subprocess.run(
        ["/bin/sh", "-c", command],
        cwd=PROJECT,
        env={"PATH": f"{programs}:{os.environ['PATH']}", "HOME": "/nonexistent", "LC_ALL": "C.UTF-8", "COLUMNS": "100"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return without_source_lines([line.rstrip() for line in done.stdout.splitlines()])


def without_source_lines(lines: Sequence[str]) -> list[str]:
    """Lines of a report less what only a machine that has debug information can say."""
    kept = [line for line in lines if not _INLINED.match(line) and not line.startswith(_NO_SOURCE_LINES)]
    return [_SOURCE_LINE.sub(r"\1", line) for line in kept]


def agrees(said: Sequence[str], real: Sequence[str]) -> bool:
    """Whether these lines are what is said to be printed: all of them, but for what "…" leaves out."""
    return not difference(said, real)


def difference(said: Sequence[str], real: Sequence[str]) -> str:
    """The first line that is not as it is said to be; empty: they agree."""
    parts = list(_parts(said))
    at = 0
    for number, part in enumerate(parts):
        # What stands between two "…" is looked for; the first part and the last have their places.
        first = at if number == 0 or number < len(parts) - 1 else max(at, len(real) - len(part))
        last = at if number == 0 else len(real) - len(part)
        place = next((p for p in range(first, last + 1) if list(real[p : p + len(part)]) == part), None)
        if place is None:
            return f"is not there: {next((line for line in part if line not in real[at:]), ' / '.join(part))}"
        at = place + len(part)
    return f"is there, but not shown: {real[at]}" if at < len(real) else ""


def _parts(said: Sequence[str]) -> Iterator[list[str]]:
    part: list[str] = []
    for line in said:
        if line.strip() == LEFT_OUT:
            yield part
            part = []
        else:
            part.append(line)
    yield part


def renewed(page: Path) -> str:
    """The text of a page with what its commands print now, where no root is needed and what is shown is wrong."""

    def block(match: re.Match[str]) -> str:
        lines: list[str] = []
        for line, command, output in _commands(match):
            real = output if Shown(page, line, command, output).needs_root else printed(command)
            lines += [f"{_PROMPT}{command}", *(output if agrees(output, real) else real)]
        body = "".join(f"{match[1]}{line}".rstrip() + "\n" for line in lines)
        return f"{match[1]}```console\n{body}{match[1]}```"

    return _FENCE.sub(block, page.read_text())
