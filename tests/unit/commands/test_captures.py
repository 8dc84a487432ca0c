# SPDX-License-Identifier: GPL-2.0-or-later
"""Whatever a command says live, it says again from its capture."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import click
import pytest
from builders import module_image, suspect
from click.testing import CliRunner, Result
from made_up_machine import MadeUpMachine
from made_up_source import MadeUpSource
from schemas import validated

from kleaktrace.commands import confirm as confirm_module
from kleaktrace.commands import pack as pack_module
from kleaktrace.commands import rates as rates_module
from kleaktrace.commands import record as record_module
from kleaktrace.commands import report as report_module
from kleaktrace.commands import run as run_module
from kleaktrace.commands import trace as trace_module
from kleaktrace.core.capture.recording_log import RecordingLog
from kleaktrace.edge.capture import capture_writer
from kleaktrace.edge.capture.capture_reader import read_capture
from kleaktrace.errors import EvidenceLost, UsageError
from kleaktrace.session.session import Session

A, B = 0xFFFF888100010000, 0xFFFF888100020000


class Machine(MadeUpMachine):
    def __init__(self, directory: Path) -> None:
        super().__init__()
        self.capture = directory / "capture"
        self._directory = directory

    def said(self, command: click.Command, *arguments: str) -> tuple[int, str, Any]:
        """Exit code, standard output and document."""
        file = self._directory / "document.json"
        done = self.done(command, "--json", str(file), *arguments)
        return done.exit_code, done.stdout, validated(json.loads(file.read_text()))

    def done(self, command: click.Command, *arguments: str) -> Result:
        done = CliRunner().invoke(command, arguments)
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Machine:
    machine = Machine(tmp_path)
    machine.stand_in(monkeypatch)
    monkeypatch.setattr(trace_module, "live_session", lambda *_, **__: Session(machine.source))
    monkeypatch.setattr(record_module, "live_session", lambda _, observer, *__: Session(machine.source, observer))
    monkeypatch.setattr(rates_module, "live_session", lambda _, observer, *__: Session(machine.source, observer))
    return machine


def leak(machine: Machine) -> None:
    """One object is listed by each scan, and another was left behind by a module that is gone."""
    machine.source.allocate(A)
    machine.kmemleak.listed = (suspect(0, A, 100, jiffies=machine.source.last.jiffies),)
    machine.source.allocate(B, stack=2)
    machine.kmemleak.tracked = {B: machine.source.last.jiffies}
    machine.source.names.symbols.module_freed("drv", module_image().key, time.monotonic_ns())


@pytest.mark.parametrize("leaking", [True, False])
def test_run_is_reported_as_it_was(machine: Machine, leaking: bool) -> None:
    if leaking:
        leak(machine)
    live = machine.said(run_module.run, "--capture", str(machine.capture), "true")
    assert live[0] == (1 if leaking else 0)
    assert machine.said(report_module.report, str(machine.capture)) == live
    assert machine.said(confirm_module.confirm, "--capture", str(machine.capture)) == live


def test_what_is_known_is_told_apart_by_whoever_reports(machine: Machine, tmp_path: Path) -> None:
    leak(machine)
    known = tmp_path / "known.txt"
    known.write_text("* [drv]\nmended\n")
    option = ("--known", str(known))
    live = machine.said(run_module.run, *option, "--capture", str(machine.capture), "true")
    assert live[0] == 0
    assert machine.said(report_module.report, *option, str(machine.capture)) == live
    assert machine.said(confirm_module.confirm, *option, "--capture", str(machine.capture)) == live
    told = machine.done(report_module.report, *option, str(machine.capture)).stdout
    print(told)
    assert (
        f"known, not counted: * [drv]: 1 object confirmed, 100 B; 1 object undecided, 128 B ({known}, line 1)" in told
    )
    assert f"known: mended: nothing of it this time ({known}, line 2)" in told
    assert told.splitlines()[-1] == "clean: 0 confirmed, 0 dismissed, 0 undecided; not counted: 2 known objects"
    page = tmp_path / "report.html"
    machine.done(report_module.report, *option, "--html", str(page), str(machine.capture))
    assert "Known, not counted: * [drv]: 1 object confirmed" in page.read_text()
    assert "Clean but for what is known: nothing else leaked" in page.read_text()
    assert "Clean: nothing leaked" not in page.read_text()
    mailed = machine.done(report_module.report, *option, "--mail", str(machine.capture)).stdout
    assert "not counted: 2 known objects" in " ".join(mailed.split())


def test_a_report_takes_the_form_that_is_asked_for(machine: Machine, tmp_path: Path) -> None:
    leak(machine)
    machine.done(run_module.run, "--capture", str(machine.capture), "true")
    page = tmp_path / "report.html"
    done = machine.done(report_module.report, "--html", str(page), str(machine.capture))
    assert (done.exit_code, done.stdout) == (1, "")
    assert page.read_text().startswith("<!doctype html>")
    assert page.stat().st_mode & 0o777 == 0o600
    mailed = machine.done(report_module.report, "--mail", str(machine.capture))
    assert mailed.exit_code == 1
    assert f"unreferenced object {A:#x} (size 100):" in mailed.stdout
    tree = machine.done(report_module.report, "--tree", str(machine.capture))
    assert tree.exit_code == 1
    assert tree.stdout.index("do_one_initcall") < tree.stdout.index("drv_probe"), "the callers come first"


def test_a_report_takes_one_form_only(machine: Machine) -> None:
    for arguments in (["--mail", "--tree"], ["--html", "-", "--json", "-"]):
        with pytest.raises(UsageError):
            machine.done(report_module.report, *arguments, "nothing")


def test_confirm_is_reported_as_it_was(machine: Machine) -> None:
    machine.kmemleak.listed = (suspect(-5, A, 100),)
    live = machine.said(confirm_module.confirm, "--capture", str(machine.capture))
    assert machine.source.closed
    machine.kmemleak.listed = ()
    assert machine.said(confirm_module.confirm, "--capture", str(machine.capture)) == live


def test_trace_has_the_same_document(machine: Machine) -> None:
    machine.source.allocate(A)
    code, _, live = machine.said(trace_module.trace, "--duration", "0.1", "--capture", str(machine.capture))
    assert code == 0
    assert machine.said(report_module.report, str(machine.capture))[2] == live


def test_rates_of_a_capture(machine: Machine) -> None:
    for number in range(5):
        machine.source.allocate(A + 256 * number)
    live = machine.said(rates_module.rates, "--by", "module", "--duration", "0.1", "--capture", str(machine.capture))[2]
    again = machine.said(rates_module.rates, "--by", "module", str(machine.capture))[2]
    shown = ("group", "outstanding", "bytes", "ci95")
    assert [[one[name] for name in shown] for one in again["rates"]] == [
        [one[name] for name in shown] for one in live["rates"]
    ]
    assert again["by"] == "module"
    with pytest.raises(UsageError, match="no comm") as refused:
        machine.done(rates_module.rates, "--by", "comm", str(machine.capture))
    assert "record --events" in refused.value.fix
    with pytest.raises(UsageError, match="--by pid knows neither"):
        machine.done(rates_module.rates, "--by", "pid", "--unreclaimable")


def test_record_is_judged_by_what_it_can_know(machine: Machine) -> None:
    machine.source.allocate(A)
    machine.source.names.symbols.module_freed("drv", module_image().key, time.monotonic_ns())
    machine.done(record_module.record, "-o", str(machine.capture), "--duration", "0.1")
    code, said, document = machine.said(report_module.report, str(machine.capture))
    assert (code, document["verdict"]) == (1, "leaks")
    assert [one["source"] for one in document["suspects"]] == ["unload"]
    assert "kmemleak was not asked" in said


def test_what_was_recorded_with_its_events_is_traced_again(machine: Machine) -> None:
    for number in range(9):
        machine.source.allocate(A + 256 * number, size=100 * number)
    machine.source.free(A)
    machine.done(record_module.record, "-o", str(machine.capture), "--events", "--duration", "0.1")
    recorded = machine.said(report_module.report, str(machine.capture))[2]
    machine.source = MadeUpSource()  # another machine
    code, said, played = machine.said(trace_module.trace, "--replay", str(machine.capture), "--speed", "50")
    assert code == 0
    assert "9 allocations, 1 frees, 8 outstanding" in said
    for name in ("window", "totals", "outstanding"):
        assert played[name] == recorded[name]
    with pytest.raises(UsageError, match="filters"):
        machine.done(trace_module.trace, "--replay", str(machine.capture), "--module", "drv")


def test_of_a_capture_of_every_event_there_are_rates_by_what_only_events_tell(machine: Machine) -> None:
    for number in range(9):
        machine.source.allocate(A + 256 * number)
    machine.source.free(A)
    machine.done(record_module.record, "-o", str(machine.capture), "--events", "--duration", "0.1")
    for by in ("comm", "pid", "cgroup", "cache"):
        _, said, document = machine.said(rates_module.rates, "--by", by, str(machine.capture))
        (group,) = document["rates"]
        assert (document["by"], group["outstanding"], group["bytes"]) == (by, 8, 1024), said


def full(*_: object) -> None:
    raise OSError(28, "No space left on device")


def test_record_that_can_not_write_says_so(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RecordingLog, "last_flush", full)
    with pytest.raises(EvidenceLost, match="is not whole: No space left on device"):
        machine.done(record_module.record, "-o", str(machine.capture), "--duration", "0.1")
    assert any("breaks off" in gap for gap in read_capture(machine.capture).gaps)


def test_a_capture_that_can_not_be_packed_is_whole(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capture_writer, "pack", full)
    done = machine.done(record_module.record, "-o", str(machine.capture), "--duration", "0.1")
    assert "of which no file could be made: No space left on device" in done.stderr
    assert machine.capture.is_dir()
    assert not any("breaks off" in gap for gap in read_capture(machine.capture).gaps)


def test_a_name_that_is_taken_is_refused_before_the_command_runs(machine: Machine) -> None:
    machine.capture.write_text("mine")
    ran = machine.capture.with_name("ran")
    with pytest.raises(UsageError, match="exists"):
        machine.done(run_module.run, "--capture", str(machine.capture), "touch", str(ran))
    assert machine.capture.read_text() == "mine"
    assert not ran.exists()


def test_what_broke_off_is_packed(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: object) -> None:
        raise SystemExit(137)

    machine.source.allocate(A)
    monkeypatch.setattr(record_module, "living", killed)
    machine.done(record_module.record, "-o", str(machine.capture), "--duration", "0.1")
    assert machine.capture.is_dir()
    machine.done(pack_module.pack, str(machine.capture))
    assert machine.capture.is_file()
    assert read_capture(machine.capture).gaps
    with pytest.raises(UsageError, match="one file already"):
        machine.done(pack_module.pack, str(machine.capture))


def test_what_is_no_capture_is_neither_packed_nor_reported(machine: Machine, tmp_path: Path) -> None:
    for command in (pack_module.pack, report_module.report):
        with pytest.raises(UsageError):
            machine.done(command, str(tmp_path))
    assert tmp_path.is_dir()
