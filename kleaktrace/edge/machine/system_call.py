# SPDX-License-Identifier: GPL-2.0-or-later
"""System calls that neither Python nor the C library has a function for, or one that does something else."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
from collections.abc import Mapping


def system_call(number: int | Mapping[str, int], *arguments: object) -> int:
    """Return what the call returns; raises OSError where it fails.

    number: the same on all machines, or by the name of the machine (x86_64, aarch64).
    """
    known = number if isinstance(number, int) else number.get(platform.machine())
    library = ctypes.CDLL(None, use_errno=True)
    if known is None or not hasattr(library, "syscall"):  # not every C library has it
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    result = int(library.syscall(ctypes.c_long(known), *arguments))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
