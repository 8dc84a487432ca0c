# SPDX-License-Identifier: GPL-2.0-or-later
"""Run kleaktrace on the live kernel, and loads whose allocations are known."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from schemas import validated

PROJECT = Path(__file__).resolve().parents[2]
KLEAKTRACE = (sys.executable, "-m", "kleaktrace")
TIMEOUT_S = 120.0
"""For what takes seconds: these tests share the machine with others."""


@dataclass(frozen=True)
class Done:
    """What a kleaktrace command did. `cpu_s` is its processor time, its children's included."""

    status: int
    stdout: str
    stderr: str
    cpu_s: float

    @property
    def complaints(self) -> list[str]:
        """What it said on standard error, but for what this kernel does not show."""
        return [line for line in self.stderr.splitlines() if not line.startswith("kleaktrace: not seen on this kernel")]


class Running:
    """A kleaktrace command in the background, its standard output readable line by line."""

    def __init__(self, arguments: Sequence[object], errors: IO[bytes], prefix: Sequence[str] = ()) -> None:
        self._errors = errors
        self.process = subprocess.Popen(
            [*prefix, *KLEAKTRACE, *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        self._read: list[str] = []

    @property
    def pid(self) -> int:
        """Its process."""
        return self.process.pid

    def wait_for(self, text: str) -> None:
        """Read its standard output until a line holds `text`."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._read.append(line)
            if text in line:
                return
        raise AssertionError(f"it ended without saying {text!r}:\n{''.join(self._read)}{self._said()}")

    def wait_for_error(self, text: str) -> None:
        """Return once its standard error holds `text`."""
        deadline = time.monotonic() + TIMEOUT_S
        while text not in self._said():
            assert self.process.poll() is None, f"it ended without complaint:\n{self._said()}"
            assert time.monotonic() < deadline, self._said()
            time.sleep(0.05)

    def wait_for_probes(self) -> None:
        """Return once its programs are loaded and attached."""
        deadline = time.monotonic() + TIMEOUT_S
        while not self.links():
            assert self.process.poll() is None, f"it ended early:\n{self._said()}"
            assert time.monotonic() < deadline, "no probes"
            time.sleep(0.05)

    def links(self) -> list[str]:
        """The kinds of its attached probes, as /proc/PID/fdinfo names them."""
        return [line.split()[1] for line in _fdinfo(self.pid) if line.startswith("link_type:")]

    def programs(self) -> set[int]:
        """Ids of the BPF programs it holds."""
        return {int(line.split()[1]) for line in _fdinfo(self.pid) if line.startswith("prog_id:")}

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def end(self) -> Done:
        """Wait for its end."""
        assert self.process.stdout is not None
        rest = self.process.stdout.read()
        _, status, usage = os.wait4(self.pid, 0)
        self.process.returncode = os.waitstatus_to_exitcode(status)
        self.process.stdout.close()
        cpu_s = usage.ru_utime + usage.ru_stime
        return Done(self.process.returncode, "".join(self._read) + rest, self._said(), cpu_s)

    def kill(self) -> None:
        """End it, if it has not ended."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def _said(self) -> str:
        # Not through the file's own position, which the process writes at.
        return os.pread(self._errors.fileno(), 1 << 20, 0).decode()


@contextlib.contextmanager
def running(tmp_path: Path, *arguments: object, **options: Any) -> Iterator[Running]:
    """Run kleaktrace in the background, and kill it if the test leaves it alone."""
    with (tmp_path / f"stderr-{time.monotonic_ns()}").open("w+b") as errors:
        process = Running(arguments, errors, **options)
        try:
            yield process
        finally:
            process.kill()


def kleaktrace(tmp_path: Path, *arguments: object, **options: Any) -> Done:
    """Run kleaktrace to its end."""
    with running(tmp_path, *arguments, **options) as process:
        return process.end()


def trace(tmp_path: Path, *arguments: object) -> dict[str, Any]:
    """Run `kleaktrace trace` with these options; its JSON document."""
    file = tmp_path / "trace.json"
    done = kleaktrace(tmp_path, "trace", "--json", file, *arguments)
    assert done.status == 0, done.stderr
    return read_json(file)


def read_json(file: Path) -> dict[str, Any]:
    """A document; the file is readable by its owner only."""
    assert file.stat().st_mode & 0o777 == 0o600
    document: dict[str, Any] = validated(json.loads(file.read_text()))
    return document


def check_books(document: dict[str, Any]) -> None:
    """What holds for every complete trace: nothing lost, and every allocation accounted for."""
    totals, loss = document["totals"], document["loss"]
    assert loss == {"events": 0, "stacks": 0, "names": 0, "causes": [], "windows": []}
    assert totals["allocations"] - totals["frees"] - totals["implied_frees"] == totals["outstanding"]
    assert sum(group["count"] for group in document["outstanding"]) == totals["outstanding"]
    assert sum(group["bytes"] for group in document["outstanding"]) == totals["outstanding_bytes"]
    sizes = [group["bytes"] for group in document["outstanding"]]
    assert sizes == sorted(sizes, reverse=True)


def _fdinfo(pid: int) -> list[str]:
    lines: list[str] = []
    # Files come and go while we look.
    with contextlib.suppress(OSError):
        for file in Path(f"/proc/{pid}/fdinfo").iterdir():
            with contextlib.suppress(OSError):
                lines += file.read_text().splitlines()
    return lines


_BPF_CALL = {"x86_64": 321, "aarch64": 280}[platform.machine()]
_PROG_GET_FD_BY_ID = 13
_LIBC = ctypes.CDLL(None, use_errno=True)


def _loaded(program: int) -> bool:
    attribute = (ctypes.c_uint32 * 32)(program)
    fd = _LIBC.syscall(_BPF_CALL, _PROG_GET_FD_BY_ID, ctypes.byref(attribute), ctypes.sizeof(attribute))
    if fd >= 0:
        os.close(fd)
        return True
    reason = ctypes.get_errno()
    assert reason == errno.ENOENT, os.strerror(reason)
    return False


def wait_until_unloaded(programs: set[int]) -> None:
    """Return when the kernel has none of these BPF programs any more; it drops them a moment after their last user."""
    deadline = time.monotonic() + TIMEOUT_S / 4
    while left := {program for program in programs if _loaded(program)}:
        assert time.monotonic() < deadline, f"BPF programs left behind: {sorted(left)}"
        time.sleep(0.1)


class Holder:
    """A process that opens and keeps files when told to (load.c, hold)."""

    def __init__(self, load: Path, name: str) -> None:
        self.name = name
        self._process = subprocess.Popen(
            [str(load), name, "hold"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        self.tell("close")  # it has its name once it answers

    @property
    def pid(self) -> int:
        """Its process, and only thread."""
        return self._process.pid

    def tell(self, command: str) -> None:
        """`open N`, `eventfd N` or `close [N]`; returns when it is done."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{command}\n")
        assert self._process.stdout.readline() == "done\n"

    def close(self) -> None:
        """End it."""
        self._process.communicate()


@contextlib.contextmanager
def load_on_all_cores(load: Path, name: str, kind: str, seconds: float) -> Iterator[list[subprocess.Popen[str]]]:
    """Run a load on every core for as long; each prints how often it went round."""
    processes = [
        subprocess.Popen([str(load), name, kind, str(seconds), str(cpu)], stdout=subprocess.PIPE, text=True)
        for cpu in sorted(os.sched_getaffinity(0))
    ]
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.communicate()
