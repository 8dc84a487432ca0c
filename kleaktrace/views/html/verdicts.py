# SPDX-License-Identifier: GPL-2.0-or-later
"""The part of the page that needs no script: the answer, each verdict with its evidence, and what could be seen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from kleaktrace.core.evidence.evidence import JudgedSuspect, Verdict
from kleaktrace.core.leaked_objects.leaks import Leak, leaks, stack_key
from kleaktrace.core.overview.stack_overview import NOT_SEEN, StackOverview
from kleaktrace.core.report import Outcome, Report
from kleaktrace.core.source_lines.source_lines import SourceLines
from kleaktrace.core.symbols.call_stacks import requester_words
from kleaktrace.views.html.markup import NOTHING, Html, element, joined, text
from kleaktrace.views.terminal import growing, units
from kleaktrace.views.terminal.frames import frame_lines
from kleaktrace.views.terminal.held import held_words
from kleaktrace.views.terminal.known import known_words, not_counted
from kleaktrace.views.terminal.report import ending, why_not_clean
from kleaktrace.views.terminal.suspect_words import ages, grouped, missed_free, sibling_words, what, who

_MOST_CARDS = 200
"""Of each verdict. A page with more of them would be read by nobody."""

_MOST_DISMISSED = 50
_MOST_REASONS = 3
_MOST_SITES = 8


def answer(report: Report) -> Html:
    """The verdict on the session in a sentence, and what it is on."""
    counts, known = Counter(suspect.verdict for suspect in report.suspects), not_counted(report.known)
    confirmed = [s for s in report.suspects if s.verdict is Verdict.CONFIRMED]
    match report.outcome:
        case Outcome.LEAKS:
            stacks = len({suspect.stack for suspect in confirmed})
            size = units.size(sum(suspect.size for suspect in confirmed))
            words = f"{units.count(len(confirmed), 'leaked object')}, {size}, from {units.count(stacks, 'call stack')}"
        case Outcome.CLEAN:
            what = "Clean but for what is known: nothing else" if known else "Clean: nothing"
            words = f"{what} leaked, and nothing is left unexplained"
        case Outcome.INCOMPLETE:
            words = f"Incomplete: nothing is confirmed, but {why_not_clean(report)}"
    summary = ", ".join(f"{counts[verdict]:,} {verdict}" for verdict in Verdict) + known
    return element(
        "header",
        element("h1", words, class_=f"outcome {report.outcome}"),
        element("p", _session(report), class_="session"),
        element("p", f"Suspects: {summary}.", class_="session"),
        _command(report),
        *(element("p", f"Evidence incomplete: {gap}", class_="gap") for gap in report.gaps),
        *(element("p", f"Memory is missing: {missing}", class_="gap") for missing in report.findings.missing),
        *(element("p", f"Known, not counted: {words}", class_="gap") for words in known_words(report)),
    )


def _session(report: Report) -> str:
    totals = report.totals
    return (
        f"Linux {report.kernel.release} {report.kernel.arch}, {report.window.start:%Y-%m-%d %H:%M:%S %Z}, "
        f"traced for {units.seconds(report.window.seconds)}: {units.count(totals.allocations, 'allocation')}, "
        f"{units.count(totals.frees, 'free')}, {totals.outstanding:,} outstanding "
        f"({units.size(totals.outstanding_bytes)}). "
        f"Lost: {units.count(report.loss.events, 'event') if report.loss.events else 'nothing'}."
    )


def _command(report: Report) -> Html:
    command = report.command
    if command is None:
        return NOTHING
    told = [f"run {command.runs} times"] if command.runs > 1 else []
    if command.timed_out:
        told.append("ended because its time was up")
    elif command.status:
        told.append(f"failed: {ending(command.status)}")
    words = f" ({', '.join(told)})" if told else ""
    return element("p", "Command: ", element("code", " ".join(command.arguments)), words, class_="session")


def verdicts(report: Report, overview: StackOverview) -> Html:
    """All verdicts, the worst first, each with its evidence."""
    found = leaks(report.suspects, report.findings.anatomy)
    known = {leak.stack: leak for leak in found}
    stack_of = {id(suspect): number for suspect, number in zip(report.suspects, overview.of_suspects, strict=True)}

    def cards(verdict: Verdict, explained: bool = False, most: int = _MOST_CARDS) -> Iterator[Html]:
        chosen = [s for s in report.suspects if s.verdict is verdict and _is_explained(s) is explained]
        groups = grouped(chosen, list(known))
        for group in groups[:most]:
            leak = known.get(group[0].stack) if verdict is Verdict.CONFIRMED else None
            yield _card(group, leak, stack_of[id(group[0])], report.source_lines)
        if len(groups) > most:
            yield element("p", f"… and {len(groups) - most:,} more call stacks (--json has all)", class_="more")

    undecided = [*cards(Verdict.UNDECIDED)]
    kept = [*cards(Verdict.UNDECIDED, explained=True, most=_MOST_DISMISSED)]
    dismissed = [*cards(Verdict.DISMISSED, most=_MOST_DISMISSED)]
    return joined(
        [
            _section("Confirmed", [*cards(Verdict.CONFIRMED)], "Leaks, the causes first."),
            _section("Undecided", undecided, "The evidence does not suffice."),
            _section("Growing", [*_growing(report, overview)], growing.meaning(report.growing)),
            _folded("Kept on purpose", kept, "The kernel keeps these, and says so by its code."),
            _folded("Dismissed", dismissed, "Listed by kmemleak, and no leaks."),
        ]
    )


def _is_explained(suspect: JudgedSuspect) -> bool:
    return suspect.verdict is Verdict.UNDECIDED and not suspect.counts_against_clean and suspect.in_window


def _section(title: str, cards: Sequence[Html], meaning: str) -> Html:
    if not cards:
        return NOTHING
    return element("section", element("h2", title), element("p", meaning, class_="meaning"), *cards, class_="verdicts")


def _folded(title: str, cards: Sequence[Html], meaning: str) -> Html:
    if not cards:
        return NOTHING
    head = element("summary", element("h2", title), f" {units.count(len(cards), 'call stack')}")
    return element("details", head, element("p", meaning, class_="meaning"), *cards, class_="verdicts")


def _card(group: Sequence[JudgedSuspect], leak: Leak | None, stack: int, sources: SourceLines) -> Html:
    first = group[0]
    facts = [
        ("what", what(group)),
        ("who", f"{who(first)}, {ages(group)} ago"),
        *(("why", reason) for reason in list(dict.fromkeys(s.reason for s in group))[:_MOST_REASONS]),
        *_sibling_facts(first),
        *_anatomy_facts(leak),
        *(("look at", str(hint)) for hint in (*first.contrasts, *missed_free(first))),
        ("stack id", stack_key(first.stack)),
    ]
    size = sum(suspect.size for suspect in group)
    figures = f"{units.count(len(group), 'object')}, {units.size(size)}"
    lines = _with_sources(first.stack, sources)
    return _article(str(first.verdict), requester_words(first.stack), figures, facts, (lines, stack))


def _article(
    kind: str, title: str, figures: str, facts: Sequence[tuple[str, str]], stack: tuple[Sequence[str], int]
) -> Html:
    lines, number = stack
    button = element("button", "survival, timeline", type="button", data_stack=number, class_="show")
    return element(
        "article",
        element(
            "h3",
            element("span", kind, class_=f"chip {kind}"),
            element("code", title),
            element("span", figures, class_="figures"),
            NOTHING if number == NOT_SEEN else button,
        ),
        element("div", _facts(facts), _stack(lines), class_="evidence"),
        class_=kind,
    )


def _with_sources(stack: Sequence[str], sources: SourceLines) -> Sequence[str]:
    return [line for frame in stack for line in frame_lines(frame, sources)]


def _stack(lines: Sequence[str]) -> Html:
    return element("pre", Html("\n".join(map(text, lines or ["no call stack"]))), tabindex=0)


def _facts(facts: Sequence[tuple[str, str]]) -> Html:
    rows, before = [], ""
    for name, words in facts:
        rows.append(joined([element("dt", "" if name == before else name), element("dd", words)]))
        before = name
    return element("dl", *rows)


def _sibling_facts(suspect: JudgedSuspect) -> Iterator[tuple[str, str]]:
    siblings = suspect.siblings
    if siblings.allocated:
        yield "siblings", sibling_words(suspect.siblings)
    for site, count in siblings.free_sites[:_MOST_SITES]:
        yield "freed at", f"{site}: {count:,}"
    if len(siblings.free_sites) > _MOST_SITES:
        yield "freed at", f"{len(siblings.free_sites) - _MOST_SITES} more places"


def _anatomy_facts(leak: Leak | None) -> Iterator[tuple[str, str]]:
    if leak is None:
        return
    if leak.rounds is not None:
        rounds = leak.rounds
        yield "rounds", f"{rounds.per_round:g} more in each; {rounds.grew_in} of {rounds.total} rounds grew"
    if leak.cause is not None and leak.cause.group.held:
        yield "holds", held_words(leak.cause.group, leak.cause.requester)
    if leak.hangs_on:
        yield "hangs on", f"what {leak.hangs_on} allocated"
    for note in leak.notes:
        yield "in them", note


def _growing(report: Report, overview: StackOverview) -> Iterator[Html]:
    number_of_key = {key: number for number, keys in enumerate(overview.keys) for key in keys} if report.growing else {}
    for one in report.growing[:_MOST_CARDS]:
        lines = one.lines()
        facts = [("how fast", growing.words(one, report.now_ns))]
        if one.listed:
            facts.append(("kmemleak", f"lists {one.listed:,} of them"))
        facts.append(("stack id", stack_key(lines)))
        figures = f"+{units.size(one.growing.bytes_per_s)}/s"
        number = number_of_key.get(one.growing.stack, NOT_SEEN)
        told = _with_sources(lines, report.source_lines)
        yield _article("growing", requester_words(lines), figures, facts, (told, number))


def evidence(report: Report) -> Html:
    """What could be seen and what not, what was lost, and why."""
    coverage = [
        element(
            "tr",
            element("td", str(one.kind)),
            element("td", one.source or "not seen", class_="" if one.source else "missing"),
            element("td", one.note),
        )
        for one in report.coverage
    ]
    heads = [element("th", name, scope="col") for name in ("events", "seen by", "note")]
    table = element("table", element("thead", element("tr", *heads)), element("tbody", *coverage), class_="coverage")
    return element(
        "details",
        element("summary", element("h2", "What could be seen")),
        element("ul", *(element("li", words) for words in _footnotes(report))),
        table if coverage else NOTHING,
    )


def _footnotes(report: Report) -> Iterator[str]:
    totals, loss, check = report.totals, report.loss, report.stack_check
    sentences: list[tuple[int, Callable[[], str]]] = [
        (loss.events == 0, lambda: "No event was lost."),
        (totals.implied_frees, lambda: _implied(report)),
        (loss.stacks, lambda: f"{units.count(loss.stacks, 'stack')} could not be taken."),
        (loss.names, lambda: f"{units.count(loss.names, 'name')} lost."),
        (check.checked, lambda: f"Stack check: {check.wrong:,} wrong of {check.checked:,}."),
    ]
    yield from map(_sentence, report.source_lines.missing)
    yield from (f"Lost: {lost.events:,} {lost.cause}." for lost in loss.causes)
    yield from (sentence() for number, sentence in sentences if number)
    if report.findings.settled is not None:
        yield str(report.findings.settled)
    if report.growing_kept:
        yield _sentence(growing.kept_words(report.growing_kept))


def _sentence(words: str) -> str:
    return f"{words[0].upper()}{words[1:]}."


def _implied(report: Report) -> str:
    of = ", ".join(f"{count:,} {cache}" for cache, count in report.implied_from[:_MOST_SITES])
    frees = f"{units.count(report.totals.implied_frees, 'free')} not seen, but implied by reuse of the memory"
    return f"{frees}: {of}." if of else f"{frees}."
