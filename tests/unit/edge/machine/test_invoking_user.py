# SPDX-License-Identifier: GPL-2.0-or-later
"""Who called us by sudo and its kind, and what they had in their environment."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest

from kleaktrace.edge.machine import invoking_user as module
from kleaktrace.edge.machine import processes
from kleaktrace.edge.machine.invoking_user import invoking_user
from kleaktrace.errors import UsageError

NOBODY = pwd.getpwnam("nobody")


@pytest.fixture(autouse=True)
def proc(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine on which we are 30, a child of 20, which is a child of 10; and nobody has become root."""
    for name in ("SUDO_UID", "SUDO_USER", "PKEXEC_UID", "DOAS_USER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(processes, "PROC", tmp_path)
    monkeypatch.setattr(module.os, "getppid", lambda: 20)
    for pid, parent, program in ((10, 1, "bash"), (20, 10, "make")):
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "stat").write_text(f"{pid} (a name) S {parent} 0\n")
        (tmp_path / str(pid) / "exe").symlink_to(f"/usr/bin/{program}")
        (tmp_path / str(pid) / "environ").write_bytes(b"")
    return tmp_path


@pytest.mark.parametrize(
    ("variable", "value"),
    [("SUDO_UID", str(NOBODY.pw_uid)), ("PKEXEC_UID", str(NOBODY.pw_uid)), ("DOAS_USER", "nobody")],
)
def test_whoever_called_has_their_own_ids_and_home(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    monkeypatch.setenv(variable, value)
    monkeypatch.setenv("SUDO_COMMAND", "kleaktrace")
    monkeypatch.setenv("HOME", "/root")
    monkeypatch.setenv("LANG", "C.UTF-8")
    user = invoking_user()
    assert (user.name, user.uid, user.gid) == ("nobody", NOBODY.pw_uid, NOBODY.pw_gid)
    assert NOBODY.pw_gid in user.groups
    kept = {name: user.environment[name] for name in ("HOME", "USER", "LOGNAME", "LANG", "PATH")}
    assert kept == {
        "HOME": NOBODY.pw_dir,
        "USER": "nobody",
        "LOGNAME": "nobody",
        "LANG": "C.UTF-8",
        "PATH": os.environ["PATH"],
    }
    assert not [name for name in user.environment if name.startswith("SUDO_")]


def test_the_environment_is_that_which_sudo_was_called_with(monkeypatch: pytest.MonkeyPatch, proc: Path) -> None:
    (proc / "10" / "exe").unlink()
    (proc / "10" / "exe").symlink_to("/usr/bin/sudo")
    before = {
        "HOME": "/home/ann",
        "PATH": "/home/ann/bin:/usr/bin",
        "USER": "ann",
        "LOGNAME": "ann",
        "CROSS_COMPILE": "a=",
    }
    (proc / "10" / "environ").write_bytes(b"".join(f"{name}={value}\0".encode() for name, value in before.items()))
    monkeypatch.setenv("SUDO_UID", str(NOBODY.pw_uid))
    assert invoking_user().environment == {"SHELL": NOBODY.pw_shell, **before}


def test_an_environment_that_can_t_be_read_is_not_taken_for_an_empty_one(
    monkeypatch: pytest.MonkeyPatch, proc: Path
) -> None:
    (proc / "10" / "exe").unlink()
    (proc / "10" / "exe").symlink_to("/usr/bin/sudo")
    monkeypatch.setenv("SUDO_UID", str(NOBODY.pw_uid))
    assert invoking_user().environment["PATH"] == os.environ["PATH"]


@pytest.mark.parametrize(
    ("name", "value"), [("SUDO_UID", "4123456789"), ("SUDO_UID", "9" * 30), ("DOAS_USER", "no such user")]
)
def test_who_is_no_user_here_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match="which is no user here"):
        invoking_user()


def test_where_nobody_called_by_sudo_there_is_no_such_user() -> None:
    with pytest.raises(UsageError, match="nobody has called this by sudo"):
        invoking_user()
