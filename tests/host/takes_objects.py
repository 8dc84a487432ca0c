# SPDX-License-Identifier: GPL-2.0-or-later
"""Takes objects of slab caches as `scrub_sheaves` does, again and again: takes_objects.py COMM.

Prints the names of the caches in one line, and ends when its standard input does.
"""

from __future__ import annotations

import contextlib
import ctypes
import select
import sys

from kleaktrace.edge.kmemleak.sheaf_scrub import names_of_caches, take_of

PR_SET_NAME = 15


def main(comm: str) -> None:
    ctypes.CDLL(None).prctl(PR_SET_NAME, comm.encode(), 0, 0, 0)
    with contextlib.ExitStack() as stack:
        caches = names_of_caches().items()
        takes = {cache.name: take for cache, names in caches if (take := take_of(cache, names, stack)) is not None}
        print(*takes, flush=True)
        while not select.select([sys.stdin], [], [], 0.02)[0]:
            for take in takes.values():
                take()


main(sys.argv[1])
