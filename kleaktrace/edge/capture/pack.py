# SPDX-License-Identifier: GPL-2.0-or-later
"""One file of a capture's directory, to be sent: a ZIP archive of its streams, which are compressed already."""

from __future__ import annotations

import os
import shutil
import zipfile
from pathlib import Path


def pack(directory: Path) -> None:
    """Put one file in place of the directory. Raises OSError, and leaves the directory then."""
    part, aside = (directory.with_name(directory.name + end) for end in (".part", ".unpacked"))
    try:
        fd = os.open(part, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "w+b") as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            for member in sorted(directory.iterdir()):
                archive.write(member, member.name)
        directory.rename(aside)
        part.rename(directory)
    except OSError:
        part.unlink(missing_ok=True)
        raise
    shutil.rmtree(aside)
