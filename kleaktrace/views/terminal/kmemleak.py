# SPDX-License-Identifier: GPL-2.0-or-later
"""Shows suspects as kmemleak lists them, what their text says, and whether kmemleak can be used.

Reports are hostile input: every name goes through `terminal.clean`, none through rich's markup.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from rich.console import Console

from kleaktrace.core.explanation.conclusions import explain
from kleaktrace.core.explanation.listings import once_each
from kleaktrace.core.kmemleak.diagnosis import KmemleakHealth, State
from kleaktrace.core.kmemleak.kmemleak_text import KmemleakText, Message, ObjectDump, Problem
from kleaktrace.core.kmemleak.message_meanings import Meaning, is_of_shell, meaning_of, new_suspects
from kleaktrace.core.known_leaks import NOTHING_KNOWN, KnownLeaks
from kleaktrace.core.source_lines.source_lines import NO_SOURCE_LINES, SourceLines
from kleaktrace.terminal import clean
from kleaktrace.views.terminal import explanation
from kleaktrace.views.terminal.console import print_line
from kleaktrace.views.terminal.known import show_groups

_BOOT_S = 60.0
"""When the kernel boots, kmemleak has not found anything yet that could be lost."""
_DISABLED = re.compile(r"leak detector disabled|Kmemleak disabled")


def explained_problems(text: KmemleakText) -> tuple[Problem, ...]:
    """Return the problems of a text and what it says, in the kernel's words and ours, about kmemleak being off."""
    found = [*text.problems, *_why_off(text.messages)]
    count = new_suspects(text.messages)
    if not text.objects:
        last = next((m for m in text.messages[::-1] if "new suspected memory leaks" in m.text), None)
        if last:
            found.append(
                Problem(
                    last.line,
                    f"{count:,} new suspected memory leaks: the log counts them, "
                    "the report is in /sys/kernel/debug/kmemleak; `sudo kleaktrace confirm` judges each of them",
                )
            )
        found += [
            Problem(d.line, f"a dump of object 0x{d.address:08x}, which is no report: {d.state}") for d in text.dumps
        ]
    elif count > (listed := sum(1 + one.more for one in once_each(text.objects).objects)):
        found.append(Problem(0, f"the log counts {count:,} suspects, and the text has {listed:,}"))
    if not text.recognised:
        found.append(Problem(0, "nothing of kmemleak in this text"))
    return tuple(sorted(found))


def _why_off(messages: Sequence[Message]) -> list[Problem]:
    """Explain the first message that gives a cause; that kmemleak is disabled is news only without one.

    What shells say is told as well: each of their errors has a cause of its own.
    """
    meanings = [(m, meaning) for m in messages if not is_of_shell(m) and (meaning := meaning_of(m)) and meaning.is_off]
    causes = [(m, meaning) for m, meaning in meanings if not _DISABLED.search(m.text)]
    kept = [
        (m, meaning)
        for m, meaning in meanings
        if "without freeing" in m.text and not any(m is cause for cause, _ in causes[:1])
    ]
    first = (causes or meanings)[:1]
    told = [*first, *(one for one in kept[:1] if one not in first)]
    found = [Problem(m.line, f"{meaning.what} ({m.text}); {meaning.fix}") for m, meaning in told]
    late = any(_DISABLED.search(m.text) and (m.time_s is None or m.time_s > _BOOT_S) for m in messages)
    if found and not kept and late:
        found.append(
            Problem(
                told[0][0].line,
                "what kmemleak had found before is lost, but for the log and copies of its file, unless the log says "
                "that it was disabled without freeing internal data",
            )
        )
    return found + _shell_errors(messages)


def _shell_errors(messages: Sequence[Message]) -> list[Problem]:
    """Explain what shells say of a kmemleak that is off, each meaning once."""
    said: dict[Meaning, list[Message]] = {}
    for message in messages:
        meaning = meaning_of(message) if is_of_shell(message) else None
        if meaning is not None and meaning.is_off:
            said.setdefault(meaning, []).append(message)
    found = []
    for meaning, each in said.items():
        others = ", ".join(str(one.line) for one in each[1:])
        again = f"; the same in line {others}" if others else ""
        found.append(Problem(each[0].line, f"{meaning.what} ({each[0].text}{again}); {meaning.fix}"))
    return found


def show(
    console: Console,
    text: KmemleakText,
    problems: Sequence[Problem],
    sources: SourceLines = NO_SOURCE_LINES,
    known: KnownLeaks = NOTHING_KNOWN,
) -> None:
    """Print what a text means, and its problems; frames with their source lines, as far as these are known.

    known: what is told of apart.
    """
    explained = explain(text, known)
    if text.dumps and not text.objects:
        for dump in text.dumps:
            show_dump(console, dump)
        print_line(console)
    explanation.show(console, explained, problems, sources)
    show_groups(console, explained.known, known.name)


def show_dump(console: Console, dump: ObjectDump) -> None:
    """Print what kmemleak wrote about one object."""
    print_line(console, f"object 0x{dump.address:08x}, {dump.size:,} bytes: {dump.state}", "bold")
    print_line(console, f'  by "{clean(dump.comm)}" (pid {dump.pid}), jiffies {dump.jiffies}')
    print_line(
        console,
        f"  min_count {dump.min_count}, count {dump.count}, flags 0x{dump.flags:x}, checksum {dump.checksum}",
    )
    for frame in dump.frames:
        print_line(console, f"    {clean(str(frame))}")


def show_health(console: Console, health: KmemleakHealth) -> None:
    """Print whether kmemleak can be used, why not, and what to do."""
    print_line(console, health.what, "green" if health.state is State.ON else "yellow")
    if health.evidence:
        print_line(console, f"  {clean(health.evidence)}", "dim")
    if health.fix:
        print_line(console, f"  fix: {health.fix}")
