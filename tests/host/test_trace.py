# SPDX-License-Identifier: GPL-2.0-or-later
"""Tracing the running kernel: what it says about allocations that are known, and nothing but those."""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import pty
import re
import signal
import struct
import subprocess
import termios
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from host_tools import (
    KLEAKTRACE,
    TIMEOUT_S,
    Holder,
    check_books,
    kleaktrace,
    load_on_all_cores,
    read_json,
    running,
    trace,
)

from kleaktrace.core.report import Report
from kleaktrace.edge.tracing.filters import Filters
from kleaktrace.edge.tracing.tracer import Tracer
from kleaktrace.session.live import live_session
from kleaktrace.session.session import Session

pytestmark = pytest.mark.host

MANY = 4000
Hold = Callable[[str], Holder]


def test_trace_under_load(load: Path, tmp_path: Path) -> None:
    file = tmp_path / "trace.json"
    with (
        load_on_all_cores(load, "kt-churn", "churn", 600),
        load_on_all_cores(load, "kt-sockets", "sockets", 600),
    ):
        done = kleaktrace(tmp_path, "trace", "--duration", 6, "--json", file)
    assert done.status == 0, done.stderr
    assert done.complaints == []
    assert "\x1b" not in done.stdout
    assert "lost: nothing" in done.stdout
    assert done.stdout.count("call stack\n") == 2, "one table while it runs, one at the end"
    document = read_json(file)
    check_books(document)
    assert document["schema"] == 1
    assert document["verdict"] == "incomplete"
    assert 6 <= document["window"]["seconds"] < 60
    totals = document["totals"]
    assert totals["allocations"] > 10_000
    assert totals["frees"] > 10_000
    sources = {coverage["kind"]: coverage["source"] for coverage in document["coverage"]}
    assert sources["kmalloc"] == "raw_tracepoint:kmalloc"
    for group in document["outstanding"]:
        assert group["context"] in ("task", "softirq", "hardirq", "nmi")
        assert group["stack"], "every stack could be taken"
        assert group["count"] > 0
        assert 0 <= group["oldest_s"] <= document["window"]["seconds"] + 0.5


MOST_DEPTH = 512 - 64
"""Of what a program may have on its stack (MAX_BPF_STACK), less what other kernels' offsets and settings have cost."""


def stack_depth(code: bytes) -> int:
    """Bytes of its stack that a program uses: how far below the frame pointer it reads, writes, or points."""
    lowest, copies = 0, set[int]()
    for opcode, registers, offset, constant in struct.iter_unpack("<BBhi", code):
        destination, source = registers & 15, registers >> 4
        if 10 in (destination, source):
            lowest = min(lowest, offset)
        if opcode == 0xBF and source == 10:  # a copy of the frame pointer, and what is added to it
            copies.add(destination)
        elif opcode == 0x07 and destination in copies:
            lowest = min(lowest, constant)
            copies.discard(destination)
    return -lowest


@pytest.mark.parametrize("exact_stacks", [False, True])
@pytest.mark.parametrize("left_out", [frozenset[str](), frozenset({"bpf_rdonly_cast"})])
def test_with_filters_programs_are_not_too_complex_for_the_kernel(exact_stacks: bool, left_out: frozenset[str]) -> None:
    """What it does not take costs coverage: it follows at most a million instructions."""
    everything = Filters(module="kt_filter", pid=1, comm="kt-filter", cache="kmalloc-64", min_size=1, max_size=1 << 20)
    for filters in (Filters(module="kt_filter"), everything):
        with Tracer(filters, exact_stacks=exact_stacks, left_out=left_out) as tracer:
            refusals = {kind: reason for kind, why in tracer.refusals.items() for reason in why if "too" in reason}
            assert not refusals
            depths = {name: stack_depth(code) for name, code in tracer._bpf._programs.functions.items()}
            assert max(depths.values()) <= MOST_DEPTH, depths


def test_stacks_begin_with_whoever_asked_the_allocator(holder: Hold, tmp_path: Path) -> None:
    with _session(comm="kt-stack", cache="filp") as session:
        holder("kt-stack").tell("open 1")
        (group,) = _report(session).outstanding
    functions = [line.split("+")[0] for line in group.stack.lines()]
    assert functions[0] == "alloc_empty_file"
    assert "do_sys_openat2" in functions
    assert functions.index("alloc_empty_file") < functions.index("do_sys_openat2")
    assert group.context == "task"


def test_counts_what_a_process_holds_and_lets_go(holder: Hold) -> None:
    with _session() as session:
        process = holder("kt-holder")
        process.tell(f"open {MANY}")
        process.tell("eventfd 100")
        assert _held(session, process, "alloc_empty_file", "filp") == MANY + 100
        assert _held(session, process, "do_eventfd", "kmalloc-64") == 100
        process.tell("close")
        assert _held(session, process, "alloc_empty_file", "filp") == 0
        assert _held(session, process, "do_eventfd", "kmalloc-64") == 0
        assert session.loss.events == 0


