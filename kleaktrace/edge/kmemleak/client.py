# SPDX-License-Identifier: GPL-2.0-or-later
"""Talks to /sys/kernel/debug/kmemleak, safely (mm/kmemleak.c, `kmemleak_write` and `kmemleak_seq_ops`).

Traps that are dealt with here: the file reads empty when kmemleak is off; a scan stops silently when its writer has
a signal pending, and the write succeeds all the same; a read restarts by index and can skip objects; and any word
that begins with `off` disables kmemleak until the next boot.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from kleaktrace.core.kmemleak.diagnosis import State, diagnosis_of
from kleaktrace.core.kmemleak.report_parser import KmemleakText, ObjectDump, Suspect, parse
from kleaktrace.edge.kmemleak.kernel_environment import kernel_environment
from kleaktrace.edge.machine.kernel_log import KMSG, KernelLog
from kleaktrace.errors import EnvironmentRefusal, EvidenceLost, KleaktraceError, UsageError

_LOG = logging.getLogger(__name__)

KMEMLEAK = Path("/sys/kernel/debug/kmemleak")
PARAMETERS = Path("/sys/module/kmemleak/parameters")
MOUNTS = Path("/proc/self/mounts")

GAP_S = 6.0
"""Seconds between scans: an object must be 5 s old at the start of a scan to be listed (MSECS_MIN_AGE)."""

MORE_SCANS = 6
"""A stale pointer on some stack can hide an object for a scan or two; patience settles most of it."""

_COMMAND = re.compile(r"clear|off|stack=(?:on|off)|scan=(?:on|off|\d{1,7})")
_PROBE = b"nonsense"  # no prefix of it is a command


@dataclass(frozen=True, slots=True)
class DumpAnswer:
    """Whether kmemleak knows an object at an address, and what it wrote to the kernel log about it."""

    tracked: bool
    dump: ObjectDump | None


@dataclass(frozen=True, slots=True)
class ScanReading:
    """One scan and what was listed after it. Times are CLOCK_MONOTONIC in ns, around the scan alone."""

    before_ns: int
    after_ns: int
    text: KmemleakText

    @property
    def objects(self) -> tuple[Suspect, ...]:
        """The objects listed after this scan."""
        return self.text.objects


class KmemleakClient:
    """The kernel's kmemleak. Paths can be given for tests."""

    def __init__(
        self,
        path: Path = KMEMLEAK,
        *,
        parameters: Path = PARAMETERS,
        kernel_log: Path = KMSG,
        mounts: Path = MOUNTS,
    ) -> None:
        self.path = path
        self._parameters = parameters
        self._kernel_log = kernel_log
        self._mounts = mounts

    def state(self) -> State:
        """Probe with a word that is no command: EINVAL means on, EPERM or EBUSY off."""
        try:
            self._write(_PROBE)
        except FileNotFoundError:
            return State.ABSENT if self._debugfs_mounted() else State.NO_DEBUGFS
        except _Off:
            return State.OFF
        except PermissionError:
            return State.NO_PERMISSION
        except OSError as error:
            if error.errno == errno.EINVAL:
                return State.ON
            raise
        raise EnvironmentRefusal(
            f"{self.path} is not kmemleak's file: it takes any word", "mount -t debugfs none /sys/kernel/debug"
        )

    def require_on(self) -> None:
        """Raise EnvironmentRefusal with the fix unless kmemleak is on."""
        state = self.state()
        if state is not State.ON:
            raise _refusal(state)

    @property
    def min_unref_scans(self) -> int:
        """How many scans in a row must find an object unreferenced before it is listed; 1 where it can't be set."""
        try:
            return max(1, int((self._parameters / "min_unref_scans").read_text()))
        except (OSError, ValueError):
            return 1

    def needed_scans(self) -> int:
        """Scans until an object leaked just now is listed, and one more to see that it stays so."""
        return max(2, self.min_unref_scans + 1) + 1

    def scan(self) -> None:
        """Scan now and return when the scan is complete, which may take minutes.

        The scan runs in a thread with all signals blocked, because a pending signal would end it half-way and
        unnoticed. KeyboardInterrupt (or what else a signal handler raises) comes through at once: the scan it
        interrupts then counts for nothing. Raises EnvironmentRefusal if kmemleak is off, EvidenceLost if it
        disabled itself meanwhile.
        """
        self.require_on()
        scan = _Unsignalled(lambda: self._write(b"scan"))
        scan.start()
        while scan.is_alive():
            scan.join(0.2)
        if isinstance(scan.error, _Off):
            raise self._lost("before the scan could start")
        if scan.error is not None:
            raise scan.error
        if self.state() is not State.ON:
            raise self._lost("during the scan")

    def read(self) -> KmemleakText:
        """Return what is listed now: the union of two complete reads, since one read can skip objects."""
        first, second = parse(self.read_text()), parse(self.read_text())
        union = {(s.kind, s.address, s.jiffies): s for text in (first, second) for s in text.objects}
        problems = tuple(dict.fromkeys(first.problems + second.problems))
        return KmemleakText(tuple(union.values()), problems)

    def read_text(self) -> str:
        """Return the report as the kernel prints it; bytes of a comm that are no UTF-8 come as `\\xff`."""
        try:
            fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise _refusal(self.state()) from error
        try:
            pieces = []
            while piece := os.read(fd, 1 << 20):
                pieces.append(piece)
        finally:
            os.close(fd)
        return b"".join(pieces).decode(errors="backslashreplace")

    def dump(self, address: int) -> DumpAnswer:
        """Make kmemleak write what it knows of the object at `address` to the kernel log, and read it there.

        Only the start of an object will do: an address inside one makes the kernel log a warning with a stack.
        Per-CPU objects are not found this way. `dump` is None if the log cannot be read.
        """
        try:
            log = KernelLog(self._kernel_log, from_end=True)
        except OSError:
            return DumpAnswer(self._ask(address), None)
        with log:
            if not self._ask(address):
                return DumpAnswer(False, None)
            text = "\n".join(log.lines())
        dumps = [d for d in parse(text).dumps if d.address == address]
        return DumpAnswer(True, dumps[-1] if dumps else None)

    def command(self, word: str) -> None:
        """Give one of kmemleak's commands: clear, off, stack=on|off, scan=on|off|SECONDS.

        kmemleak matches by prefix, so nothing else is let through. `off` lasts until the next boot.
        """
        if not _COMMAND.fullmatch(word):
            raise UsageError(f"kmemleak has no command {word!r}", "clear, off, stack=on|off, scan=on|off|SECONDS")
        try:
            self._write(word.encode())
        except _Off as error:
            raise _refusal(State.OFF) from error
        except OSError as error:
            raise _refusal(self.state()) from error

    def clear(self) -> None:
        """Have kmemleak never list again what it lists now. Destroys evidence: only for who asks by name."""
        self.command("clear")

    def _ask(self, address: int) -> bool:
        try:
            self._write(f"dump=0x{address:x}".encode())
        except _Off as error:
            raise _refusal(State.OFF) from error
        except OSError as error:
            if error.errno == errno.EINVAL:
                return False
            raise _refusal(self.state()) from error
        return True

    def _write(self, word: bytes) -> None:
        """Write one command with a fresh descriptor; raises _Off if kmemleak says that it is off."""
        fd = os.open(self.path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, word)
        except OSError as error:
            if error.errno in (errno.EPERM, errno.EBUSY):
                raise _Off(error.errno, "kmemleak is off") from error
            raise
        finally:
            os.close(fd)

    def _debugfs_mounted(self) -> bool:
        try:
            mounts = self._mounts.read_text(errors="backslashreplace")
        except OSError:
            return False
        return any(line.split()[2:3] == ["debugfs"] for line in mounts.splitlines())

    def _lost(self, when: str) -> EvidenceLost:
        health = diagnosis_of(State.OFF, kernel_environment())
        because = f": {health.evidence}" if health.evidence else ""
        return EvidenceLost(f"kmemleak went off {when}{because}", health.fix)


