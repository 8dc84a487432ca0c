# SPDX-License-Identifier: GPL-2.0-or-later
"""The tracers to compare: how each is started, seen to be tracing, and ended."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from bench_lib import processes

PROJECT = Path(__file__).resolve().parents[2]
SHIM = PROJECT / "bpf" / "shim"

_START_TIMEOUT_S = 240.0
_END_TIMEOUT_S = 120.0
_REST_S = 0.3
"""So long the main thread of kleaktrace does nothing once it only waits for its end."""

_HEEDING_CTRL_C = ("env", "--default-signal=INT")
"""A shell's background jobs ignore it, and so do their children unless told otherwise."""

_EVENTS = ("kmem:kmalloc", "kmem:kfree", "kmem:kmem_cache_alloc", "kmem:kmem_cache_free")


class TracerFailed(Exception):
    """A tracer did not start, or ended badly; the text says what it said."""


@dataclass(frozen=True, slots=True)
class Tracer:
    """A way of tracing. `command` and `environment` may hold {directory}, an empty place for its files; no command: no
    tracing at all.

    `missing` says why it can't run here, empty if it can.
    """

    name: str
    command: tuple[str, ...] = ()
    ready: Callable[[Running], bool] = field(default=lambda _: True, repr=False)
    environment: tuple[tuple[str, str], ...] = ()
    missing: str = ""


class Running:
    """A tracer at work."""

    def __init__(self, tracer: Tracer, directory: Path) -> None:
        self.tracer = tracer
        self.directory = directory
        self.output = directory / "output"
        self.ended_after_s: float | None = None
        self.ready_after_s = 0.0
        self.started_s = time.time()
        self.process: subprocess.Popen[bytes] | None = None
        if tracer.command:
            with self.output.open("wb") as output:
                self.process = subprocess.Popen(
                    [*_HEEDING_CTRL_C, *(word.format(directory=directory) for word in tracer.command)],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env={
                        **os.environ,
                        **{name: value.format(directory=directory) for name, value in tracer.environment},
                    },
                    cwd=PROJECT,
                )

    @property
    def pid(self) -> int:
        """Its process."""
        assert self.process is not None
        return self.process.pid

    def said(self) -> str:
        """What it printed so far."""
        return self.output.read_text(errors="replace")

    def wait(self) -> None:
        """Return once it traces."""
        if self.process is None:
            return
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not self.tracer.ready(self):
            if self.process.poll() is not None:
                raise TracerFailed(f"{self.tracer.name} ended early: {_last(self.said())}")
            if time.monotonic() > deadline:
                raise TracerFailed(f"{self.tracer.name} does not trace after {_START_TIMEOUT_S:.0f} s")
            time.sleep(0.02)
        self.ready_after_s = time.time() - self.started_s

    def wait_for_end(self, timeout_s: float) -> None:
        """Return once it has ended by itself."""
        assert self.process is not None
        try:
            self.process.wait(timeout_s)
        except subprocess.TimeoutExpired as late:
            raise TracerFailed(f"{self.tracer.name} is still at it after {timeout_s:g} s") from late

    def end(self) -> None:
        """End it as a user would, with Ctrl-C. Once is enough."""
        if self.process is None or self.process.returncode is not None:
            return
        begun = time.monotonic()
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(_END_TIMEOUT_S)
        except subprocess.TimeoutExpired as late:
            raise TracerFailed(f"{self.tracer.name} does not end") from late
        self.ended_after_s = time.monotonic() - begun
        if (self.directory / "trace.json").exists() and self.window_start_s > self.started_s + self.ready_after_s:
            raise TracerFailed(f"{self.tracer.name} was not tracing yet when it was believed to: measure again")

    def kill(self) -> None:
        """End it, if it has not ended."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    @property
    def window_start_s(self) -> float:
        """When kleaktrace began to trace, by its own document (seconds since 1970)."""
        return datetime.fromisoformat(self.document()["window"]["start"]).timestamp()

    def document(self) -> dict[str, Any]:
        """What kleaktrace wrote at its end."""
        file = self.directory / "trace.json"
        try:
            found: dict[str, Any] = json.loads(file.read_text())
        except (OSError, ValueError) as error:
            raise TracerFailed(f"{self.tracer.name} left no document: {_last(self.said())}") from error
        return found


@contextlib.contextmanager
def tracing(tracer: Tracer, directory: Path) -> Iterator[Running]:
    """Start a tracer, and come back when it traces; afterwards it is gone, and so are its files."""
    place = directory / "tracer"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    running = Running(tracer, place)
    try:
        running.wait()
        yield running
        running.end()
    finally:
        running.kill()
        shutil.rmtree(place, ignore_errors=True)


NONE = Tracer("none")


def kleaktrace(*options: str, name: str = "kleaktrace") -> Tracer:
    """`kleaktrace trace`, this checkout's."""
    command = (sys.executable, "-m", "kleaktrace", "trace", "--json", "{directory}/trace.json", *options)
    return Tracer(name, command, _rests_attached())