def test_command_shows_what_a_process_holds(holder: Hold, tmp_path: Path) -> None:
    process, file = holder("kt-command"), tmp_path / "trace.json"
    options = ("trace", "--pid", process.pid, "--cache", "filp")
    with running(tmp_path, *options, "--by", "comm", "--duration", 14, "--json", file) as tracer:
        tracer.wait_for("nothing outstanding")
        process.tell(f"open {MANY}")
        tracer.wait_for("kt-command")
        done = tracer.end()
    assert done.status == 0
    document = read_json(file)
    check_books(document)
    (group,) = document["outstanding"]
    assert group["count"] == MANY == document["totals"]["outstanding"]
    assert (group["comm"], group["cache"]) == ("kt-command", "filp")
    row = next(line for line in reversed(done.stdout.splitlines()) if line.endswith("kt-command"))
    assert f"{MANY:,}" in row.split()


@pytest.mark.parametrize("by", ["pid", "comm"])
def test_filter_by_task(holder: Hold, by: str) -> None:
    wanted, other = holder("kt-wanted"), holder("kt-other")
    filters = {"pid": wanted.pid} if by == "pid" else {"comm": wanted.name}
    with _session(**filters) as session:
        for process in (other, wanted, other):
            process.tell("open 300")
        report = _report(session)
        assert {group.comm for group in report.outstanding} == {"kt-wanted"}
        assert _held(session, wanted, "alloc_empty_file", "filp") == 300
        for process in (wanted, other):
            process.tell("close")
        report = _report(session)
        assert _held(session, wanted, "alloc_empty_file", "filp") == 0
        assert report.totals.unknown_frees == 0
        assert report.totals.frees >= 300


@pytest.mark.parametrize(
    ("cache", "function", "held"), [("filp", "alloc_empty_file", 450), ("kmalloc-64", "do_eventfd", 150)]
)
def test_filter_by_cache(holder: Hold, cache: str, function: str, held: int) -> None:
    with _session(cache=cache) as session:
        process = holder("kt-cache")
        process.tell("open 300")
        process.tell("eventfd 150")
        assert {group.cache for group in _report(session).outstanding} == {cache}
        assert _held(session, process, function, cache) == held
        process.tell("close")
        assert _held(session, process, function, cache) == 0
        assert _report(session).totals.unknown_frees == 0


def test_filters_together(holder: Hold) -> None:
    with _session(comm='kt-"all"', cache="filp", min_size=1, max_size=1 << 20) as session:
        process = holder('kt-"all"')
        process.tell("open 30")
        process.tell("eventfd 10")
        report = _report(session)
        assert _held(session, process, "alloc_empty_file", "filp") == 40
        assert {(group.comm, group.cache) for group in report.outstanding} == {('kt-"all"', "filp")}


@pytest.mark.parametrize(
    "chosen", [*itertools.combinations(("module", "pid", "comm", "cache", "min_size", "max_size"), 2)], ids="+".join
)
def test_the_kernel_takes_any_two_filters(chosen: tuple[str, ...]) -> None:
    values: dict[str, Any] = {"module": "m", "pid": 1, "comm": "c" * 15, "cache": "x", "min_size": 1, "max_size": 9}
    with Tracer(Filters(**{name: values[name] for name in chosen})) as tracer:
        assert tracer.coverage


def test_filter_by_size(holder: Hold) -> None:
    process = holder("kt-size")
    with _session(comm="kt-size") as session:
        process.tell("eventfd 1")
        rows = session.outstanding()
    size = int(rows["bytes_req"][rows["kind"] == 0].min())  # struct eventfd_ctx
    assert 16 <= size <= 64
    for low, high, held in ((size, size, 200), (None, size - 1, 0), (size + 1, None, 0)):
        with _session(min_size=low, max_size=high) as session:
            process.tell("eventfd 200")
            rows = session.outstanding()
            assert rows["bytes_req"].size
            assert rows["bytes_req"].min() >= (low or 0)
            assert rows["bytes_req"].max() <= (high or 1 << 40)
            ours = rows[(rows["comm"] == b"kt-size") & (rows["bytes_req"] == size)]
            assert ours.size == held
            process.tell("close")
            assert _report(session).totals.unknown_frees == 0


def test_filter_by_a_module_that_is_not_there(tmp_path: Path) -> None:
    document = trace(tmp_path, "--module", "no_such_module", "--duration", 1)
    check_books(document)
    assert document["totals"]["allocations"] == 0
    assert document["outstanding"] == []


def test_two_tracers_see_the_same(holder: Hold) -> None:
    with _session(comm="kt-two") as first, _session(comm="kt-two") as second:
        process = holder("kt-two")
        process.tell("open 500")
        assert _held(first, process, "alloc_empty_file", "filp") == 500
        assert _held(second, process, "alloc_empty_file", "filp") == 500
        first.stop()
        process.tell("close")
        process.tell("open 20")
        assert _held(first, process, "alloc_empty_file", "filp") == 500
        assert _held(second, process, "alloc_empty_file", "filp") == 20


