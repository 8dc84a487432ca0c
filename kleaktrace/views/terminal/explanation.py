# SPDX-License-Identifier: GPL-2.0-or-later
"""Shows what a text of kmemleak's means: the conclusion first, then groups of suspects, then what could not be read.

Reports are hostile input: every name goes through `terminal.clean`, none through rich's markup.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console

from kleaktrace.core.explanation.conclusions import Conclusion, Explanation, Likelihood, ModuleShare, Origin
from kleaktrace.core.kmemleak.frames import KmemleakFrame
from kleaktrace.core.kmemleak.groups import SuspectGroup
from kleaktrace.core.kmemleak.kmemleak_text import UNREAD, Message, Problem, Suspect
from kleaktrace.core.kmemleak.message_meanings import meaning_of
from kleaktrace.core.kmemleak.suspect_kind import SuspectKind
from kleaktrace.core.source_lines.source_lines import SourceLines
from kleaktrace.terminal import clean
from kleaktrace.views.terminal.console import print_line
from kleaktrace.views.terminal.frames import frame_lines

_SHOWN_ALLOCATORS = 3
_SHOWN_SIZES = 4
_SHOWN_MODULES = 6
_SHOWN_PROBLEMS = 20
_NOT_KNOWN = "a message of kmemleak's that is not known here; mm/kmemleak.c of that kernel tells"
_ORIGINS = {
    Origin.KERNEL: "the kernel itself",
    Origin.GONE: "modules that are gone",
    Origin.NOT_TOLD: "not told",
}
_WORDS = {
    Likelihood.LIKELY: ("likely a leak", "red"),
    Likelihood.OPEN: ("may be a leak", "yellow"),
    Likelihood.UNLIKELY: ("probably no leak", "green"),
}


def show(console: Console, explanation: Explanation, problems: Sequence[Problem], sources: SourceLines) -> None:
    """Print all that there is to say of a text."""
    text = explanation.text
    if explanation.conclusions:
        _show_whole(console, explanation)
    for number, one in enumerate(explanation.conclusions, 1):
        print_line(console)
        _show_group(console, number, one, explanation, sources)
    for number, stack in enumerate(text.stacks):
        if number or explanation.conclusions:
            print_line(console)
        who = f' by "{clean(stack.comm)}"' if stack.comm is not None else ""
        print_line(console, f"a backtrace without its object{who}", "bold")
        for frame in stack.frames:
            _frame(console, frame, sources)
    for sentence in sources.missing:
        print_line(console)
        print_line(console, sentence, "yellow")
    notes = list(_notes(text.messages))
    if notes and (explanation.conclusions or text.stacks):
        print_line(console)
    for note in notes:
        print_line(console, note, "cyan")
    if problems and (explanation.conclusions or notes or text.stacks):
        print_line(console)
    for problem in problems[:_SHOWN_PROBLEMS]:
        where = f"line {problem.line}: " if problem.line else ""
        print_line(console, f"{where}{clean(problem.what)}", "yellow")
    if len(problems) > _SHOWN_PROBLEMS:
        print_line(console, f"and {len(problems) - _SHOWN_PROBLEMS:,} more problems: --json has them all", "yellow")
    if explanation.conclusions:
        print_line(console)
        print_line(console, "kmemleak lists no pages, no DMA memory, nothing that is still pointed to:", "dim")
        print_line(console, "`kleaktrace run` looks for those. To hide what is known: --known FILE.", "dim")


def _show_whole(console: Console, explanation: Explanation) -> None:
    groups = explanation.conclusions
    counts = [
        f"{explanation.of(likelihood)} {_WORDS[likelihood][0]}"
        for likelihood in Likelihood
        if explanation.of(likelihood)
    ]
    backtraces = "1 backtrace" if len(groups) == 1 else f"{len(groups):,} different backtraces"
    print_line(
        console,
        f"{_objects(explanation.count)}, {explanation.bytes:,} bytes, {backtraces}: {', '.join(counts)}",
        "bold",
    )
    modules = [f"{_module(m)} {m.bytes:,} bytes in {m.count:,}" for m in explanation.modules[:_SHOWN_MODULES]]
    more = len(explanation.modules) - len(modules)
    print_line(console, f"asked for by: {'; '.join(modules)}{f'; {more} more modules' if more > 0 else ''}")
    if explanation.decides:
        print_line(console, f"to decide it: {clean(explanation.decides)}")


def _module(share: ModuleShare) -> str:
    return _ORIGINS.get(share.origin) or clean(share.module or "")


def _show_group(console: Console, number: int, one: Conclusion, explanation: Explanation, sources: SourceLines) -> None:
    group = one.group
    kind = "" if group.kind == SuspectKind.SLAB else f" ({group.kind})"
    words, style = _WORDS[one.likelihood]
    print_line(console, f"{number}. {words}: {_objects(group.count)}{kind}, {_bytes(group)}", f"bold {style}")
    if one.requester:
        called = f", called from {clean(group.caller.text)}" if group.caller else ""
        print_line(console, f"   asked for by {clean(one.requester)}{called}")
    if one.speaks_for:
        print_line(console, f"   for: {clean('; '.join(one.speaks_for))}")
    if one.speaks_against:
        print_line(console, f"   against: {clean('; '.join(one.speaks_against))}")
    at = f"; at 0x{group.members[0].address:08x}" if group.count == 1 else ""
    print_line(console, f"   by {_allocators(group)}{_when(group.members)}{at}")
    if one.facts:
        print_line(console, f"   holds: {clean('; '.join(one.facts))}")
    for index, frame in enumerate(group.frames):
        style = (
            "dim" if index < group.allocator_frames or frame.inline else "bold" if index == group.requester_at else ""
        )
        _frame(console, frame, sources, style)
    for hint in one.hints:
        print_line(console, f"   · {clean(hint)}", "cyan")
    if one.source_command and not any(sources.of(frame.text) for frame in group.frames):
        print_line(console, f"   source line: {clean(one.source_command)}", "dim")
    if one.decides != explanation.decides and one.likelihood is not Likelihood.UNLIKELY:
        print_line(console, f"   to decide it: {clean(one.decides)}")


def _frame(console: Console, frame: KmemleakFrame, sources: SourceLines, style: str = "") -> None:
    for line in frame_lines(str(frame), sources):  # by that text, none is known where a decoder has told one
        print_line(console, f"     {clean(line)}", style)


def _notes(messages: Sequence[Message]) -> Iterator[str]:
    """What kmemleak's messages mean, each meaning once, and those that are not known."""
    counts: dict[str, list[Message]] = {}
    for message in messages:
        meaning = meaning_of(message)
        if meaning is None:
            counts.setdefault(_NOT_KNOWN, []).append(message)
        elif not meaning.is_off and "only a count" not in meaning.what:
            counts.setdefault(meaning.what, []).append(message)
    for what, said in counts.items():
        first = said[0]
        meaning = meaning_of(first)
        same = "such messages" if what == _NOT_KNOWN else "times"
        times = f" ({len(said):,} {same})" if len(said) > 1 else ""
        fix = f"; {meaning.fix}" if meaning and meaning.fix else ""
        yield f"line {first.line}: {clean(first.text)}{times}: {what}{fix}"


