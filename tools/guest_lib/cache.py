# SPDX-License-Identifier: GPL-2.0-or-later
"""Where kernels and programs are kept, outside any checkout, and how two callers don't both make them."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from guest_lib.errors import GuestError, say
from guest_lib.paths import share_path


def cache_directory() -> Path:
    """Return where they are kept."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    if not base.startswith("/"):
        base = "/var/cache" if os.geteuid() == 0 else str(Path("~/.cache").expanduser())
    path = Path(base) / "kleaktrace"
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise GuestError(f"no place to keep kernels: {error}", "point XDG_CACHE_HOME to a directory") from error
    return share_path(str(path), "the cache directory")


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on a file, so that two callers don't both build."""
    with path.open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another tools/guest is building: waiting for it")
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def made_once(home: Path, make: Callable[[], None]) -> None:
    """Have `make` fill a directory of the cache, unless that has been done."""
    ready = home / "ready"
    if ready.exists():
        return
    home.mkdir(exist_ok=True)
    with locked(home / "lock"):
        if not ready.exists():
            make()
            ready.touch()
