# SPDX-License-Identifier: GPL-2.0-or-later
"""Who has become root to run us: by sudo, doas or pkexec, and with what environment."""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kleaktrace.edge.machine.processes import ancestors, environment, program
from kleaktrace.errors import UsageError

_SAID_BY = ("SUDO_UID", "PKEXEC_UID", "DOAS_USER")
"""What tells the user: sudo(8), pkexec(1) and doas(1), in this order."""
_CHANGERS = frozenset({"sudo", "pkexec", "doas"})
_FIX = "as the user that it is: sudo kleaktrace run --as-user -- CMD ARG…"
_OF_THE_USER = ("HOME", "LOGNAME", "PATH", "SHELL", "USER")


@dataclass(frozen=True)
class InvokingUser:
    """A user as a process of theirs is started: ids, groups, and the environment they called from."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]
    environment: Mapping[str, str]


def invoking_user() -> InvokingUser:
    """Return the user who called us by sudo, pkexec or doas. Raises `UsageError` if nobody did.

    The environment is what they had when they called it, as far as it can be read; what sudo has made of it, with their
    own home and name, if not.
    """
    entry = _entry()
    own = {"HOME": entry.pw_dir, "LOGNAME": entry.pw_name, "SHELL": entry.pw_shell or "/bin/sh", "USER": entry.pw_name}
    before = _environment_before()
    if before is None:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("SUDO_", "PKEXEC_", "DOAS_"))}
        before = {**kept, **own}
    groups = tuple(os.getgrouplist(entry.pw_name, entry.pw_gid))
    return InvokingUser(entry.pw_name, entry.pw_uid, entry.pw_gid, groups, {**own, **before})


def _entry() -> pwd.struct_passwd:
    for variable in _SAID_BY:
        said = os.environ.get(variable)
        if said is None:
            continue
        try:
            return pwd.getpwuid(int(said)) if said.isdecimal() else pwd.getpwnam(said)
        except (KeyError, OverflowError):
            raise UsageError(f"{variable} is {said!r}, which is no user here", _FIX) from None
    raise UsageError("--as-user: nobody has called this by sudo", _FIX)


def _environment_before() -> dict[str, str] | None:
    """The environment that sudo itself was started with, of the nearest one that we run under."""
    for pid in ancestors(os.getppid()):
        if Path(program(pid)).name in _CHANGERS:
            found = {os.fsdecode(name): os.fsdecode(value) for name, value in environment(pid).items()}
            return found if all(name in found for name in _OF_THE_USER if name != "SHELL") else None
    return None
