# SPDX-License-Identifier: GPL-2.0-or-later
"""The findings of `doctor`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple


class Health(StrEnum):
    """How a check came out. `missing` costs something, `broken` makes tracing impossible."""

    OK = "ok"
    MISSING = "missing"
    BROKEN = "broken"


class Mount(NamedTuple):
    """A file system of the kernel's own, which does no harm where it is mounted."""

    kind: str
    directory: str

    @property
    def command(self) -> str:
        """What to type."""
        return f"mount -t {self.kind} none {self.directory}"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at: what was found, and what to type if that should change.

    mount: that is all that the fix does, so that it may be done at once. needs_boot: the fix ends in a new start of the
    machine, up to which what else is mended of kmemleak's would not last.
    """

    name: str
    health: Health
    found: str
    fix: str = ""
    mount: Mount | None = None
    needs_boot: bool = False


_MATTERS_MOST = ("debugfs", "kmemleak")
"""Of what is only missing: without these there are no suspects of kmemleak's to judge."""


def first_step(checks: Sequence[Check]) -> Check | None:
    """The one thing to do first: what makes tracing impossible, then what costs verdicts; None: nothing can be done."""

    def urgency(check: Check) -> tuple[bool, bool, bool]:
        return check.health is not Health.BROKEN, check.name not in _MATTERS_MOST, not check.needs_boot

    amiss = [check for check in checks if check.health is not Health.OK and check.fix]
    return min(amiss, key=urgency, default=None)  # of equals the first: what others rest on is looked at before them
