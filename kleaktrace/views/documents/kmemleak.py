# SPDX-License-Identifier: GPL-2.0-or-later
"""The JSON document of a kmemleak text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kleaktrace.core.explanation.conclusions import Conclusion, Explanation, KnownGroups, Likelihood, explain
from kleaktrace.core.explanation.object_facts import facts_of
from kleaktrace.core.kmemleak.frames import KmemleakFrame
from kleaktrace.core.kmemleak.kmemleak_text import (
    UNREAD,
    KmemleakText,
    LooseStack,
    Message,
    ObjectDump,
    Problem,
    Suspect,
)
from kleaktrace.core.kmemleak.message_meanings import Meaning, meanings_of, new_suspects
from kleaktrace.core.known_leaks import NOTHING_KNOWN, KnownLeaks
from kleaktrace.core.source_lines.source_lines import NO_SOURCE_LINES, SourceLines
from kleaktrace.views.documents.known import known_fields
from kleaktrace.views.documents.source_lines import source_fields


def document(
    text: KmemleakText,
    problems: Sequence[Problem],
    sources: SourceLines = NO_SOURCE_LINES,
    known: KnownLeaks = NOTHING_KNOWN,
) -> dict[str, Any]:
    """Return the JSON document of `explain --json` and `kmemleak show --json`."""
    explained = explain(text, known)
    return {
        "objects": [_object(one, explained) | _source_fields(one.frames, sources) for one in explained.text.objects],
        "problems": [{"line": p.line, "what": p.what} for p in problems],
        "conclusion": _conclusion(explained),
        "groups": [_group(one) for one in explained.conclusions],
        "modules": [
            {"module": m.module, "origin": str(m.origin), "objects": m.count, "bytes": m.bytes}
            for m in explained.modules
        ],
        "stacks": [_stack(one) | _source_fields(one.frames, sources) for one in text.stacks],
        "dumps": [_dump(one) for one in text.dumps],
        "messages": [
            _message(one, meaning) for one, meaning in zip(text.messages, meanings_of(text.messages), strict=True)
        ],
        "source_lines_missing": list(sources.missing),
        "known": [_known(one, known.name) for one in explained.known],
    }


def _known(one: KnownGroups, file: str) -> dict[str, Any]:
    return known_fields(one.known, file) | {
        "objects": sum(group.count for group in one.groups),
        "bytes": sum(group.bytes for group in one.groups),
        "lines": [member.line for group in one.groups for member in group.members],
    }


def _source_fields(frames: Sequence[KmemleakFrame], sources: SourceLines) -> dict[str, Any]:
    return source_fields((frame.text for frame in frames), sources)


def _object(suspect: Suspect, explained: Explanation) -> dict[str, Any]:
    return {
        "address": f"0x{suspect.address:08x}",
        "size": suspect.size,
        "kind": str(suspect.kind),
        "comm": suspect.comm,
        "pid": None if suspect.pid == UNREAD else suspect.pid,
        "jiffies": None if suspect.jiffies == UNREAD else suspect.jiffies,
        "age_s": suspect.age_s,
        "crc": suspect.crc,
        "frames": [str(frame) for frame in suspect.frames],
        "truncated": suspect.truncated,
        "more": suspect.more,
        "line": suspect.line,
        "listed": [{"line": one.line, "age_s": one.age_s, "crc": one.crc} for one in explained.listings.of(suspect)],
        "contents": suspect.contents.hex(" "),
        "facts": list(facts_of(suspect)),
        "points_to": [f"0x{address:08x}" for address in explained.references.targets.get(suspect.address, ())],
    }


def _conclusion(explained: Explanation) -> dict[str, Any]:
    return {
        "objects": explained.count,
        "bytes": explained.bytes,
        **{str(likelihood): explained.of(likelihood) for likelihood in Likelihood},
        "new_suspects": new_suspects(explained.text.messages),
        "decides": explained.decides,
    }


def _group(one: Conclusion) -> dict[str, Any]:
    group = one.group
    return {
        "objects": group.count,
        "bytes": group.bytes,
        "kind": str(group.kind),
        "lines": [member.line for member in group.members],
        "requester": one.requester or None,
        "module": group.module,
        "caller": group.caller.text if group.caller else None,
        "likelihood": str(one.likelihood),
        "for": list(one.speaks_for),
        "against": list(one.speaks_against),
        "decides": one.decides,
        "facts": list(one.facts),
        "hints": list(one.hints),
        "source_command": one.source_command or None,
    }


def _stack(one: LooseStack) -> dict[str, Any]:
    return {"line": one.line, "comm": one.comm, "pid": one.pid, "frames": [str(frame) for frame in one.frames]}


def _dump(one: ObjectDump) -> dict[str, Any]:
    return {
        "address": f"0x{one.address:08x}",
        "size": one.size,
        "comm": one.comm,
        "pid": one.pid,
        "jiffies": one.jiffies,
        "min_count": one.min_count,
        "count": one.count,
        "flags": one.flags,
        "checksum": one.checksum,
        "frames": [str(frame) for frame in one.frames],
        "state": one.state,
        "line": one.line,
    }


def _message(one: Message, meaning: Meaning | None) -> dict[str, Any]:
    return {
        "line": one.line,
        "text": one.text,
        "time_s": one.time_s,
        "meaning": meaning.what if meaning else None,
        "leak": meaning.is_leak if meaning else None,
        "fix": meaning.fix if meaning else None,
    }
