# SPDX-License-Identifier: GPL-2.0-or-later
"""The report people read: what was seen, the verdicts with their evidence, what to do next."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from rich.console import Console

from kleaktrace.core.events.coverage import CoverageKind
from kleaktrace.core.evidence.evidence import JudgedSuspect, SuspectSource, Verdict
from kleaktrace.core.leaked_objects.leaks import Leak, leaks
from kleaktrace.core.machine.unexplained_memory import MissingMemory
from kleaktrace.core.report import CommandResult, Outcome, Report
from kleaktrace.core.source_lines.source_lines import SourceLines
from kleaktrace.core.symbols.call_stacks import requester_words
from kleaktrace.views.terminal import growing, known, units
from kleaktrace.views.terminal.console import print_line
from kleaktrace.views.terminal.frames import frame_lines
from kleaktrace.views.terminal.held import held_words
from kleaktrace.views.terminal.suspect_words import ages, grouped, missed_free, sibling_words, what, who
from kleaktrace.views.verdict_styles import VERDICT_STYLES

_FRAMES = 12
_MANY_GROUPS = 20
_FEW = 4


def show(console: Console, report: Report) -> None:
    """The whole report of a session that judged suspects: first the answer, then what it rests on."""
    found = leaks(report.suspects, report.findings.anatomy)
    show_leaks(console, found)
    header(console, report)
    explained, others = _apart(report.suspects, lambda s: not s.counts_against_clean and s.in_window)
    for verdict in Verdict:
        _show_suspects(console, report, verdict, [s for s in others if s.verdict is verdict], found)
    _show_explained(console, explained)
    if report.growing:
        console.print()
        found_growing = growing.lines(report.growing, report.now_ns, _FRAMES, sources=report.source_lines)
        console.print(found_growing, soft_wrap=True)
    if report.growing_kept:
        print_line(console, growing.kept_words(report.growing_kept), "dim")
    known.show(console, report)
    for missing in report.findings.missing:
        print_line(console, f"memory is missing: {missing}", "yellow")
        if missing.name is MissingMemory.PAGES and not traces_pages(report):
            print_line(console, "  whose pages they are: kleaktrace run --pages -- CMD", "yellow")
    for sentence in report.source_lines.missing:
        print_line(console, sentence, "dim")
    for gap in report.gaps:
        print_line(console, f"evidence incomplete: {gap}", "yellow")
    if report.outcome is Outcome.CLEAN and not report.known and (report.command is None or report.command.runs == 1):
        _show_still_allocated(console, report)
    _show_outcome(console, report)


def show_leaks(console: Console, found: Sequence[Leak]) -> None:
    """One line for each leak that is a cause of its own, and one for all that hang on those."""
    causes, hanging = [leak for leak in found if not leak.hangs_on], [leak for leak in found if leak.hangs_on]
    by_function: dict[tuple[str, ...], list[Leak]] = {}
    for leak in causes:
        by_function.setdefault((leak.module, leak.requester, leak.function), []).append(leak)
    for alike in list(by_function.values())[:_MANY_GROUPS]:
        print_line(console, f"LEAK {leak_words(alike)}", "bold red")
    if len(by_function) > _MANY_GROUPS:
        print_line(console, f"… and {len(by_function) - _MANY_GROUPS} more leaks", "bold red")
    if hanging:
        objects = units.count(sum(leak.objects for leak in hanging), "object")
        on = "these" if causes else "what is known"
        print_line(console, f"  ({objects} of {units.count(len(hanging), 'other call stack')} hang on {on})", "red")
    if found:
        console.print()


def leak_words(alike: Sequence[Leak]) -> str:
    """Module, requester, function, objects, bytes, how much with each round, and what convicts them.

    `alike` are leaks of one requester on behalf of one function, at as many places in them.
    """
    first = alike[0]
    who = first.requester or "an unnamed function"
    if first.function and first.function != first.requester:
        who += f", for {first.function}"
    objects, size = sum(leak.objects for leak in alike), sum(leak.bytes for leak in alike)
    amount = f"{units.count(objects, 'object')}, {units.size(size)}"
    if len(alike) > 1:
        amount += f", at {len(alike)} places"
    per_round = sum(leak.rounds.per_round for leak in alike if leak.rounds)
    if per_round:
        # Of what core code keeps for whoever asks (skbs, nodes of an index) rounds tell nothing.
        least = "" if all(leak.rounds for leak in alike) else "at least "
        each_round = (leak.rounds.per_round * leak.bytes / leak.objects for leak in alike if leak.rounds)
        size_of_round = units.size(round(sum(each_round)))  # as the total: without what hangs on it
        amount += f", {least}{per_round:g} per round ({size_of_round})"
    sources = sorted({source for leak in alike for source in leak.sources})
    words = f"{first.module or 'kernel'}: {who}: {amount}: confirmed by {' and '.join(sources)}"
    held = [held_words(leak.cause.group, leak.cause.requester) for leak in alike if leak.cause]
    return "; ".join([words, *filter(None, dict.fromkeys(held))])


def _show_still_allocated(console: Console, report: Report) -> None:
    """What a single run says nothing of: what modules have, and something points to."""
    objects, size = Counter[str](), 0
    of_gone = {suspect.stack for suspect in report.suspects if suspect.source == SuspectSource.UNLOAD}
    for group in report.outstanding:
        asked = group.stack.requester
        # What vmalloc and the per-CPU allocator give out comes through their inside, as what they take for themselves.
        is_of_books = group.stack.below_machinery and group.cache not in ("vmalloc", "percpu")
        if asked is None or not asked.module or group.reclaimable or is_of_books:
            continue
        if tuple(group.stack.lines()) not in of_gone:
            objects[asked.module] += group.count
            size += group.bytes
    if objects:
        total = f"{units.count(sum(objects.values()), 'object')} of {', '.join(sorted(objects))}, {units.size(size)}"
        print_line(console, f"still allocated by modules: {total}; what of it leaks, --repeat tells", "dim")


def _apart(
    suspects: Sequence[JudgedSuspect], is_first: Callable[[JudgedSuspect], bool]
) -> tuple[list[JudgedSuspect], list[JudgedSuspect]]:
    """Those of which it is true, and the others."""
    return [s for s in suspects if is_first(s)], [s for s in suspects if not is_first(s)]


def _show_explained(console: Console, suspects: Sequence[JudgedSuspect]) -> None:
    """What is kept on purpose, in one line."""
    if suspects:
        rules = Counter(s.rule for s in suspects)
        each = ", ".join(f"{count:,} {rule}" for rule, count in rules.most_common())
        console.print()
        print_line(console, f"kept on purpose, says nothing: {units.count(len(suspects), 'object')} ({each})", "dim")


def header(console: Console, report: Report) -> None:
    """What was traced, for how long, and what could not be seen."""
    totals = report.totals
    print_line(
        console,
        f"kernel {report.kernel.release} {report.kernel.arch}, traced for {units.seconds(report.window.seconds)}: "
        f"{units.count(totals.allocations, 'allocation')}, {units.count(totals.frees, 'free')}, "
        f"{totals.outstanding:,} outstanding ({units.size(totals.outstanding_bytes)})",
        "bold",
    )
    footnotes = [f"{lost.events:,} {lost.cause}" for lost in report.loss.causes]
    if totals.implied_frees:
        of = ", ".join(f"{count:,} {cache}" for cache, count in report.implied_from[:_FEW])
        frees = f"{units.count(totals.implied_frees, 'free')} not seen, but implied by reuse of the memory"
        footnotes.append(f"{frees}: {of}" if of else frees)
    if report.loss.stacks:
        footnotes.append(f"{units.count(report.loss.stacks, 'stack')} could not be taken")
    if report.loss.names:
        footnotes.append(f"{units.count(report.loss.names, 'name')} lost")
    check = report.stack_check
    if check.checked:
        footnotes.append(f"stack check: {check.wrong:,} wrong of {check.checked:,}")
    lost = report.loss.events
    print_line(console, f"lost: {units.count(lost, 'event') if lost else 'nothing'}", "bold yellow" if lost else "")
    for footnote in footnotes:
        print_line(console, f"  {footnote}", "dim")
    for coverage in report.coverage:
        if coverage.source is None:
            print_line(console, f"not covered: {coverage.kind}: {coverage.note}", "dim")
    if report.command is not None:
        _command(console, report.command)
    if report.findings.settled is not None:
        print_line(console, f"{report.findings.settled}", "dim")


def _command(console: Console, command: CommandResult) -> None:
    """What there is to say of how the command went."""
    if command.runs > 1:
        print_line(console, f"the command was run {command.runs} times")
    if command.timed_out:
        print_line(console, "the command was ended: its time was up", "yellow")
    elif command.status:
        which = f"{command.failed_runs} of {command.runs} runs" if command.runs > 1 else "the command"
        print_line(console, f"{which} failed: {ending(command.status)}", "yellow")


def ending(status: int) -> str:
    """How a command ended that did not end well."""
    return f"killed by signal {-status}" if status < 0 else f"exit status {status}"


def _show_suspects(
    console: Console, report: Report, verdict: Verdict, suspects: Sequence[JudgedSuspect], found: Sequence[Leak]
) -> None:
    if not suspects:
        return
    leak_of = {leak.stack: leak for leak in found}
    groups = grouped(suspects, list(leak_of))
    total = sum(s.size for s in suspects)
    console.print()
    print_line(
        console, f"{verdict}: {units.count(len(suspects), 'object')}, {units.size(total)}", VERDICT_STYLES[verdict]
    )
    for group in groups[:_MANY_GROUPS]:
        leak = leak_of.get(group[0].stack) if verdict is Verdict.CONFIRMED else None
        show_group(console, group, leak, report.source_lines)
    if len(groups) > _MANY_GROUPS:
        print_line(console, f"  … and {len(groups) - _MANY_GROUPS} more call stacks (--json has all)", "dim")


def show_group(console: Console, group: Sequence[JudgedSuspect], leak: Leak | None, sources: SourceLines) -> None:
    """Suspects of one call stack with their evidence. leak: what they are, if they are confirmed."""
    first = group[0]
    console.print()
    print_line(console, f"  {requester_words(first.stack)}: {what(group)}")
    print_line(console, f"    by {who(first)}, {ages(group)} ago")
    for reason in dict.fromkeys(s.reason for s in group[:3]):
        print_line(console, f"    {first.verdict}: {reason}", VERDICT_STYLES[first.verdict])
    siblings = first.siblings
    if siblings.allocated:
        print_line(console, f"    {sibling_words(first.siblings)}")
    if leak is not None and leak.hangs_on:
        print_line(console, f"    hangs on what {leak.hangs_on} allocated")
    for note in leak.notes if leak is not None else ():
        print_line(console, f"    in them: {note}")
    for hint in (*first.contrasts, *missed_free(first)):
        print_line(console, f"    look at: {hint}", "bold")
    for frame in first.stack[:_FRAMES]:
        for line in frame_lines(frame, sources):
            print_line(console, f"      {line}")
    if len(first.stack) > _FRAMES:
        print_line(console, f"      … {len(first.stack) - _FRAMES} more", "dim")


def _show_outcome(console: Console, report: Report) -> None:
    console.print()
    counts = {verdict: sum(s.verdict is verdict for s in report.suspects) for verdict in Verdict}
    summary = ", ".join(f"{counts[verdict]} {verdict}" for verdict in Verdict)
    summary += _why_undecided(report.suspects)
    summary += known.not_counted(report.known)
    match report.outcome:
        case Outcome.LEAKS:
            print_line(console, f"LEAKS: {summary}", "bold red")
        case Outcome.CLEAN:
            print_line(console, f"clean: {summary}", "bold green")
        case Outcome.INCOMPLETE:
            print_line(console, f"incomplete: {summary}; nothing is confirmed, but {why_not_clean(report)}", "yellow")
            # After rounds, the reasons say what would decide.
            if report.command is not None and report.command.runs == 1 and not report.gaps:
                print_line(
                    console,
                    "  to decide it: kleaktrace run --repeat 10 -- CMD (CMD must undo what it does)",
                    "yellow",
                )


def _why_undecided(suspects: Sequence[JudgedSuspect]) -> str:
    """Of the undecided, which do not stand in the way of "clean", in parentheses; empty: none."""
    undecided = [s for s in suspects if s.verdict is Verdict.UNDECIDED]
    unimportant = [s for s in undecided if not s.counts_against_clean]
    kept, older = (len(apart) for apart in _apart(unimportant, lambda s: s.in_window))
    why = [(kept, "kept on purpose"), (older, "from before")]
    words = [words if count == len(undecided) else f"{count} {words}" for count, words in why if count]
    return f" ({', '.join(words)})" if words else ""


def traces_pages(report: Report) -> bool:
    """Whether it was asked to."""
    return any(coverage.kind is CoverageKind.PAGES for coverage in report.coverage)


def why_not_clean(report: Report) -> str:
    """What stands in the way."""
    left = sum(s.verdict is Verdict.UNDECIDED and s.counts_against_clean for s in report.suspects)
    growing_stacks = len(report.growing)
    reasons = [
        f"{units.count(left, 'object')} of the window {'is' if left == 1 else 'are'} not explained" if left else "",
        f"{units.count(growing_stacks, 'call stack')} kept growing" if growing_stacks else "",
        "memory is missing" if report.findings.missing else "",
        "not everything could be seen" if report.gaps else "",
    ]
    return ", ".join(filter(None, reasons))
