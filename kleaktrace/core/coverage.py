"""What could be seen, and what could not: part of every report, and of every verdict."""

from __future__ import annotations

from dataclasses import dataclass, field

from kleaktrace.core.events import LossWindow


@dataclass(frozen=True, slots=True)
class Coverage:
    """One kind of event: the source that reports it on this kernel, or None, and what that means."""

    kind: str
    source: str | None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Loss:
    """What did not reach us.

    events: allocations and frees that were not handed over. stacks: allocations whose stack could not be taken.
    names: stacks, caches or modules left nameless. windows: when events were lost, oldest first.
    """

    events: int = 0
    stacks: int = 0
    names: int = 0
    windows: tuple[LossWindow, ...] = field(default=())

    def within(self, from_ns: int, to_ns: int) -> int:
        """Events lost in windows that overlap [from_ns, to_ns]."""
        return sum(w.events for w in self.windows if w.from_ns <= to_ns and w.to_ns >= from_ns)


@dataclass(frozen=True, slots=True)
class StackCheck:
    """How the shortcut past the unwinder (bpf/stack_paths.h) fares.

    unwound: stacks that the kernel unwound. checked: of these, those that were recognised, too. wrong: of these, those
    that were recognised as another one.
    """

    unwound: int = 0
    checked: int = 0
    wrong: int = 0
