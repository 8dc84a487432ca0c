# SPDX-License-Identifier: GPL-2.0-or-later
"""Finds objects that a text lists more than once, because kmemleak's file was read again, and makes one of each.

That an object is still there after another scan speaks for a leak; that its contents changed meanwhile, against.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from kleaktrace.core.kmemleak.kmemleak_text import UNREAD, Suspect
from kleaktrace.core.kmemleak.suspect_kind import SuspectKind

Identity: TypeAlias = tuple[SuspectKind, int, int, str, int, int]
"""By this, two listings are of one object: kind, address, size, comm, pid, and when it was allocated (jiffies)."""


@dataclass(frozen=True, slots=True)
class Listings:
    """The `objects` of a text, each once, in the order in which they come first; and how often they were listed.

    `repeated` has all listings of those that are there more than once, in the order of the text.
    """

    objects: tuple[Suspect, ...]
    repeated: Mapping[Identity, tuple[Suspect, ...]]

    def of(self, suspect: Suspect) -> tuple[Suspect, ...]:
        """All listings of one of the objects."""
        return self.repeated.get(identity(suspect), (suspect,)) if self.repeated else (suspect,)


def identity(suspect: Suspect) -> Identity:
    """What makes a suspect the same as another one."""
    return suspect.kind, suspect.address, suspect.size, suspect.comm, suspect.pid, suspect.jiffies


def once_each(suspects: Sequence[Suspect]) -> Listings:
    """Put the listings of each object together. Those that do not tell when they were allocated stay as they are."""
    if len({suspect.address for suspect in suspects}) == len(suspects):
        return Listings(tuple(suspects), {})  # as nearly all texts are, of which some are very long
    together: dict[Identity | int, list[Suspect]] = {}
    for number, suspect in enumerate(suspects):
        key = number if suspect.jiffies == UNREAD else identity(suspect)
        together.setdefault(key, []).append(suspect)
    repeated = {key: tuple(each) for key, each in together.items() if len(each) > 1 and not isinstance(key, int)}
    return Listings(tuple(_as_one(each) for each in together.values()), repeated)


def seconds_apart(listings: Sequence[Suspect]) -> float | None:
    """Seconds between the first listing of an object and the last; None if the text has no ages."""
    ages = [one.age_s for one in listings if one.age_s is not None]
    return max(ages) - min(ages) if len(ages) > 1 else None


def contents_changed(listings: Sequence[Suspect]) -> bool:
    """Whether the checksum of an object's contents is not the same in all of its listings."""
    return len({one.crc for one in listings if one.crc is not None}) > 1


def _as_one(listings: Sequence[Suspect]) -> Suspect:
    """The listing that names most functions, for a module may have gone since, as old as the object became."""
    if len(listings) == 1:
        return listings[0]
    best = max(listings, key=lambda one: sum(frame.resolved for frame in one.frames))
    ages = [one.age_s for one in listings if one.age_s is not None]
    return replace(best, age_s=max(ages) if ages else None, line=listings[0].line)
