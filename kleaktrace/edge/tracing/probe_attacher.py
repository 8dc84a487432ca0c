# SPDX-License-Identifier: GPL-2.0-or-later
"""Attaches what the plan offers: of each kind of event the best source that the kernel takes."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Sequence

from kleaktrace.core.events.coverage import Coverage
from kleaktrace.edge.bpf.bpf_object import AttachRefused, BpfObject, Hook
from kleaktrace.edge.tracing.abi import State
from kleaktrace.edge.tracing.probe_plan import EventKind, ProbeSet
from kleaktrace.errors import EnvironmentRefusal

_LOG = logging.getLogger(__name__)


class ProbeAttacher:
    """Loads and attaches programs.

    `left_out`: ways of hooking that are not used, to try a fallback. `refusals`: by kind of event, what the kernel did
    not take, with its reason.
    """

    def __init__(self, bpf: BpfObject, left_out: frozenset[str] = frozenset()) -> None:
        self._bpf = bpf
        self._left_out = left_out
        self.refusals: dict[str, list[str]] = {}

    def attach_all(self, kinds: Sequence[EventKind]) -> tuple[Coverage, ...]:
        """Attach a source for each kind, and say which. Raises `EnvironmentRefusal` if a required one has none."""
        for kind in kinds:
            _LOG.debug("plan: %s: %s", kind.kind, ", else ".join(map(str, kind.sources)) or "nothing on this kernel")
        begun = time.monotonic()
        hooks = self._likely(kinds)
        self._bpf.load_ahead(hooks)
        loaded = time.monotonic()
        _LOG.info("the kernel verified %d programs in %.2f s", len(hooks), loaded - begun)
        coverage = tuple(self._attach(kind) for kind in kinds)
        _LOG.info("attached in %.2f s", time.monotonic() - loaded)
        return coverage

    def watch_tasks(self) -> None:
        """Have the programs remember who allocated last, if the kernel tells when that is no longer right."""
        before = self._bpf.attached
        try:
            for event in ("task_rename", "cgroup_attach_task", "cgroup_transfer_tasks"):
                self._bpf.attach_raw_tracepoint(event, "on_task_change")
        except AttachRefused as refusal:
            self._bpf.detach_to(before)
            _LOG.info("who allocated last is not remembered: %s", refusal)
        else:
            self._bpf.set_words("state", State.TASK_GENERATION, 1)

    def watch_programs(self) -> None:
        """Have it told what processes run. Without, nothing is known but their names."""
        try:
            self._bpf.attach_raw_tracepoint("sched_process_exec", "on_exec")
        except AttachRefused as refusal:
            _LOG.info("what processes run is not told: %s", refusal)

    def _likely(self, kinds: Iterable[EventKind]) -> list[Hook]:
        """What will have to be loaded if the kernel takes the best of each."""
        best = (next(iter(kind.possible(self._left_out)), None) for kind in kinds)
        return [hook for source in best if source for probe in source.probes for hook in probe.hooks]

    def _attach(self, kind: EventKind) -> Coverage:
        refused = self.refusals.setdefault(kind.kind, [])
        for source in kind.possible(self._left_out):
            reason = self._try(source)
            if reason is None:
                _LOG.debug("%s: by %s", kind.kind, source)
                return Coverage(kind.kind, str(source), source.note, source.guard_pages)
            _LOG.info("%s: %s was refused: %s", kind.kind, source, reason)
            refused.append(f"{source}: {reason}")
        if kind.required:
            raise EnvironmentRefusal(
                f"no source for {kind.kind}: {'; '.join(refused) or 'this kernel has no such tracepoint'}",
                "run as root; `kleaktrace doctor` shows what this kernel offers",
            )
        _LOG.info("%s: no source: %s", kind.kind, kind.if_missing)
        return Coverage(kind.kind, None, kind.if_missing)

    def _try(self, source: ProbeSet) -> str | None:
        """Attach all probes of a source; if the kernel refuses one, none of them, and its reason."""
        before = self._bpf.attached
        for probe in source.probes:
            try:
                probe.attach(self._bpf)
            except AttachRefused as refusal:
                self._bpf.detach_to(before)
                return str(refusal)
        return None
