# SPDX-License-Identifier: GPL-2.0-or-later
"""The JSON document of a report: a public contract, to which fields are only ever added.

`schema.json` says the same for programs. Every field is named here, so that a change of our own types changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kleaktrace.core.evidence.contrasts import Contrast
from kleaktrace.core.evidence.evidence import JudgedSuspect, Rounds
from kleaktrace.core.grouping.group_labels import GroupBy, label
from kleaktrace.core.grouping.outstanding_groups import AllocationGroup
from kleaktrace.core.growth.growing_stacks import GrowingStack
from kleaktrace.core.leaked_objects.leaks import Leak, leaks, stack_key
from kleaktrace.core.machine.settling import Settled
from kleaktrace.core.report import KnownFindings, Report
from kleaktrace.core.source_lines.source_lines import KERNEL, NO_SOURCE_LINES, SourceLines
from kleaktrace.core.symbols.call_stacks import requester_words
from kleaktrace.views.documents.known import known_fields
from kleaktrace.views.documents.source_lines import source_fields

SCHEMA = 1


def document(report: Report) -> dict[str, Any]:
    """The report as plain values. Times are seconds from the start of the window where they are not ages."""
    start_ns, seconds = report.window.start_ns, report.window.seconds
    end_ns, sources = report.now_ns, report.source_lines
    return {
        "schema": SCHEMA,
        "kernel": {"release": report.kernel.release, "arch": report.kernel.arch},
        "window": {"start": report.window.start.isoformat(), "seconds": round(seconds, 3)},
        "coverage": [{"kind": str(c.kind), "source": c.source, "note": c.note} for c in report.coverage],
        "loss": {
            "events": report.loss.events,
            "stacks": report.loss.stacks,
            "names": report.loss.names,
            "causes": [{"cause": lost.cause, "events": lost.events} for lost in report.loss.causes],
            "windows": [
                [round((w.from_ns - start_ns) / 1e9, 3), round((w.to_ns - start_ns) / 1e9, 3)]
                for w in report.loss.windows
            ],
        },
        "stack_check": {
            "unwound": report.stack_check.unwound,
            "checked": report.stack_check.checked,
            "wrong": report.stack_check.wrong,
        },
        "totals": {
            "allocations": report.totals.allocations,
            "frees": report.totals.frees,
            "outstanding": report.totals.outstanding,
            "outstanding_bytes": report.totals.outstanding_bytes,
            "implied_frees": report.totals.implied_frees,
            "unknown_frees": report.totals.unknown_frees,
        },
        "implied_from": [{"cache": cache, "frees": count} for cache, count in report.implied_from],
        "suspects": [suspect_fields(suspect) | source_fields(suspect.stack, sources) for suspect in report.suspects],
        "growing": [_growing(one, end_ns) | source_fields(one.lines(), sources) for one in report.growing],
        "growing_kept": [_growing(one, end_ns) | source_fields(one.lines(), sources) for one in report.growing_kept],
        "outstanding": outstanding(report.outstanding, end_ns, sources),
        "gaps": list(report.gaps),
        "command": None
        if report.command is None
        else {"arguments": list(report.command.arguments), "status": report.command.status},
        "runs": None
        if report.command is None
        else {
            "total": report.command.runs,
            "failed": report.command.failed_runs,
            "timed_out": report.command.timed_out,
        },
        "leaks": [
            _leak(leak) | source_fields(leak.stack, sources) for leak in leaks(report.suspects, report.findings.anatomy)
        ],
        "settled": _settled(report.findings.settled),
        "missing": [
            {
                "name": str(one.name),
                "bytes": one.bytes,
                "meaning": one.meaning,
                "sites": [list(site) for site in one.sites],
            }
            for one in report.findings.missing
        ],
        "source_lines_missing": list(sources.missing),
        "build_ids": {
            "kernel": report.build_ids.get(KERNEL),
            "modules": {name: one for name, one in sorted(report.build_ids.items()) if name != KERNEL},
        },
        "known": [_known(one, report) for one in report.known],
        "verdict": str(report.outcome),
    }


def _known(one: KnownFindings, report: Report) -> dict[str, Any]:
    sources = report.source_lines
    return known_fields(one.known, report.known_file) | {
        "suspects": [suspect_fields(suspect) | source_fields(suspect.stack, sources) for suspect in one.suspects],
        "growing": [_growing(each, report.now_ns) | source_fields(each.lines(), sources) for each in one.growing],
    }


def outstanding(
    groups: Sequence[AllocationGroup], now_ns: int, sources: SourceLines = NO_SOURCE_LINES
) -> list[dict[str, Any]]:
    """Groups of outstanding allocations, in their order."""
    return [
        {
            "stack": g.stack.lines(),
            "key": stack_key(g.stack.lines()),
            "requester": label(g.stack, GroupBy.REQUESTER),
            "reclaimable": g.reclaimable,
            "count": g.count,
            "bytes": g.bytes,
            "oldest_s": round(max(now_ns - g.oldest_ns, 0) / 1e9, 3),
            "cache": g.cache,
            "context": g.context,
            "comm": g.comm,
        }
        | source_fields(g.stack.lines() if sources else (), sources)
        for g in groups
    ]


def _growing(one: GrowingStack, now_ns: int) -> dict[str, Any]:
    growing = one.growing
    return {
        "stack": one.lines(),
        "key": stack_key(one.lines()),
        "requester": requester_words(one.lines()),
        "outstanding": growing.outstanding,
        "bytes": growing.bytes,
        "bytes_per_s": round(growing.bytes_per_s, 3),
        "ci95": [round(end, 3) for end in growing.ci95],
        "leak_fraction": round(growing.leak_fraction, 6),
        "leak_fraction_ci95": [round(end, 6) for end in growing.leak_fraction_ci95],
        "for_s": round(max(now_ns - growing.since_ns, 0) / 1e9, 3),
        "ended_s_ago": None if growing.until_ns is None else round(max(now_ns - growing.until_ns, 0) / 1e9, 3),
        "context": one.context,
        "comm": one.comm,
        "cache": one.cache,
        "listed": one.listed,
        "kept": one.kept,
    }


def suspect_fields(suspect: JudgedSuspect) -> dict[str, Any]:
    """A suspect with its evidence."""
    siblings = suspect.siblings
    return {
        "source": str(suspect.source),
        "address": f"{suspect.address:#x}",
        "size": suspect.size,
        "bytes_req": suspect.bytes_req,
        "bytes_alloc": suspect.bytes_alloc,
        "verdict": str(suspect.verdict),
        "reason": suspect.reason,
        "age_s": round(suspect.age_s, 3),
        "comm": suspect.comm,
        "pid": suspect.pid,
        "arguments": list(suspect.arguments),
        "context": suspect.context.name.lower(),
        "cache": suspect.cache,
        "stack": list(suspect.stack),
        "siblings": {
            "allocated": siblings.allocated,
            "freed": siblings.freed,
            "outstanding": siblings.outstanding,
            "outstanding_bytes": siblings.outstanding_bytes,
            "median_lifetime_s": siblings.median_lifetime_s,
            "free_sites": [{"site": site, "count": count} for site, count in siblings.free_sites],
        },
        "contrasts": [_contrast(contrast) for contrast in suspect.contrasts],
        "freed": None if suspect.freed is None else {"after_s": suspect.freed.after_s, "site": suspect.freed.site},
        "in_window": suspect.in_window,
        "counts_against_clean": suspect.counts_against_clean,
        "rule": suspect.rule,
        "key": stack_key(suspect.stack),
        "requester": requester_words(suspect.stack),
    } | ({} if suspect.rounds is None else {"rounds": _rounds(suspect.rounds)})


def _contrast(contrast: Contrast) -> dict[str, Any]:
    return {
        "trait": contrast.trait,
        "value": contrast.value,
        "leaked": contrast.leaked,
        "leaked_of": contrast.leaked_of,
        "freed": contrast.freed,
        "freed_of": contrast.freed_of,
        "by_chance": contrast.by_chance,
        "also": [list(pair) for pair in contrast.also],
    }


def _rounds(rounds: Rounds) -> dict[str, Any]:
    return {"total": rounds.total, "grew_in": rounds.grew_in, "per_round": rounds.per_round}


def _settled(settled: Settled | None) -> dict[str, Any] | None:
    if settled is None:
        return None
    return {"seconds": settled.seconds, "freed": settled.freed, "left": settled.left}


def _leak(leak: Leak) -> dict[str, Any]:
    return {
        "module": leak.module,
        "function": leak.function,
        "requester": leak.requester,
        "objects": leak.objects,
        "bytes": leak.bytes,
        "bytes_per_round": round(leak.bytes_per_round, 3),
        "sources": list(leak.sources),
        "held": {"objects": leak.cause.group.held, "bytes": leak.cause.group.held_bytes} if leak.cause else None,
        "hangs_on": leak.hangs_on,
        "notes": list(leak.notes),
        "stack": list(leak.stack),
        "key": leak.key,
    } | ({} if leak.rounds is None else {"rounds": _rounds(leak.rounds)})