def _bytes(one: SuspectGroup) -> str:
    sizes = sorted(one.sizes.items(), reverse=True)
    if len(sizes) == 1:
        return f"{one.bytes:,} bytes" + (f", {sizes[0][0]:,} each" if one.count > 1 else "")
    shown = ", ".join(f"{count} of {size:,}" for size, count in sizes[:_SHOWN_SIZES])
    return f"{one.bytes:,} bytes: {shown}" + (", …" if len(sizes) > _SHOWN_SIZES else "")


def _allocators(one: SuspectGroup) -> str:
    allocators = one.allocators.most_common()
    shown = [_task(comm, pid) for (comm, pid), _ in allocators[:_SHOWN_ALLOCATORS]]
    more = len(allocators) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def _task(comm: str, pid: int) -> str:
    if pid != UNREAD:
        return f'"{clean(comm)}" (pid {pid})'
    return f'"{clean(comm)}" (pid not told)' if comm else "a task that is not told"


def _when(members: Sequence[Suspect]) -> str:
    ages = [m.age_s for m in members if m.age_s is not None]
    if ages:
        oldest, youngest = max(ages), min(ages)
        return f"; age {youngest:,.1f} s" if oldest == youngest else f"; age {youngest:,.1f} to {oldest:,.1f} s"
    times = [m.jiffies for m in members if m.jiffies != UNREAD]
    if not times:
        return ""
    first, last = min(times), max(times)
    return f"; jiffies {first}" if first == last else f"; jiffies {first} to {last}"


def _objects(count: int) -> str:
    return "1 object" if count == 1 else f"{count:,} objects"
