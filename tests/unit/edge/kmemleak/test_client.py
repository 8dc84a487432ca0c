# SPDX-License-Identifier: GPL-2.0-or-later
"""What of the client can be tested without kmemleak: files, states, refusals, and the order of the protocol."""

from __future__ import annotations

import errno
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from kleaktrace.core.kmemleak.diagnosis import State
from kleaktrace.core.kmemleak.report_parser import KmemleakText, parse
from kleaktrace.edge.kmemleak.client import DumpAnswer, KmemleakClient, scan_protocol
from kleaktrace.edge.machine.kernel_log import messages
from kleaktrace.errors import EnvironmentRefusal, EvidenceLost, UsageError

REPORT = (
    "unreferenced object 0xffff888003692380 (size 128):\n"
    '  comm "te\\ster", pid 762, jiffies 4294831244\n'
    "  backtrace (crc 2128895f):\n    probe+0x44/0xf0 [drv]\n"
)


class Kernel(KmemleakClient):
    """A client whose writes go to a list and whose answers are scripted."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, parameters=path.parent / "parameters")
        self.written: list[str] = []
        self.answer: Callable[[str], OSError | None] = lambda word: (
            OSError(errno.EINVAL, "invalid") if word == "nonsense" else None
        )
        self.masks: dict[str, set[int]] = {}

    def _write(self, word: bytes) -> None:
        text = word.decode()
        self.written.append(text)
        self.masks[text] = set(signal.pthread_sigmask(signal.SIG_BLOCK, []))
        error = self.answer(text)
        if error is not None:
            raise error


@pytest.fixture
def kernel(tmp_path: Path) -> Kernel:
    path = tmp_path / "kmemleak"
    path.write_text(REPORT)
    return Kernel(path)


def test_states_without_a_file(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text("sysfs /sys sysfs rw 0 0\n")
    client = KmemleakClient(tmp_path / "kmemleak", mounts=mounts)
    assert client.state() is State.NO_DEBUGFS
    mounts.write_text("none /sys/kernel/debug debugfs rw 0 0\n")
    assert client.state() is State.ABSENT


def test_a_file_that_takes_any_word_is_not_kmemleak(tmp_path: Path) -> None:
    (tmp_path / "kmemleak").write_text("")
    with pytest.raises(EnvironmentRefusal, match="not kmemleak's file"):
        KmemleakClient(tmp_path / "kmemleak").state()


def test_the_probe_is_no_prefix_of_a_command(kernel: Kernel) -> None:
    kernel.state()
    assert not any(kernel.written[0].startswith(word) for word in ("clear", "off", "stack", "scan", "dump"))


@pytest.mark.parametrize(("code", "state"), [(errno.EINVAL, State.ON), (errno.EACCES, State.NO_PERMISSION)])
def test_what_the_probe_is_answered(kernel: Kernel, code: int, state: State) -> None:
    kernel.answer = lambda word: OSError(code, "")
    assert kernel.state() is state


@pytest.mark.parametrize("code", [errno.EPERM, errno.EBUSY])
def test_off_is_told_apart_from_not_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    (tmp_path / "kmemleak").write_text("")

    def refuse(fd: int, data: bytes) -> int:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("kleaktrace.edge.kmemleak.client.os.write", refuse)
    assert KmemleakClient(tmp_path / "kmemleak").state() is State.OFF


def test_reading_goes_on_to_the_end(tmp_path: Path) -> None:
    fifo = tmp_path / "kmemleak"
    os.mkfifo(fifo)

    def kernel() -> None:
        with fifo.open("wb", buffering=0) as file:
            for piece in (REPORT[:60], REPORT[60:], REPORT.replace("2380", "4000")):
                file.write(piece.encode())

    writer = threading.Thread(target=kernel)
    writer.start()
    text = KmemleakClient(fifo).read_text()
    writer.join()
    assert [o.address for o in parse(text).objects] == [0xFFFF888003692380, 0xFFFF888003694000]


def test_two_reads_are_united(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = iter([REPORT, REPORT.replace("2380", "4000") + REPORT])
    monkeypatch.setattr(kernel, "read_text", lambda: next(texts))
    assert {o.address for o in kernel.read().objects} == {0xFFFF888003692380, 0xFFFF888003694000}


def test_bytes_of_a_comm_that_are_no_text_do_not_stop_the_reading(kernel: Kernel) -> None:
    kernel.path.write_bytes(REPORT.encode().replace(b"ster", b"\xff\n\x1b"))
    assert kernel.read().objects[0].comm == "te\\\\xff\n\x1b"


def test_the_scan_is_written_with_all_signals_blocked(kernel: Kernel) -> None:
    kernel.scan()
    assert kernel.written == ["nonsense", "scan", "nonsense"]
    assert {signal.SIGINT, signal.SIGTERM, signal.SIGALRM} <= kernel.masks["scan"]
    assert signal.SIGINT not in kernel.masks["nonsense"]


def test_kmemleak_that_goes_off_while_scanning_is_lost_evidence(kernel: Kernel) -> None:
    states = iter([State.ON, State.OFF])
    kernel.state = lambda: next(states)  # type: ignore[method-assign]
    with pytest.raises(EvidenceLost, match="during the scan"):
        kernel.scan()


def test_a_scan_that_fails_is_not_a_scan(kernel: Kernel) -> None:
    kernel.answer = lambda word: OSError(errno.EIO if word == "scan" else errno.EINVAL, "")
    with pytest.raises(OSError, match="5"):
        kernel.scan()


def test_nothing_is_scanned_while_off(kernel: Kernel) -> None:
    kernel.state = lambda: State.OFF  # type: ignore[method-assign]
    with pytest.raises(EnvironmentRefusal):
        kernel.scan()
    assert "scan" not in kernel.written


@pytest.mark.parametrize("word", ["", "of", "official", "off ", "scan", "scan=", "stack=", "dump=0x1", "clear\n"])
def test_words_that_kmemleak_would_take_for_something_else_are_refused(kernel: Kernel, word: str) -> None:
    with pytest.raises(UsageError):
        kernel.command(word)
    assert kernel.written == []


@pytest.mark.parametrize("word", ["clear", "off", "stack=on", "stack=off", "scan=on", "scan=off", "scan=600"])
def test_commands_are_handed_on(kernel: Kernel, word: str) -> None:
    kernel.command(word)
    assert kernel.written == [word]


def test_an_address_that_kmemleak_does_not_know(kernel: Kernel) -> None:
    kernel.answer = lambda word: OSError(errno.EINVAL, "")
    assert kernel.dump(0xFFFF888000001000) == DumpAnswer(False, None)
    assert kernel.written == ["dump=0xffff888000001000"]


def test_needed_scans_follow_the_kernels_parameter(kernel: Kernel) -> None:
    assert kernel.needed_scans() == 3
    parameters = kernel.path.parent / "parameters"
    parameters.mkdir()
    (parameters / "min_unref_scans").write_text("4\n")
    assert kernel.needed_scans() == 6


def test_the_protocol_scans_waits_and_reads_in_turn(kernel: Kernel) -> None:
    steps: list[str] = []
    kernel.scan = lambda: steps.append("scan")  # type: ignore[method-assign]
    kernel.read = lambda: steps.append("read") or KmemleakText((), ())  # type: ignore[method-assign,func-returns-value]
    said: list[tuple[int, int, str]] = []
    readings = scan_protocol(
        kernel, 3, 6.0, lambda *told: said.append(told), lambda seconds: steps.append(f"wait {seconds}")
    )
    assert steps == ["scan", "read", "wait 6.0", "scan", "read", "wait 6.0", "scan", "read"]
    assert said[0] == (0, 3, "scanning")
    assert all(r.before_ns <= r.after_ns for r in readings)
    assert len(readings) == 3


@pytest.mark.parametrize(
    ("record", "lines"),
    [
        (b"5,1234,567890,-;kmemleak: Object 0x1 (size 2):\n", ["kmemleak: Object 0x1 (size 2):"]),
        (b"4,1,2,-,caller=T1;a;b\n SUBSYSTEM=usb\n", ["a;b"]),
        (rb'4,1,2,-;comm "\xc3\xa9\x0a\x5cx41\xff"', ['comm "é', '\\x41\\xff"']),
    ],
)
def test_records_of_the_kernel_log(record: bytes, lines: list[str]) -> None:
    assert messages(record) == lines
