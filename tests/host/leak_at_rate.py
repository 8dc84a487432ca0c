# SPDX-License-Identifier: GPL-2.0-or-later
"""Opens files at a set rate, each late one made up for, and holds them: leak_at_rate.py COMM PER_SECOND.

Prints a line once it has its name, and ends when its standard input does.
"""

from __future__ import annotations

import ctypes
import os
import resource
import select
import sys
import time

PR_SET_NAME = 15


def main(comm: str, per_second: float) -> None:
    ctypes.CDLL(None).prctl(PR_SET_NAME, comm.encode(), 0, 0, 0)
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    print("ready", flush=True)
    start, opened = time.monotonic(), 0
    while not select.select([sys.stdin], [], [], 0.005)[0]:
        while opened < per_second * (time.monotonic() - start):
            os.open("/dev/null", os.O_RDONLY)
            opened += 1


main(sys.argv[1], float(sys.argv[2]))