def test_works_in_a_pid_namespace(load: Path, tmp_path: Path) -> None:
    # Numbers of processes are other ones there than the kernel's own.
    script = f"""
    {{ while sleep 0.2; do echo open 5; done; }} | {load} kt-inner hold >/dev/null &
    exec "$@" --pid $!
    """
    file = tmp_path / "trace.json"
    inside = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child", "sh", "-c", script, "sh")
    done = kleaktrace(tmp_path, "trace", "--duration", 3, "--json", file, prefix=inside)
    assert done.status == 0, done.stderr
    document = read_json(file)
    assert 3 <= document["window"]["seconds"] < 60
    assert {group["comm"] for group in document["outstanding"]} == {"kt-inner"}


class Terminal:
    """`kleaktrace trace` on a terminal of its own, 80 by 24. stdin: else, its keys come from there."""

    def __init__(self, *arguments: str, stdin: int | None = None) -> None:
        self._ours, its = pty.openpty()
        fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        environment = {"TERM": "xterm-256color", "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}
        with open(its, "wb") as screen:  # noqa: PTH123 (a file descriptor)
            self.process = subprocess.Popen(
                [*KLEAKTRACE, "trace", *arguments],
                stdin=screen if stdin is None else stdin,
                stdout=screen,
                stderr=screen,
                env=environment,
                start_new_session=True,
            )
        self.shown = ""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        with contextlib.suppress(OSError):
            while data := os.read(self._ours, 65536):
                self.shown += data.decode(errors="replace")

    def press(self, keys: str) -> None:
        """Type this."""
        os.write(self._ours, keys.encode())

    def wait_for(self, words: str) -> None:
        """Return when this was shown."""
        deadline = time.monotonic() + TIMEOUT_S
        while words not in self.shown:
            assert time.monotonic() < deadline, f"{words!r} is not in {self.shown[-4000:]!r}"
            assert self.process.poll() is None, self.shown[-4000:]
            time.sleep(0.05)

    def end(self) -> str:
        """Wait for its end; what it printed behind the screen."""
        try:
            status = self.process.wait(TIMEOUT_S)
        finally:
            self.process.kill()
        self._reader.join(TIMEOUT_S)
        os.close(self._ours)
        assert status == 0, self.shown[-4000:]
        return self.shown.rpartition(LEFT)[2]


LEFT = "\x1b[?1049l"
"""What leaves the screen, and shows what was there before."""


def test_terminal_shows_a_screen(tmp_path: Path) -> None:
    terminal = Terminal("--duration", "6")
    report = terminal.end()
    assert len(set(re.findall(r"\d\.\d s: [0-9,]+ allocation", terminal.shown.partition(LEFT)[0]))) >= 3, (
        "drawn every second"
    )
    assert "Help" in terminal.shown
    assert "call stack" in report
    assert "lost: nothing" in report


@pytest.mark.parametrize("end", ["q", "\x03", signal.SIGTERM, signal.SIGINT])
def test_keys_and_signals_end_the_screen_and_the_report_comes_then(tmp_path: Path, end: str | signal.Signals) -> None:
    terminal = Terminal("--by", "cache")
    terminal.wait_for("outstanding (")
    terminal.press("?")
    terminal.wait_for("Esc closes this")
    terminal.press("q")
    terminal.press("4")
    terminal.wait_for("comm")
    if isinstance(end, str):
        terminal.press(end)
    else:
        terminal.process.send_signal(end)
    report = terminal.end()
    assert "oldest  cache" in report
    assert "lost: nothing" in report


def test_without_keys_a_terminal_shows_a_live_table(tmp_path: Path) -> None:
    terminal = Terminal("--duration", "4", "--top", "3", stdin=subprocess.DEVNULL)
    terminal.end()
    assert "a table without keys: " in terminal.shown
    text = terminal.shown
    assert text.count("\x1b[1mbytes") + text.count("bytes     count") >= 3, "drawn every second"
    assert "\x1b[2K" in text, "and drawn over"
    assert "lost: nothing" in text.rsplit("call stack", 1)[1]


def test_plain_tables_on_a_terminal(tmp_path: Path) -> None:
    terminal = Terminal("--plain", "--duration", "6", "--top", "3")
    terminal.end()
    assert LEFT not in terminal.shown
    assert "\x1b[?25l" not in terminal.shown, "nothing is drawn over"
    assert terminal.shown.count("call stack") == 2, "one table while it runs, one at the end"


def _session(**filters: Any) -> Session:
    return live_session(Filters(**filters))


def _report(session: Session) -> Report:
    with session.looking() as recording:
        report = recording.report()
    totals = report.totals
    assert totals.allocations - totals.frees - totals.implied_frees == totals.outstanding
    return report


def _held(session: Session, process: Holder, function: str, cache: str) -> int:
    """How many outstanding objects of a cache this process got through a function that calls the allocator."""
    rows, names = session.outstanding(), session.names
    rows = rows[(rows["comm"] == process.name.encode()) & (rows["tid"] == process.pid)]
    return sum(
        names.cache(row["kind"], row["cache"], row["bytes_alloc"]) == cache
        and names.stacks.get(row["stack"]).frames[0].name == function
        for row in rows
    )
