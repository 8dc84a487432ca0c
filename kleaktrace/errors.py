# SPDX-License-Identifier: GPL-2.0-or-later
"""What can go wrong, for the user: one line what, one line what to do, and an exit code.

Every error a user can cause or a kernel can answer with is a `KleaktraceError`; `cli.main` is the only
place that catches and prints it. Anything else is a bug, and shows its traceback with `-v`.
"""

from __future__ import annotations

from enum import IntEnum

BUG_FIX = "run it again with -v, and report what it shows with `kleaktrace doctor --json`"


class ExitCode(IntEnum):
    """Exit codes of all commands (a public contract). 1 is also what `diff --fail-on` ends with, 70 a bug of ours."""

    CLEAN = 0
    LEAKS = 1
    USAGE = 2
    ENVIRONMENT = 3
    INCOMPLETE = 4
    BUG = 70  # EX_SOFTWARE of sysexits.h


class KleaktraceError(Exception):
    """An error with a remedy: `what` happened, and the `fix` to try."""

    exit_code = ExitCode.ENVIRONMENT

    def __init__(self, what: str, fix: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.fix = fix


class UsageError(KleaktraceError):
    """The command line or an input file cannot be used as given."""

    exit_code = ExitCode.USAGE


class EnvironmentRefusal(KleaktraceError):
    """This machine, its kernel or our privileges do not allow what was asked."""

    exit_code = ExitCode.ENVIRONMENT


class EvidenceLost(KleaktraceError):
    """What was needed for an answer went missing while we worked."""

    exit_code = ExitCode.INCOMPLETE


class InternalFault(KleaktraceError):
    """A bug of ours, met where it can be told from the kernel's doing. Its cause is what was raised."""

    exit_code = ExitCode.BUG
