# SPDX-License-Identifier: GPL-2.0-or-later
"""One round: loads each module, uses what it brings a little, and unloads it.

    python one_round.py FAILED MODULE…

Appends `MODULE REASON` to FAILED for what did not come or go; FAILED.trying has the name of the module that is being
tried, in case the guest dies of it. Imports little and starts few programs: it is emulated.
"""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

_TIMEOUT_S = 60
_READ_TIMEOUT_S = 2
"""Not every driver heeds O_NONBLOCK."""
_IMAGE, _MOUNT = Path("/tmp/crowd-image"), Path("/tmp/crowd-mount")
_IMAGE_BYTES = 4 << 20
_NET, _DEV = Path("/sys/class/net"), Path("/dev")
_LEFT_ALONE = ("watchdog", "kmsg", "kmem")


def main() -> None:
    """Go through all modules once."""
    failed, *modules = sys.argv[1:]
    _MOUNT.mkdir(exist_ok=True)
    trying = Path(f"{failed}.trying")
    with Path(failed).open("a") as log:
        for module in modules:
            trying.write_text(module)
            before = _devices()
            said = _run("modprobe", module)
            if said is not None:
                log.write(f"{module} does not load: {said}\n")
                continue
            for name in sorted(_devices() - before):
                _use(name)
            _mount(module.removesuffix("_fs"))
            _read_parameters(module)
            said = _run("modprobe", "-r", module)
            if said is not None:
                log.write(f"{module} does not unload: {said}\n")
    trying.unlink()


def _run(*command: str) -> str | None:
    """Run a command; None if it succeeds, else the last line of what it said."""
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        return "it does not end"
    lines: Sequence[str] = done.stderr.decode(errors="replace").strip().splitlines() or ["no reason given"]
    return lines[-1] if done.returncode else None


def _devices() -> set[str]:
    return {entry.name for directory in (_NET, _DEV) for entry in directory.iterdir()}


def _use(name: str) -> None:
    """A network device goes up and down; others are read from, if they have something at once."""
    if (_NET / name).exists():
        _run("ip", "link", "set", name, "up")
        _run("ip", "link", "set", name, "down")
        return
    with contextlib.suppress(OSError):
        mode = (_DEV / name).stat().st_mode
        if (stat.S_ISCHR(mode) or stat.S_ISBLK(mode)) and not name.startswith(_LEFT_ALONE):
            _read(_DEV / name)


def _read(path: Path) -> None:
    signal.signal(signal.SIGALRM, _time_is_up)
    signal.alarm(_READ_TIMEOUT_S)
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            os.read(fd, 4096)
        finally:
            os.close(fd)
    finally:
        signal.alarm(0)


def _time_is_up(*_: object) -> None:
    raise TimeoutError


def _mount(file_system: str) -> None:
    """Mount an empty file, and nothing at all, as this: in vain for most, which is how error paths are used."""
    known = Path("/proc/filesystems").read_text().split()
    if file_system not in known:
        return
    if not _IMAGE.exists():
        _IMAGE.write_bytes(bytes(_IMAGE_BYTES))
    for source in (("-o", "loop", str(_IMAGE)), ("none",)):
        if _run("mount", "-t", file_system, *source, str(_MOUNT)) is None:
            _run("umount", str(_MOUNT))


def _read_parameters(module: str) -> None:
    for parameter in Path(f"/sys/module/{module.replace('-', '_')}/parameters").glob("*"):
        with contextlib.suppress(OSError):
            parameter.read_bytes()


if __name__ == "__main__":
    main()
