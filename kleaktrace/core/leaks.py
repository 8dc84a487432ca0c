"""The confirmed suspects by call stack: one leak each, the largest first."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from kleaktrace.core.judged import JudgedSuspect, Rounds, Verdict
from kleaktrace.core.stacks import asking_function

_MODULE_TAG = "["


@dataclass(frozen=True, slots=True)
class Leak:
    """All confirmed objects of one call stack.

    module: the innermost one that the stack passes through, empty: only core code; `function` is its innermost
    function. requester: the function that wanted the memory, the module's own or core code on its behalf. bytes: as
    allocated. rounds: None if none were compared. sources: what convicts it.
    """

    module: str
    function: str
    requester: str
    stack: tuple[str, ...]
    objects: int
    bytes: int
    rounds: Rounds | None
    sources: tuple[str, ...]

    @property
    def bytes_per_round(self) -> float:
        """How much each round leaves behind; 0 if no rounds were compared."""
        return self.rounds.per_round * self.bytes / self.objects if self.rounds else 0.0

    @property
    def key(self) -> str:
        """The call stack by name, the same across boots and builds."""
        return stack_key(self.stack)


def leaks(suspects: Sequence[JudgedSuspect]) -> list[Leak]:
    """The leaks among the suspects; most bytes per round first, then most bytes."""
    found: dict[tuple[str, ...], list[JudgedSuspect]] = {}
    for suspect in suspects:
        if suspect.verdict is Verdict.CONFIRMED:
            found.setdefault(suspect.stack, []).append(suspect)
    described = [_leak(stack, of_stack) for stack, of_stack in found.items()]
    return sorted(described, key=lambda leak: (-leak.bytes_per_round, -leak.bytes, leak.stack))


def _leak(stack: tuple[str, ...], suspects: Sequence[JudgedSuspect]) -> Leak:
    in_module = next((frame for frame in stack if frame.endswith("]") and not frame.endswith("[bpf]")), "")
    return Leak(
        module=in_module.rpartition(_MODULE_TAG)[2].rstrip("]"),
        function=in_module.partition("+")[0],
        requester=asking_function(stack),
        stack=stack,
        objects=len(suspects),
        bytes=sum(suspect.size for suspect in suspects),
        rounds=next((suspect.rounds for suspect in suspects if suspect.rounds), None),
        sources=tuple(sorted({suspect.source for suspect in suspects})),
    )


def stack_key(stack: Sequence[str]) -> str:
    """A call stack as a short name: from modules, functions and offsets, without addresses and sizes."""
    frames = ["0x" if frame.startswith("0x") else frame.partition("/")[0] + frame.partition(" ")[2] for frame in stack]
    return hashlib.sha256("\n".join(frames).encode()).hexdigest()[:16]
