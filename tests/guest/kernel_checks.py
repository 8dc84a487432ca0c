# SPDX-License-Identifier: GPL-2.0-or-later
"""What must hold on every kernel that we say we work on: twelve cases of the lab, and by what they are traced."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from schemas import validated
from verdict_matrix import Phase, run, show

CASES = (
    "leak_kzalloc_1520",
    "leak_slab_object",
    "leak_bulk",
    "leak_vmalloc_5k",
    "leak_kvmalloc_large",
    "leak_percpu",
    "leak_kworker",
    "leak_hardirq_129",
    "kfree_rcu_thousand",
    "bulk_both",
    "freed_vmalloc",
    "unload_forgets",
)


@dataclass(frozen=True)
class Seen:
    """What one boot has brought: the verdicts and the documents, by whether the module was unloaded."""

    phases: dict[str, Phase]
    documents: dict[str, Any]


class KernelChecks:
    """The checks of one kernel; a test class says which, and what is special about it."""

    options: tuple[str, ...] = ()
    """Of tools/guest."""
    unseen_by_kmemleak: frozenset[str] = frozenset()
    """Kinds of leak that its kmemleak does not report while the module is loaded."""
    sources: tuple[tuple[str, str], ...] = ()
    """Kinds of events, and how their sources begin."""

    @pytest.fixture(scope="class")
    @classmethod
    def seen(cls, tmp_path_factory: pytest.TempPathFactory) -> Seen:
        directory: Path = tmp_path_factory.mktemp("kernel")
        phases = run(directory, cls.options, CASES)
        show(phases)
        names = [phase.name for phase in phases]
        documents = {name: json.loads((directory / f"{name}.json").read_text()) for name in names}
        for document in documents.values():
            validated(document)
        return Seen(dict(zip(names, phases, strict=True)), documents)

    @pytest.mark.parametrize("name", ["loaded", "unloaded"])
    def test_nothing_is_lost_and_no_verdict_is_wrong(self, seen: Seen, name: str) -> None:
        phase = seen.phases[name]
        assert seen.documents[name]["loss"]["causes"] == []
        assert phase.lost == 0
        assert phase.outcome == "leaks"
        assert phase.wrong == []
        assert phase.undecided <= 0.02

    def test_every_kind_of_leak_is_found_and_named(self, seen: Seen) -> None:
        assert set(seen.phases["loaded"].missed) == self.unseen_by_kmemleak
        assert seen.phases["unloaded"].missed == []

    def test_each_kind_of_event_has_the_best_source_that_this_kernel_offers(self, seen: Seen) -> None:
        coverage = {one["kind"]: one["source"] for one in seen.documents["loaded"]["coverage"]}
        assert not [kind for kind, source in coverage.items() if source is None]
        for kind, source in self.sources:
            assert coverage[kind].startswith(source)

    def test_stacks_are_recognised_and_never_taken_for_others(self, seen: Seen) -> None:
        for document in seen.documents.values():
            assert document["stack_check"]["wrong"] == 0
            assert document["stack_check"]["unwound"] < document["totals"]["allocations"]

    def test_names_of_tasks_end_where_they_end(self, seen: Seen) -> None:
        for document in seen.documents.values():
            names = {one["comm"] for one in (*document["suspects"], *document["outstanding"]) if one.get("comm")}
            assert "insmod" in names
            assert not [name for name in names if not name.isprintable()]
