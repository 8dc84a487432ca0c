# SPDX-License-Identifier: GPL-2.0-or-later
"""What every round of a repeated command leaves behind, referenced or not: that is a leak."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from kleaktrace.core.evidence.evidence import Rounds, Verdict
from kleaktrace.core.evidence.suspect_cases import ObjectKey, OutstandingAllocation, as_tuples
from kleaktrace.core.repetition.repeated_stacks import StackRounds, rounds_in_words
from kleaktrace.core.repetition.sign_test import Course
from kleaktrace.core.verdicts.judgement import Judgement
from kleaktrace.core.verdicts.unload_rules import Opinion

_RULE = "repetition"


def judge_repeated(
    trial: Judgement, listed: Collection[ObjectKey] = ()
) -> Iterator[tuple[OutstandingAllocation, Opinion, Rounds]]:
    """Judge what the stacks that grow in every round left behind in their rounds.

    listed: what kmemleak lists. Where that is all that grows, the others of its stack are referenced, or were hidden
    from it by chance: those are convicted of which a round has left no more than any does.
    """
    growing = trial.repeated.growing
    rows = list(as_tuples(trial.evidence.ledger.outstanding(growing), OutstandingAllocation)) if growing else []
    unlisted = {**growing, **trial.repeated.growing_without(row for row in rows if row.key in listed)}
    for row in rows:
        whole = growing[row.stack]
        number = whole.round_of(row.time_ns)
        if number is None:
            continue
        rounds = whole if row.key in listed or whole.is_least(number) else unlisted[row.stack]
        if rounds.course is not Course.GROWS:
            continue
        opinion = _opinion(trial, row, rounds, number)
        if opinion is not None:
            said = whole.repetition
            yield row, opinion, Rounds(said.total, said.grew_in, said.per_round)


def _opinion(trial: Judgement, row: OutstandingAllocation, rounds: StackRounds, number: int) -> Opinion | None:
    """What a round's growth says of what it left; None: nothing, as it is there for a reason."""
    if trial.is_bookkeeping(row):
        return None
    rule = trial.kept(row)
    if rule is None or (rule.until_needed and rounds.module_gone):
        return _conviction(trial, row, rounds, number)
    if rule.most_per_processor is None:
        return None
    # So few may still be filling up their place; but nothing else would tell of them.
    said = f"{rounds_in_words(rounds)}, but {rule.reason}; more rounds would tell"
    return Opinion(Verdict.UNDECIDED, said, rule=_RULE)


def _conviction(trial: Judgement, row: OutstandingAllocation, rounds: StackRounds, number: int) -> Opinion:
    words = rounds_in_words(rounds)
    unseen = trial.unseen_free(row)
    if unseen and not trial.tracked(row):
        return Opinion(Verdict.UNDECIDED, f"{words}, but {unseen}", rule=_RULE)
    known = trial.stacks.of(row.stack)
    if trial.evidence.clock.end.time_ns - rounds.first_left_ns < known.old_enough_ns:
        lifetimes = known.lifetimes
        siblings = f"{lifetimes.freed} siblings were freed, one after {lifetimes.longest_ns / 1e9:.1f} s"
        return Opinion(Verdict.UNDECIDED, f"{words}, but {siblings}: the rounds are too short to tell", rule=_RULE)
    if not rounds.is_certain(number):
        return Opinion(
            Verdict.UNDECIDED,
            f"{words}; this round left {int(rounds.left[number])}, and which of them the others will not tell",
            rule=_RULE,
        )
    return Opinion(Verdict.CONFIRMED, f"{words}; a cache would have levelled off", rule=_RULE)
