# SPDX-License-Identifier: GPL-2.0-or-later
"""Pages on the running kernel: those that a process has it take are counted one by one, and user memory is not."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from host_tools import check_books, kleaktrace, read_json

from kleaktrace.core.events.coverage import CoverageKind
from kleaktrace.core.events.records import Kind
from kleaktrace.edge.tracing.filters import Filters
from kleaktrace.edge.tracing.tracer import Tracer
from kleaktrace.session.live import live_session
from kleaktrace.session.session import Session

pytestmark = pytest.mark.host

PAGE = 4096
MANY = 1000


class PageHolder:
    """A process that has the kernel take pages (holds_pages.py)."""

    def __init__(self, name: str) -> None:
        script = Path(__file__).with_name("holds_pages.py")
        # Not by pipes: what it says would take a page.
        ours, its = socket.socketpair()
        with its:
            self._process = subprocess.Popen(["/usr/bin/python3", str(script), name], stdin=its, stdout=its)
        self._socket, self._answers = ours, ours.makefile("r")
        self._wait()

    def _wait(self) -> None:
        assert self._answers.readline() == "done\n"

    def tell(self, words: str) -> None:
        """Have it do something, and wait until it is done."""
        self._socket.sendall(f"{words}\n".encode())
        self._wait()

    def end(self) -> None:
        """End it."""
        with self._process, self._socket, self._answers:
            self._socket.shutdown(socket.SHUT_WR)


Hold = Callable[[str], PageHolder]


@pytest.fixture
def holder() -> Iterator[Hold]:
    """Give a function that starts such a process."""
    started: list[PageHolder] = []

    def start(name: str) -> PageHolder:
        started.append(PageHolder(name))
        return started[-1]

    yield start
    for process in started:
        process.end()


def _pages_of(session: Session, comm: str, function: str) -> tuple[int, int]:
    """How many blocks of pages are outstanding that a function has asked for in tasks of that name, and their bytes."""
    rows = session.outstanding()
    rows = rows[(rows["kind"] == Kind.PAGES) & (rows["comm"] == comm.encode())]
    asked = [any(f.name and function in f.name for f in session.names.stacks.get(key).frames) for key in rows["stack"]]
    return sum(asked), int(rows["bytes_alloc"][asked].sum())


def test_counts_the_pages_that_a_process_has_the_kernel_hold(holder: Hold) -> None:
    with live_session(pages=True) as session:
        process = holder("kt-pages")
        process.tell(f"pipes {MANY}")
        assert _pages_of(session, "kt-pages", "pipe_write") == (MANY, MANY * PAGE)
        process.tell("packets 20")
        assert _pages_of(session, "kt-pages", "packet_set_ring") == (20, 20 * 8 * PAGE)
        process.tell("close")
        assert _pages_of(session, "kt-pages", "pipe_write") == (0, 0)
        assert _pages_of(session, "kt-pages", "packet_set_ring") == (0, 0)
        assert session.loss.events == 0


def test_memory_of_user_space_and_of_files_is_left_out(holder: Hold) -> None:
    with Tracer(Filters(comm="kt-touch"), pages=True) as tracer:
        process = holder("kt-touch")
        process.tell("touch 20000")
        process.tell("close")
        told = 0
        while (batch := tracer.poll()).size:
            told += int(np.count_nonzero(batch.allocations["kind"] == Kind.PAGES))
        # Some are for the kernel itself: what is to be freed is collected in pages of pointers.
        assert told < 500
        assert tracer.check_loss().events == 0


def test_filters_hold_for_pages(holder: Hold) -> None:
    wanted, other = holder("kt-wanted"), holder("kt-other")
    with live_session(Filters(comm="kt-wanted", min_size=2 * PAGE), pages=True) as session:
        for process in (wanted, other):
            process.tell("pipes 100")
            process.tell("packets 5")
        assert _pages_of(session, "kt-wanted", "packet_set_ring") == (5, 5 * 8 * PAGE)
        assert _pages_of(session, "kt-wanted", "pipe_write") == (0, 0)
        assert _pages_of(session, "kt-other", "packet_set_ring") == (0, 0)
        wanted.tell("close")
        assert _pages_of(session, "kt-wanted", "packet_set_ring") == (0, 0)


@pytest.mark.parametrize("left_out", [frozenset[str](), frozenset({"bpf_rdonly_cast"})])
def test_programs_for_pages_are_not_too_complex_for_the_kernel(left_out: frozenset[str]) -> None:
    everything = Filters(module="kt_filter", pid=1, comm="kt-filter", cache="kmalloc-64", min_size=1, max_size=1 << 20)
    with Tracer(everything, left_out=left_out, pages=True) as tracer:
        assert not [why for why in tracer.refusals[CoverageKind.PAGES] if "too" in why]
        assert CoverageKind.PAGES in {one.kind for one in tracer.coverage if one.source}


def test_command_shows_pages_by_their_order(holder: Hold, tmp_path: Path) -> None:
    process, file = holder("kt-orders"), tmp_path / "trace.json"
    process.tell("pipes 16")
    done = kleaktrace(tmp_path, "trace", "--pages", "--duration", 3, "--json", file)
    assert done.status == 0, done.stderr
    document = read_json(file)
    check_books(document)
    kinds = {row["kind"]: row["source"] for row in document["coverage"]}
    assert kinds["pages"] == "raw_tracepoint:mm_page_alloc+raw_tracepoint:mm_page_free"
    without = kleaktrace(tmp_path, "trace", "--duration", 1, "--json", file)
    assert without.status == 0
    assert "pages" not in {row["kind"] for row in read_json(file)["coverage"]}