class ScanPhase(StrEnum):
    """What a series of scans is doing, in words."""

    WAITING = "waiting for the next scan"
    SCANNING = "scanning"
    READING = "reading"


def scan_protocol(
    client: KmemleakClient,
    scans: int,
    gap_s: float = GAP_S,
    progress: Callable[[int, int, ScanPhase], None] = lambda done, total, doing: None,
    sleep: Callable[[float], None] = time.sleep,
    unsettled: Callable[[Sequence[ScanReading]], bool] = lambda readings: False,
) -> list[ScanReading]:
    """Scan `scans` times, `gap_s` seconds apart, and read after each scan; up to MORE_SCANS more while `unsettled`.

    `progress(done, total, doing)` is told the number of scans done and what begins now. What is listed by the
    last readings with the same address and jiffies is stable. Raises as `KmemleakClient.scan` does; Ctrl-C comes
    through at once.
    """
    readings: list[ScanReading] = []
    total = scans
    while len(readings) < total or (total < scans + MORE_SCANS and unsettled(readings)):
        done = len(readings)
        total = max(total, done + 1)
        if done:
            progress(done, total, ScanPhase.WAITING)
            sleep(gap_s)
        progress(done, total, ScanPhase.SCANNING)
        before = time.monotonic_ns()
        client.scan()
        after = time.monotonic_ns()
        progress(done + 1, total, ScanPhase.READING)
        readings.append(ScanReading(before, after, client.read()))
        _LOG.info(
            "scan %d of %d took %.1f s: %d listed", done + 1, total, (after - before) / 1e9, len(readings[-1].objects)
        )
    return readings


class _Off(PermissionError):
    """kmemleak answered that it is off (EPERM, before 4.8 EBUSY)."""


class _Unsignalled(threading.Thread):
    """Runs one call with all signals blocked and keeps what it raised. Does not outlive the process."""

    def __init__(self, call: Callable[[], None]) -> None:
        super().__init__(name="kmemleak-scan", daemon=True)
        self._call = call
        self.error: Exception | None = None

    def run(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            self._call()
        except Exception as error:
            self.error = error


def _refusal(state: State) -> KleaktraceError:
    health = diagnosis_of(state, kernel_environment())
    return EnvironmentRefusal(f"kmemleak: {health.what}", health.fix)
