# SPDX-License-Identifier: GPL-2.0-or-later
"""What a text can hold of kmemleak: objects, dumps of objects, stacks that lost theirs, messages; and problems."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from kleaktrace.core.kmemleak.frames import MAX_FRAMES, KmemleakFrame
from kleaktrace.core.kmemleak.suspect_kind import SuspectKind

UNREAD = -1
"""The pid or jiffies of an object whose text does not give them: it is damaged, and a problem says so."""

_PERCPU = SuspectKind.PERCPU  # asked of each of a hundred thousand suspects


@dataclass(frozen=True, slots=True)
class Suspect:
    """One object that kmemleak lists as unreferenced.

    `address` is of the name space that `kind` says. `size` is in bytes, `jiffies` the time of the allocation; `age_s`
    is printed up to 6.7, `crc`, the checksum of the contents, from 6.8 on. `frames` are innermost first; `more` counts
    objects that the log only mentions as having the same backtrace; `line` is where the header stood. `contents` are
    the first bytes of the object, as far as they are printed.
    """

    address: int
    size: int
    kind: SuspectKind
    comm: str
    pid: int
    jiffies: int
    age_s: float | None
    crc: int | None
    frames: tuple[KmemleakFrame, ...]
    more: int = 0
    line: int = 0
    contents: bytes = field(default=b"", compare=False)  # captures do not keep them

    @property
    def truncated(self) -> bool:
        """Whether the stack is cut: kmemleak keeps no more than 16 frames."""
        return sum(not f.inline for f in self.frames) >= MAX_FRAMES

    @property
    def untagged(self) -> int:
        """The address without the tag that KASAN keeps in its top byte. Per-CPU offsets, any number, have none."""
        is_tagged = self.kind != _PERCPU and self.address >> 55 & 1
        return self.address | 0xFF << 56 if is_tagged else self.address


@dataclass(frozen=True, slots=True)
class ObjectDump:
    """What kmemleak knows of one object, as `dump=ADDRESS` makes it print to the kernel log.

    `count` references were found by the last scan; fewer than `min_count` make a suspect. `min_count` 0 and
    -1 mean "never reported" (grey, black). `flags` are OBJECT_* of mm/kmemleak.c.
    """

    address: int
    size: int
    comm: str
    pid: int
    jiffies: int
    min_count: int
    count: int
    flags: int
    checksum: int
    frames: tuple[KmemleakFrame, ...]
    line: int = 0

    @property
    def state(self) -> str:
        """One sentence on what the counts mean."""
        if self.min_count < 0:
            return "kmemleak ignores this object (min_count -1)"
        if self.min_count == 0:
            return "kmemleak never reports this object (min_count 0)"
        if self.count >= self.min_count:
            return "referenced, or its contents changed during the last scan"
        if self.count < 0:
            return "not scanned yet"
        return f"unreferenced in the last scan ({self.count} of {self.min_count} references found)"


@dataclass(frozen=True, slots=True)
class LooseStack:
    """The backtrace of an object whose first line is not in the text; comm and pid if those are."""

    frames: tuple[KmemleakFrame, ...]
    comm: str | None = None
    pid: int | None = None
    line: int = 0


class Problem(NamedTuple):
    """Something in the text that could not be read, or that says why there is nothing to read."""

    line: int
    what: str


class Message(NamedTuple):
    """A line of the kernel log in which kmemleak speaks about itself, or of a shell that could not use it.

    time_s: seconds since boot, where printk's time stands before it.
    """

    line: int
    text: str
    time_s: float | None = None


@dataclass(frozen=True, slots=True)
class KmemleakText:
    """All that a text holds of kmemleak."""

    objects: tuple[Suspect, ...]
    problems: tuple[Problem, ...]
    dumps: tuple[ObjectDump, ...] = ()
    messages: tuple[Message, ...] = ()
    stacks: tuple[LooseStack, ...] = ()

    @property
    def recognised(self) -> bool:
        """Whether the text has anything to do with kmemleak."""
        return bool(self.objects or self.problems or self.dumps or self.messages or self.stacks)


@dataclass(slots=True)
class PartOfText:
    """What was read of a part of a text, in its order."""

    objects: list[Suspect] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    dumps: list[ObjectDump] = field(default_factory=list)
    messages: list[Message] = field(default_factory=list)
    stacks: list[LooseStack] = field(default_factory=list)
    torn: bool = False

    def add(self, more: PartOfText) -> None:
        """Add what was read of the part that follows."""
        self.objects += more.objects
        self.problems += more.problems
        self.dumps += more.dumps
        self.messages += more.messages
        self.stacks += more.stacks

    @property
    def merit(self) -> tuple[int, int]:
        """More is better."""
        frames = sum(len(one.frames) for one in self.objects) + sum(len(one.frames) for one in self.dumps)
        whole = sum(one.pid >= 0 for one in self.objects)
        return len(self.objects) + len(self.dumps) + len(self.messages), frames + whole - len(self.problems)
