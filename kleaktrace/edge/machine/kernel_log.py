# SPDX-License-Identifier: GPL-2.0-or-later
"""Reads the kernel log from /dev/kmsg (Documentation/ABI/testing/dev-kmsg)."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path
from types import TracebackType

KMSG = Path("/dev/kmsg")
_RECORD = 8192  # the kernel refuses a smaller buffer than its longest record
_ESCAPE = re.compile(rb"\\x([0-9a-f]{2})")


class KernelLog:
    """The kernel log from its oldest record on, or with `from_end` only what is written after the opening.

    Raises OSError if the log may not be read (kernel.dmesg_restrict without CAP_SYSLOG).
    """

    def __init__(self, path: Path = KMSG, *, from_end: bool = False) -> None:
        self._fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        if from_end:
            os.lseek(self._fd, 0, os.SEEK_END)

    def __enter__(self) -> KernelLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._fd)

    def lines(self) -> list[str]:
        """Return the messages written so far and not returned before, without level and time."""
        found: list[str] = []
        while True:
            try:
                record = os.read(self._fd, _RECORD)
            except BlockingIOError:
                return found
            except OSError as error:
                if error.errno == errno.EPIPE:  # overwritten before we came to it; the next read goes on
                    continue
                raise
            if not record:
                return found
            found += messages(record)


def messages(record: bytes) -> list[str]:
    """Return the lines of one record's message; what is no UTF-8 comes as `\\xff`, as reports are read."""
    _, _, text = record.partition(b";")
    # Lines after the first that begin with a blank are KEY=value pairs of the device, not message.
    message = _ESCAPE.sub(lambda m: bytes([int(m[1], 16)]), text.split(b"\n", 1)[0])
    return message.decode(errors="backslashreplace").split("\n")
