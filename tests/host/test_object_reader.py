# SPDX-License-Identifier: GPL-2.0-or-later
"""What objects of the running kernel hold is read as they are, and never leaves the kernel as it is."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from kleaktrace.core.events.records import hide
from kleaktrace.edge.tracing.filters import Filters
from kleaktrace.edge.tracing.tracer import Tracer

pytestmark = pytest.mark.host

PATTERN = bytes(range(1, 251)) * 2
SENDS = f"""
import socket, sys
a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
sys.stdin.readline()
a.send({PATTERN!r})
print("sent", flush=True)
sys.stdin.readline()
"""


def objects_of_a_message(tracer: Tracer, sender: subprocess.Popen[str]) -> list[tuple[int, int]]:
    """Have it send, and return what it allocated meanwhile: (hidden address, bytes)."""
    tracer.poll()
    assert sender.stdin is not None
    assert sender.stdout is not None
    print(file=sender.stdin, flush=True)
    assert sender.stdout.readline() == "sent\n"
    found = []
    while tracer.polled < tracer.reported:
        rows = tracer.poll().allocations
        found += list(zip(rows["object"].tolist(), rows["bytes_alloc"].tolist(), strict=True))
    return found


def test_what_objects_hold() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SENDS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as sender:
        with Tracer(Filters(pid=sender.pid)) as tracer:
            objects = objects_of_a_message(tracer, sender)
            tracer.pause()
            assert tracer.reads_objects.source == "bpf_prog_test_run"
            contents = tracer.read_objects(objects)
            nowhere = tracer.read_objects([(hide(0), 8), (hide(0x1000), 64), (hide(2**63), 64), (hide(2**64 - 8), 64)])
            whole = tracer.read_objects([(objects[0][0], size) for size in (0, 1, 8, 9, 4096, 1 << 20)])
        sender.communicate()
    assert len(contents) == len(objects)
    assert [words.size * 8 for words in contents] == [min(size, 4096) for _, size in objects]
    holding = [words for words in contents if PATTERN in (~words).tobytes()]
    assert holding, "the message lies in one of them"
    assert all(PATTERN not in words.tobytes() for words in holding)
    assert [words.size for words in nowhere] == [0, 0, 0, 0]
    assert [words.size for words in whole] == [0, 1, 1, 2, 512, 512]
    np.testing.assert_array_equal(whole[3], whole[4][:2])


def test_a_kernel_that_refuses_shows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with Tracer() as tracer:

        def refuse(*_: object) -> int:
            raise OSError(1, "Operation not permitted")

        monkeypatch.setattr(tracer._bpf, "run", refuse)
        assert [words.size for words in tracer.read_objects([(hide(2**64 - 8), 8)])] == [0]
        assert tracer.reads_objects.source is None
        assert "Operation not permitted" in tracer.reads_objects.note


def test_caches_that_the_kernel_can_shrink_are_told_from_others() -> None:
    with Tracer() as tracer:
        subprocess.run(["find", "/proc/sys", "-maxdepth", "2"], check=True, stdout=subprocess.DEVNULL)
        tracer.pause()
        while tracer.polled < tracer.reported:
            tracer.poll()
        caches = {cache.name: cache.reclaimable for cache in tracer.names.caches.values()}
    assert caches["dentry"]
    assert not caches["filp"]
