# SPDX-License-Identifier: GPL-2.0-or-later
"""The confirmed suspects by call stack: one leak each, the largest first."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from kleaktrace.core.evidence.evidence import JudgedSuspect, Rounds, Verdict
from kleaktrace.core.leaked_objects.anatomy import Anatomy, Cause
from kleaktrace.core.symbols.call_stacks import function_of, module_line, module_of, requester_function


@dataclass(frozen=True, slots=True)
class Leak:
    """All confirmed objects of one call stack.

    module: the innermost one that the stack passes through, empty: only core code; `function` is its innermost
    function. requester: the function that wanted the memory, the module's own or core code on its behalf. bytes: as
    allocated. rounds: None if none were compared. sources: what convicts it. cause: what hangs on its objects; None:
    they hang on others themselves, as `hangs_on` says, or were not looked into. notes: what its objects tell.
    """

    module: str
    function: str
    requester: str
    stack: tuple[str, ...]
    objects: int
    bytes: int
    rounds: Rounds | None
    sources: tuple[str, ...]
    cause: Cause | None = None
    hangs_on: str = ""
    notes: tuple[str, ...] = ()

    @property
    def bytes_with_held(self) -> int:
        """Its bytes and those of what hangs on it."""
        return self.bytes + (self.cause.group.held_bytes if self.cause else 0)

    @property
    def bytes_per_round(self) -> float:
        """How much each round leaves behind, with all that hangs on it; 0 if no rounds were compared."""
        return self.rounds.per_round * self.bytes_with_held / self.objects if self.rounds else 0.0

    @property
    def key(self) -> str:
        """The call stack by name, the same across boots and builds."""
        return stack_key(self.stack)


def leaks(suspects: Sequence[JudgedSuspect], looked_into: Anatomy) -> list[Leak]:
    """The leaks among the suspects: causes first, by bytes per round, then by bytes, each with all that it holds."""
    found: dict[tuple[str, ...], list[JudgedSuspect]] = {}
    for suspect in suspects:
        if suspect.verdict is Verdict.CONFIRMED:
            found.setdefault(suspect.stack, []).append(suspect)
    described = [_leak(stack, of_stack, looked_into) for stack, of_stack in found.items()]
    return sorted(
        described,
        key=lambda leak: (bool(leak.hangs_on), -leak.bytes_per_round, -leak.bytes_with_held, leak.stack),
    )


def _leak(stack: tuple[str, ...], suspects: Sequence[JudgedSuspect], looked_into: Anatomy) -> Leak:
    in_module = module_line(stack)
    cause, holder = looked_into.cause(stack), looked_into.holder(stack)
    return Leak(
        module=module_of(in_module),
        function=function_of(in_module),
        requester=requester_function(stack),
        stack=stack,
        objects=len(suspects),
        bytes=sum(suspect.size for suspect in suspects),
        rounds=next((suspect.rounds for suspect in suspects if suspect.rounds), None),
        sources=tuple(sorted({suspect.source for suspect in suspects})),
        cause=cause,
        hangs_on="" if cause is not None or holder is None else requester_function(holder.stack),
        notes=looked_into.notes_on(stack),
    )


def stack_key(stack: Sequence[str]) -> str:
    """A call stack as a short name: from modules, functions and offsets, without addresses and sizes."""
    frames = ["0x" if frame.startswith("0x") else frame.partition("/")[0] + frame.partition(" ")[2] for frame in stack]
    return hashlib.sha256("\n".join(frames).encode()).hexdigest()[:16]
