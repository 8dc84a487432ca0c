# SPDX-License-Identifier: GPL-2.0-or-later
"""Has the kernel take pages when told to, a line each on standard input, and says "done" after each.

pipes N: N pages in pipes. packets N: N blocks of 8 pages in a packet socket's ring. touch N: N pages of its own memory,
and as many of a file's. close: all of it goes. Runs with the distribution's Python, without anything of the project.
"""

import mmap
import os
import socket
import struct
import sys
import tempfile
from pathlib import Path

PIPE_PAGES = 16  # fs/pipe.c, PIPE_DEF_BUFFERS
SOL_PACKET, PACKET_RX_RING = 263, 5
PAGE = mmap.PAGESIZE
held = []


def pipes(count: int) -> None:
    for first in range(0, count, PIPE_PAGES):
        reader, writer = os.pipe()
        held.append(lambda ends=(reader, writer): [os.close(end) for end in ends])
        for _ in range(min(PIPE_PAGES, count - first)):
            os.write(writer, bytes(PAGE))


def packets(count: int) -> None:
    ring = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    block, frame = 8 * PAGE, 2048
    ring.setsockopt(SOL_PACKET, PACKET_RX_RING, struct.pack("=4I", block, count, frame, count * block // frame))
    held.append(ring.close)


def touch(count: int) -> None:
    memory = mmap.mmap(-1, count * PAGE)
    for place in range(0, count * PAGE, PAGE):
        memory[place] = 1
    held.append(memory.close)
    with tempfile.TemporaryFile(dir="/var/tmp") as file:
        for _ in range(count):
            file.write(bytes(PAGE))


def close() -> None:
    while held:
        held.pop()()


Path("/proc/self/comm").write_text(sys.argv[1])
print("done", flush=True)
for line in sys.stdin:
    what, *arguments = line.split()
    {"pipes": pipes, "packets": packets, "touch": touch, "close": close}[what](*map(int, arguments))
    print("done", flush=True)
