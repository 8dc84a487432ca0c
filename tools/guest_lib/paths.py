# SPDX-License-Identifier: GPL-2.0-or-later
"""Where the project is, and which directories a guest can be given."""

from __future__ import annotations

import re
from pathlib import Path

from guest_lib.errors import USAGE, GuestError

PROJECT = Path(__file__).resolve().parents[2]
# virtme-ng hands these paths through a shell and through QEMU's comma-separated options.
SAFE_PATH = re.compile(r"/[A-Za-z0-9_+/.-]*")


def share_path(name: str, what: str) -> Path:
    """Give the absolute path of a directory that can be shared with the guest."""
    path = Path(name).absolute()
    if ".." in path.parts:
        path = path.resolve()
    if not path.is_dir():
        raise GuestError(f"{what} {name}: no such directory", f"create it first: mkdir -p {name}", USAGE)
    if not SAFE_PATH.fullmatch(str(path)):
        raise GuestError(
            f"{what} {name}: cannot be shared with the guest", "use letters, digits and _ + / . - only", USAGE
        )
    return path
