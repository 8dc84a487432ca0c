# SPDX-License-Identifier: GPL-2.0-or-later
"""The evidence of a judgement, and what is worked out from it once for all suspects."""

from __future__ import annotations

from dataclasses import dataclass

from kleaktrace.core.events.coverage import CoverageKind
from kleaktrace.core.events.records import Context, Kind, context_told, hide
from kleaktrace.core.evidence.evidence import Evidence, Question
from kleaktrace.core.evidence.stack_evidence import StackEvidence
from kleaktrace.core.evidence.suspect_cases import OutstandingAllocation
from kleaktrace.core.kept_on_purpose import Rule, is_bookkeeping, rule_for_row
from kleaktrace.core.repetition.repeated_stacks import RepeatedStacks

_OF_SLABS = {
    CoverageKind.SLAB_BULK_FREE: "bulk free (kfree_rcu)",
    CoverageKind.SLAB_SHEAF_FREE: "kfree_rcu, which collects in sheaves,",
    CoverageKind.SLAB_RCU_FREE: "kfree_rcu, which collects nothing here,",
}
_OPTIONAL_FREES: dict[int, dict[CoverageKind, str]] = {
    Kind.KMALLOC: _OF_SLABS,
    Kind.CACHE: _OF_SLABS,
    Kind.VMALLOC: {CoverageKind.VFREE: "vfree"},
}
"""Ways of freeing that not every kernel shows, though it shows the allocations, in words."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the rules ask."""

    evidence: Evidence
    stacks: StackEvidence
    repeated: RepeatedStacks

    def age_ns(self, row: OutstandingAllocation) -> int:
        """How old an allocation is."""
        return self.evidence.clock.end.time_ns - row.time_ns

    def context(self, row: OutstandingAllocation) -> Context:
        """What the CPU was doing; where the event does not say, the stack may."""
        return context_told(row.context, self.stacks.of(row.stack).context)

    def cache(self, row: OutstandingAllocation) -> str:
        """Where an allocation came from."""
        return self.evidence.names.cache(row.kind, row.cache, row.bytes_alloc)

    def arguments(self, row: OutstandingAllocation) -> tuple[str, ...]:
        """Of the program that allocated it; none: not known."""
        return self.evidence.names.programs.arguments(row.tgid, row.time_ns)

    def tracked(self, row: OutstandingAllocation) -> bool | None:
        """Whether kmemleak still has it; None: it was not asked, or can't tell."""
        return self.evidence.answers.get(Question(hide(row.object), row.kind, row.jiffies))

    def kept(self, row: OutstandingAllocation) -> Rule | None:
        """The rule by which core code keeps it on purpose, and as many as are outstanding from its call stack."""
        rule = rule_for_row(self.evidence.names, row.kind, row.cache, row.bytes_alloc, row.stack, row.gfp_flags)
        alike = self.stacks.of(row.stack).siblings.outstanding if row.stack else 1
        return rule if rule and rule.keeps(alike, self.evidence.processors) else None

    def is_bookkeeping(self, row: OutstandingAllocation) -> bool:
        """Whether this is what an allocator took to describe what it gave out: see `kept_on_purpose.is_bookkeeping`."""
        return is_bookkeeping(row.kind, self.evidence.names.stacks.get(row.stack))

    def unseen_free(self, row: OutstandingAllocation) -> str:
        """How it may have been freed unseen on this kernel, with the figure; empty: its free would have been seen."""
        ways = _OPTIONAL_FREES.get(row.kind, {})
        unseen = [words for kind, words in ways.items() if self.evidence.misses(kind)]
        if not unseen:
            return ""
        implied = self.evidence.ledger.implied_frees_by_cache.get(row.cache, 0)
        return (
            f"a {unseen[0]} could not have been seen on this kernel, where {implied:,} frees of such objects "
            "showed only when their memory was used again"
        )
