# SPDX-License-Identifier: GPL-2.0-or-later
"""Shows suspects as kmemleak lists them, grouped, and what their text says.

Reports are hostile input: every name goes through `terminal.clean`, none through rich's markup.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from kleaktrace.core.kmemleak.diagnosis import KmemleakHealth, State, read_message
from kleaktrace.core.kmemleak.groups import SuspectGroup, group, hints
from kleaktrace.core.kmemleak.report_parser import KmemleakText, Message, ObjectDump, Problem, Suspect
from kleaktrace.core.kmemleak.suspect_kind import SuspectKind
from kleaktrace.terminal import clean

_SHOWN_ALLOCATORS = 3
_SHOWN_SIZES = 4
_DISABLED = re.compile(r"leak detector disabled|Kmemleak disabled")


def explained_problems(text: KmemleakText) -> tuple[Problem, ...]:
    """Return the problems of a text and what it says, in the kernel's words and ours, about kmemleak being off."""
    found = [*text.problems, *_why_off(text.messages)]
    if not text.objects:
        found += [
            Problem(m.line, f"{m.text}: the log counts them, the report is in /sys/kernel/debug/kmemleak")
            for m in text.messages
            if "new suspected memory leaks" in m.text
        ][-1:]
        found += [
            Problem(d.line, f"a dump of object 0x{d.address:08x}, which is no report: {d.state}") for d in text.dumps
        ]
    if not text.recognised:
        found.append(Problem(0, "nothing of kmemleak in this text"))
    return tuple(sorted(found))


def _why_off(messages: Sequence[Message]) -> list[Problem]:
    """Explain the first message that gives a cause; that kmemleak is disabled is news only without one."""
    meanings = [(m, meaning) for m in messages if (meaning := read_message(m.text))]
    causes = [(m, meaning) for m, meaning in meanings if not _DISABLED.search(m.text)]
    return [Problem(m.line, f"{what} ({m.text}); {fix}") for m, (_, what, fix) in (causes or meanings)[:1]]


def show(console: Console, text: KmemleakText, problems: Sequence[Problem]) -> None:
    """Print the suspects in groups, most bytes first, and then the problems."""
    groups = group(text.objects)
    if groups:
        count = sum(g.count for g in groups)
        _line(
            console,
            f"{_objects(count)}, {sum(g.bytes for g in groups):,} bytes, "
            f"{len(groups)} {'backtrace' if len(groups) == 1 else 'different backtraces'}",
            "bold",
        )
    for number, one in enumerate(groups, 1):
        _line(console)
        _show_group(console, number, one)
    if text.dumps and not groups:
        for dump in text.dumps:
            show_dump(console, dump)
    if problems and (groups or text.dumps):
        _line(console)
    for problem in problems:
        where = f"line {problem.line}: " if problem.line else ""
        _line(console, f"{where}{clean(problem.what)}", "yellow")


def show_dump(console: Console, dump: ObjectDump) -> None:
    """Print what kmemleak wrote about one object."""
    _line(console, f"object 0x{dump.address:08x}, {dump.size:,} bytes: {dump.state}", "bold")
    _line(console, f'  by "{clean(dump.comm)}" (pid {dump.pid}), jiffies {dump.jiffies}')
    _line(
        console,
        f"  min_count {dump.min_count}, count {dump.count}, flags 0x{dump.flags:x}, checksum {dump.checksum}",
    )
    for frame in dump.frames:
        _line(console, f"    {clean(str(frame))}")


def show_health(console: Console, health: KmemleakHealth) -> None:
    """Print whether kmemleak can be used, why not, and what to do."""
    _line(console, health.what, "green" if health.state is State.ON else "yellow")
    if health.evidence:
        _line(console, f"  {clean(health.evidence)}", "dim")
    if health.fix:
        _line(console, f"  fix: {health.fix}")


def _show_group(console: Console, number: int, one: SuspectGroup) -> None:
    kind = "" if one.kind == SuspectKind.SLAB else f" ({one.kind})"
    _line(console, f"{number}. {_objects(one.count)}{kind}, {_bytes(one)}", "bold")
    _line(console, f"   by {_allocators(one)}; {_when(one.members)}")
    if one.count == 1:
        _line(console, f"   at 0x{one.members[0].address:08x}")
    for index, frame in enumerate(one.frames):
        dim = index < one.allocator_frames or frame.inline
        _line(console, f"     {clean(str(frame))}", "dim" if dim else "")
    for hint in hints(one):
        _line(console, f"   · {hint}", "cyan")


def _bytes(one: SuspectGroup) -> str:
    sizes = sorted(one.sizes.items(), reverse=True)
    if len(sizes) == 1:
        return f"{one.bytes:,} bytes" + (f", {sizes[0][0]:,} each" if one.count > 1 else "")
    shown = ", ".join(f"{count} of {size:,}" for size, count in sizes[:_SHOWN_SIZES])
    return f"{one.bytes:,} bytes: {shown}" + (", …" if len(sizes) > _SHOWN_SIZES else "")


def _allocators(one: SuspectGroup) -> str:
    allocators = one.allocators.most_common()
    shown = [f'"{clean(comm)}" (pid {pid})' for (comm, pid), _ in allocators[:_SHOWN_ALLOCATORS]]
    more = len(allocators) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def _when(members: Sequence[Suspect]) -> str:
    ages = [m.age_s for m in members if m.age_s is not None]
    if ages:
        oldest, youngest = max(ages), min(ages)
        return f"age {youngest:,.1f} s" if oldest == youngest else f"age {youngest:,.1f} to {oldest:,.1f} s"
    first, last = min(m.jiffies for m in members), max(m.jiffies for m in members)
    return f"jiffies {first}" if first == last else f"jiffies {first} to {last}"


def _objects(count: int) -> str:
    return "1 object" if count == 1 else f"{count:,} objects"


def _line(console: Console, text: str = "", style: str = "") -> None:
    console.print(Text(text, style=style), soft_wrap=True)
