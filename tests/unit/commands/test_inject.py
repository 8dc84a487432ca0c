# SPDX-License-Identifier: GPL-2.0-or-later
"""`inject` on a source, a kmemleak and an injector that the test makes up: the runs, and who is to blame for what."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from builders import suspect
from click.testing import CliRunner, Result
from made_up_machine import MadeUpMachine
from schemas import validated

from kleaktrace.commands import inject as inject_module
from kleaktrace.commands import injecting, settling
from kleaktrace.commands import report as report_module
from kleaktrace.core.evidence.injected_runs import FailedAllocation, RunEnd
from kleaktrace.core.injection.aim import Aim
from kleaktrace.core.symbols.symbol_table import FunctionPlace
from kleaktrace.edge.injection.choose import Chosen
from kleaktrace.edge.injection.injector import Namer, Told
from kleaktrace.errors import UsageError
from kleaktrace.session.session import Session

A = 0xFFFF888100010000
CALLS = ("alloc_ctx", "alloc_name", "alloc_ring")


class MadeUpInjector:
    """A command that makes these calls, one of which may fail. during: what happens then; None: none fails."""

    means = "made up"
    sees_stacks = True

    def __init__(self, calls: Sequence[str]) -> None:
        self.calls = calls
        self.failed: set[int] = set()
        self.aims: list[Aim] = []
        self.during: Callable[[str | None], None] = lambda call: None
        self.status: dict[str | None, int] = {}
        self._told = Told(None)

    def begin(self, run: int, aim: Aim, wanted: int = 0) -> None:
        self.aims.append(aim)
        calls = [self._allocation(number) for number in range(len(self.calls))]
        self._told = Told(None, calls)
        if aim is not Aim.NOTHING:
            ready = [c for c in calls if c.key == wanted] if aim is Aim.CHOSEN else calls
            ready = [c for c in ready if c.key not in self.failed] if aim is Aim.NEXT else ready
            ready = ready[wanted - 1 :] if aim is Aim.NUMBER else ready
            self._told = Told(ready[0] if ready else None)
        if self._told.failed:
            self.failed.add(self._told.failed.key)

    def _allocation(self, number: int) -> FailedAllocation:
        stack = (f"{self.calls[number]}+0x12/0x40 [drv]", "drv_init+0x22/0x90 [drv]")
        return FailedAllocation(time.monotonic_ns(), stack, 64, key=number + 1)

    def only_through(self, places: Sequence[FunctionPlace]) -> None:
        raise NotImplementedError

    def has_failed(self, keys: Sequence[int]) -> None:
        self.failed |= set(keys)

    def command(self, command: Sequence[str]) -> Sequence[str]:
        call = self._told.failed.stack[0].partition("+")[0] if self._told.failed else None
        self.during(call)
        return ("sh", "-c", f"exit {self.status.get(call, 1 if call else 0)}")

    def exited(self, pid: int) -> None:
        """Nothing to ask."""

    def end(self, name: Namer) -> Told:
        return self._told

    def close(self) -> None:
        """Nothing to let go of."""


LOADER = ("load_elf_binary+0x1/0x2",)


class ByNumber(MadeUpInjector):
    """Counts what the loader of programs asks for, too, which is more or less in each run (`loaded`, 1 after that)."""

    sees_stacks = False

    def __init__(self, stacks: Sequence[Sequence[str]], loaded: Sequence[int] = ()) -> None:
        super().__init__([stack[0] for stack in stacks])
        self._stacks = [FailedAllocation(1, tuple(stack), 64) for stack in stacks]
        self._loaded = list(loaded)
        self.pid = 4242

    def begin(self, run: int, aim: Aim, wanted: int = 0) -> None:
        self.aims.append(aim)
        self.pid += 1
        before = self._loaded.pop(0) if self._loaded else 1
        counted = [FailedAllocation(1, LOADER, 0)] * before + self._stacks
        fails = aim is Aim.NUMBER and wanted <= len(counted)
        self._told = Told(counted[wanted - 1] if fails else None, pid=self.pid)


class Machine(MadeUpMachine):
    def __init__(self, file: Path) -> None:
        super().__init__()
        self.injector = MadeUpInjector(CALLS)
        self._file = file

    def inject(self, *arguments: str) -> Result:
        return CliRunner().invoke(inject_module.inject, ["--json", str(self._file), *arguments, "--", "true"])

    def allocate(self, **fields: object) -> int:
        """At another address each time; which is returned."""
        address = A + 0x1000 * self.source.reported
        self.source.allocate(address, **fields)
        return address

    def leak(self) -> None:
        """The same, and nothing points to it."""
        address = self.allocate()
        self.kmemleak.listed += (suspect(0, address, 100, jiffies=self.source.last.jiffies),)

    @property
    def document(self) -> Any:
        return validated(json.loads(self._file.read_text()))

    def outcomes(self) -> dict[str, str]:
        """By failing call."""
        return {
            one["failed"]["stack"][0].partition("+")[0]: one["outcome"]
            for one in self.document["injections"]
            if one["failed"] and not one["again"]
        }


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Machine:
    made = Machine(tmp_path / "report.json")
    made.stand_in(monkeypatch)
    monkeypatch.setattr(inject_module, "live_session", lambda observer, **_: Session(made.source, observer))
    monkeypatch.setattr(inject_module, "missing_since", lambda *_: [])
    monkeypatch.setattr(inject_module, "kmemleak_if_on", lambda: (made.kmemleak, []))
    monkeypatch.setattr(inject_module, "scrub_freelists", lambda: None)
    monkeypatch.setattr(settling, "settle", lambda left, sleep: None)
    monkeypatch.setattr(inject_module, "choose", lambda module: Chosen(made.injector))
    return made


def test_each_call_fails_once_and_the_last_run_has_none_left(machine: Machine) -> None:
    done = machine.inject()
    assert done.exit_code == 0, done.output
    assert machine.injector.aims == [Aim.NOTHING, *[Aim.NEXT] * 4]
    assert machine.outcomes() == dict.fromkeys(CALLS, "clean")
    assert [one["failed"] is None for one in machine.document["injections"]] == [True, False, False, False, True]
    assert machine.document["walk"]["failed"] == machine.document["walk"]["planned"] == 3
    assert "clean: 3 error paths: 3 clean" in done.output


def test_what_kmemleak_lists_is_blamed_on_the_call_that_failed_in_that_run(machine: Machine) -> None:
    machine.injector.during = lambda call: machine.leak() if call == "alloc_name" else None
    done = machine.inject()
    assert done.exit_code == 1, done.output
    assert machine.outcomes() == {"alloc_ctx": "clean", "alloc_name": "leaks", "alloc_ring": "clean"}
    first = next(line for line in done.output.splitlines() if line.startswith("LEAK"))
    assert first.startswith("LEAK when 64 bytes in alloc_name+0x12 fails: 1 object, 100 B, from drv_probe, never")
    assert "the 2 other error paths free everything" in done.output


def test_what_is_known_is_told_apart_and_blamed_on_nobody(machine: Machine, tmp_path: Path) -> None:
    known = tmp_path / "known.txt"
    known.write_text("drv_probe [drv]\n")
    machine.injector.during = lambda call: machine.leak() if call == "alloc_name" else None
    done = machine.inject("--known", str(known), "--capture", str(tmp_path / "walk"))
    assert done.exit_code == 0, done.output
    assert machine.outcomes() == dict.fromkeys(CALLS, "clean")
    assert "known, not counted: drv_probe [drv]: 10 objects confirmed, 1000 B" in done.output, "it was repeated"
    assert "clean: 3 error paths: 3 clean; not counted: 10 known objects" in done.output
    assert "the 3 error paths free everything but what is known" in done.output
    again = CliRunner().invoke(report_module.report, ["--known", str(known), str(tmp_path / "walk")])
    assert again.stdout == done.stdout


def test_a_capture_tells_which_failure_is_to_blame(machine: Machine, tmp_path: Path) -> None:
    def during(call: str | None) -> None:
        if call == "alloc_name":
            machine.leak()
        if call == "alloc_ctx":
            machine.injector.status[call] = -9

    machine.injector.during = during
    done = machine.inject("--capture", str(tmp_path / "walk"))
    live = machine.document
    again = CliRunner().invoke(report_module.report, ["--json", str(tmp_path / "again.json"), str(tmp_path / "walk")])
    assert again.exit_code == done.exit_code == 1, again.output
    assert validated(json.loads((tmp_path / "again.json").read_text())) == live
    assert again.stdout == done.stdout


def test_what_something_points_to_is_judged_by_repetition(machine: Machine) -> None:
    machine.injector.during = lambda call: machine.allocate(stack=2) if call == "alloc_ring" else None
    done = machine.inject()
    assert done.exit_code == 1, done.output
    assert machine.injector.aims.count(Aim.CHOSEN) == 9
    assert machine.outcomes() == {"alloc_ctx": "clean", "alloc_name": "clean", "alloc_ring": "leaks"}
    again = [one for one in machine.document["injections"] if one["again"]]
    assert {one["outcome"] for one in again} <= {"leaks", "undecided"}
    assert [path["outcome"] for path in machine.document["error_paths"]] == ["leaks", "clean", "clean"]


def test_a_command_that_fails_by_itself_is_refused(machine: Machine) -> None:
    machine.injector.status[None] = 3
    done = machine.inject()
    assert "fails by itself (exit status 3)" in str(done.exception)


def test_a_state_that_the_next_run_cannot_start_from_ends_it(machine: Machine) -> None:
    def during(call: str | None) -> None:
        if call == "alloc_name":  # a module that could not be removed, for instance
            machine.injector.calls = ()
            machine.injector.status[None] = 17

    machine.injector.during = during
    done = machine.inject()
    assert done.exit_code == 4, done.output
    assert machine.outcomes() == {"alloc_ctx": "clean", "alloc_name": "undecided"}
    assert machine.document["walk"]["stopped"].startswith("after run 2, which left a state")
    assert "UNFIT when 64 bytes in alloc_name+0x12 fails" in done.output


def test_what_the_runs_print_goes_to_the_log_which_a_restart_goes_on_with(machine: Machine, tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("before\n")
    machine.inject("--log", str(log), "--resume", str(tmp_path / "walk.json"))
    assert log.read_text().startswith("before\n")
    machine.inject("--log", str(log))
    assert not log.read_text().startswith("before\n")
    refused = machine.inject("--log", str(tmp_path / "nowhere" / "log")).exception
    assert isinstance(refused, UsageError)
    assert "No such file or directory" in str(refused)


def test_it_ends_after_so_many_failures(machine: Machine) -> None:
    done = machine.inject("--max", "2")
    assert done.exit_code == 4, done.output
    assert machine.document["walk"]["stopped"] == "after 2 failures (--max)"


def test_by_number_the_same_may_fail_again(machine: Machine) -> None:
    machine.injector.calls = ("alloc_ctx", "alloc_ctx")
    assert machine.inject("--all").exit_code == 0
    assert machine.injector.aims == [Aim.NOTHING, *[Aim.NUMBER] * 3]


def test_a_crash_is_told_and_the_next_run_is_tried(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    ends = {"alloc_name": RunEnd.CRASHED}
    run_once = injecting.run_once

    def crashing(*arguments: Any) -> tuple[int, RunEnd]:
        status, ended = run_once(*arguments)
        failed = machine.injector.end(lambda stacks: []).failed
        return status, ends.get(failed.stack[0].partition("+")[0], ended) if failed else ended

    monkeypatch.setattr(injecting, "run_once", crashing)
    done = machine.inject()
    assert done.exit_code == 4, done.output
    assert machine.outcomes() == {"alloc_ctx": "clean", "alloc_name": "crash", "alloc_ring": "clean"}
    assert machine.injector.aims == [Aim.NOTHING, Aim.NEXT, Aim.NEXT, Aim.NOTHING, Aim.NEXT, Aim.NEXT]


@pytest.mark.thorough
def test_what_was_judged_before_a_restart_does_not_fail_again(machine: Machine, tmp_path: Path) -> None:
    file = tmp_path / "walk"
    assert machine.inject("--resume", str(file), "--max", "2").exit_code == 4
    machine.injector = MadeUpInjector(CALLS)
    assert machine.inject("--resume", str(file)).exit_code == 0
    assert machine.outcomes() == {"alloc_ring": "clean"}
    assert json.loads(file.read_text())["finished"]


def test_the_file_has_what_came_of_it_also_of_what_is_known(machine: Machine, tmp_path: Path) -> None:
    file, known = tmp_path / "walk", tmp_path / "known.txt"
    known.write_text("drv_probe\n")
    machine.injector.during = lambda call: machine.leak() if call == "alloc_name" else None
    assert machine.inject("--resume", str(file), "--known", str(known)).exit_code == 0
    paths = json.loads(file.read_text())["known"]
    assert {one["stack"][0].partition("+")[0]: one["outcome"] for one in paths} == {
        "alloc_ctx": "clean",
        "alloc_name": "leaks",
        "alloc_ring": "clean",
    }
    assert len(paths) == 3


class Died(BaseException):
    """The machine did."""


def die_of(machine: Machine, deadly: str, file: Path) -> None:
    """Walk until this fails, of which the machine dies; and have it restarted."""

    def during(call: str | None) -> None:
        if call == deadly:
            raise Died

    machine.injector.during = during
    with pytest.raises(Died):
        machine.inject("--resume", str(file))
    machine.injector = MadeUpInjector(machine.injector.calls)


@pytest.mark.parametrize("deadly", CALLS)
def test_what_the_machine_died_of_is_told_and_does_not_fail_again(
    machine: Machine, deadly: str, tmp_path: Path
) -> None:
    die_of(machine, deadly, tmp_path / "walk")
    done = machine.inject("--resume", str(tmp_path / "walk"))
    assert done.exit_code == 4, done.output
    assert machine.outcomes() == {call: "crash" if call == deadly else "clean" for call in CALLS}
    assert f"CRASH when 64 bytes in {deadly}+0x12 fails: the machine did not live to tell" in done.output


class WithNewcomer(MadeUpInjector):
    """The last of the calls is not made in the plain run."""

    def begin(self, run: int, aim: Aim, wanted: int = 0) -> None:
        self.calls = CALLS[:2] if aim is Aim.NOTHING else CALLS
        super().begin(run, aim, wanted)


def test_what_the_machine_died_of_is_not_made_up_where_nobody_knows_it(machine: Machine, tmp_path: Path) -> None:
    machine.injector = WithNewcomer(CALLS)
    die_of(machine, "alloc_ring", tmp_path / "walk")
    machine.injector = WithNewcomer(CALLS)
    done = machine.inject("--resume", str(tmp_path / "walk"))
    assert done.exit_code == 4, done.output
    assert machine.outcomes() == {"alloc_ctx": "clean", "alloc_name": "clean"}
    assert gaps(machine, "the machine died of such")


def test_what_the_plain_run_did_not_ask_for_fails_with_a_file_too(machine: Machine, tmp_path: Path) -> None:
    machine.injector = WithNewcomer(CALLS)
    assert machine.inject("--resume", str(tmp_path / "walk")).exit_code == 0
    assert machine.outcomes() == dict.fromkeys(CALLS, "clean")


def count_only(machine: Machine, fail: int, loaded: Sequence[int] = (), every: int = 1) -> ByNumber:
    """Have each run ask from two call stacks of the driver, of which the first `fail` are counted and can fail.

    every: from the second only in each so manieth.
    """
    told = [[*machine.source.names.stacks.get(stack).lines(), "as_the_log_has_it+0x1/0x2"] for stack in (1, 2)]
    injector = ByNumber(told[:fail], loaded)

    def during(call: str | None) -> None:
        for stack in (1, 2) if len(injector.aims) % every == 0 else (1,):
            machine.source.free(machine.allocate(stack=stack, tgid=injector.pid))

    injector.during = during
    machine.injector = injector
    return injector


def gaps(machine: Machine, about: str) -> list[str]:
    return [gap for gap in machine.document["gaps"] if about in gap]


def test_by_number_what_was_passed_over_is_tried_again(machine: Machine) -> None:
    # After the plain runs, numbers 1 and 2; then there is one less before, and so core_alloc is passed over.
    count_only(machine, fail=2, loaded=(1, 1, 1, 1, 1, 0, 1))
    done = machine.inject()
    assert done.exit_code == 0, done.output
    assert machine.outcomes() == {"load_elf_binary": "clean", "drv_probe": "clean", "core_alloc": "clean"}
    assert machine.document["walk"]["planned"] == 2
    assert "plain runs asked from 2 call stacks of modules" in done.output


@pytest.mark.parametrize("every", [1, 3])
def test_by_number_what_never_fails_leaves_the_evidence_incomplete(machine: Machine, every: int) -> None:
    count_only(machine, fail=1, every=every)
    done = machine.inject()
    assert done.exit_code == 4, done.output
    (gap,) = gaps(machine, "never failed")
    assert "core_alloc+0x22" in gap
    assert machine.injector.aims.count(Aim.NOTHING) == 3


def test_by_number_what_the_command_starts_is_not_reached(machine: Machine) -> None:
    injector = ByNumber([], loaded=[3] * 9)
    machine.injector = injector
    injector.during = lambda call: machine.source.free(machine.allocate(stack=1, tgid=injector.pid + 1000))
    done = machine.inject()
    assert done.exit_code == 4, done.output
    assert gaps(machine, "no call of a module was to fail")
    assert machine.injector.aims.count(Aim.NUMBER) == 4, "there is nothing to try again"


def test_by_number_what_something_points_to_is_told_of(machine: Machine) -> None:
    injector = count_only(machine, fail=2)
    asks = injector.during

    def during(call: str | None) -> None:
        asks(call)
        if call == "drv_probe":
            machine.allocate(stack=1, tgid=injector.pid)

    injector.during = during
    done = machine.inject()
    assert done.exit_code == 4, done.output
    assert gaps(machine, "left something that only repetition could judge")


def test_by_number_it_ends_after_so_many_failures_in_all(machine: Machine) -> None:
    count_only(machine, fail=1)
    assert machine.inject("--max", "4").exit_code == 4
    assert machine.document["walk"]["stopped"] == "after 4 failures (--max)"
    assert sum(one["failed"] is not None for one in machine.document["injections"]) == 4


def test_by_number_a_crash_ends_it(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    count_only(machine, fail=2)
    run_once = injecting.run_once

    def crashing(*arguments: Any) -> tuple[int, RunEnd]:
        status, ended = run_once(*arguments)
        failed = machine.injector.end(lambda stacks: []).failed
        return status, RunEnd.CRASHED if failed and failed.stack[0].startswith("core_alloc") else ended

    monkeypatch.setattr(injecting, "run_once", crashing)
    assert machine.inject().exit_code == 4
    crashes = [one for one in machine.document["injections"] if one["outcome"] == "crash"]
    assert len(crashes) == 2, "once each, and once as it was tried again"