def recorder(*options: str, name: str) -> Tracer:
    """`kleaktrace record`, this checkout's."""
    return Tracer(name, (sys.executable, "-m", "kleaktrace", "record", *options), _rests_attached())


def exact_stacks() -> Tracer:
    """kleaktrace without its short cuts to a stack."""
    tracer = kleaktrace("--exact-stacks", name="exact stacks")
    said = subprocess.run([*tracer.command[:4], "--help"], capture_output=True, text=True, check=True, cwd=PROJECT)
    missing = "" if "--exact-stacks" in said.stdout else "kleaktrace trace has no --exact-stacks"
    return Tracer(tracer.name, tracer.command, tracer.ready, missing=missing)


def memleak() -> Tracer:
    """bcc's memleak, the distribution's, over the whole system; it prints at the end of an interval, hours away."""
    program = shutil.which("memleak-bpfcc", path="/usr/sbin:/usr/bin:/usr/share/bcc/tools")
    return Tracer(
        "memleak",
        (program or "memleak-bpfcc", "-o", "1000", "36000"),
        lambda running: "Attaching to kernel allocators" in running.said(),
        (("PYTHONUNBUFFERED", "1"), *_kernel_headers()),
        missing="" if program else "memleak-bpfcc is not installed (apt-get install bpfcc-tools)",
    )


def perf() -> Tracer:
    """`perf record` of the same events, with stacks, into a file."""
    program = shutil.which("perf")
    events = [word for event in _EVENTS for word in ("-e", event)]
    return Tracer(
        "perf record",
        (program or "perf", "record", "-a", "-g", "-o", "{directory}/perf.data", *events),
        lambda running: _filled(running.directory / "perf.data"),
        missing="" if program else "perf is not installed (apt-get install linux-perf)",
    )


def trace_cmd() -> Tracer:
    """`trace-cmd record` of the same events, with stacks, into files."""
    program = shutil.which("trace-cmd")
    events = [word for event in _EVENTS for word in ("-e", event)]
    return Tracer(
        "trace-cmd",
        (program or "trace-cmd", "record", "-T", "-o", "{directory}/trace.dat", *events),
        lambda running: any(_filled(file) for file in running.directory.glob("trace.dat.cpu*")),
        missing="" if program else "trace-cmd is not installed (apt-get install trace-cmd)",
    )


def tried(tracer: Tracer, directory: Path) -> Tracer:
    """The tracer, or why it does not run here."""
    if tracer.missing:
        return tracer
    try:
        with tracing(tracer, directory):
            return tracer
    except TracerFailed as failure:
        return Tracer(tracer.name, missing=str(failure))


def _rests_attached() -> Callable[[Running], bool]:
    """Probes are attached one by one, and more is done after that: it traces when it has probes and rests."""
    seen: dict[int, tuple[float | None, float]] = {}

    def ready(running: Running) -> bool:
        now = time.monotonic()
        worked_s = processes.resting_after_s(running.pid)
        if worked_s is None or running.pid not in seen or worked_s != seen[running.pid][0]:
            seen[running.pid] = worked_s, now
        return now - seen[running.pid][1] > _REST_S and bool(processes.fdinfo(running.pid, "link_type"))

    return ready


def _kernel_headers() -> tuple[tuple[str, str], ...]:
    """Where bcc finds headers: the kernel's own, else this project's stand-ins, which memleak compiles with as well."""
    release = os.uname().release
    if Path(f"/lib/modules/{release}/build").exists() or Path("/sys/kernel/kheaders.tar.xz").exists():
        return ()
    return (("BCC_KERNEL_SOURCE", str(SHIM)),)


def _filled(file: Path) -> bool:
    return file.exists() and file.stat().st_size > 0


def _last(text: str) -> str:
    """The last line that says something."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "(no output)"
