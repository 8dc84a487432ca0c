# SPDX-License-Identifier: GPL-2.0-or-later
"""`run` and `confirm` on a source and a kmemleak that the test makes up: what is asked, what is said, what is left."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from builders import FULL_COVERAGE, inside, module_image, suspect
from click.testing import CliRunner, Result
from made_up_machine import MadeUpMachine
from schemas import validated

from kleaktrace.commands import confirm as confirm_module
from kleaktrace.commands import judging
from kleaktrace.commands import run as run_module
from kleaktrace.core.events.records import Kind, hide
from kleaktrace.core.kmemleak.report_parser import Suspect
from kleaktrace.core.symbols.kernel_names import CacheName
from kleaktrace.errors import EvidenceLost

A, B, C, D = (0xFFFF888100010000 + (number << 16) for number in range(4))


class Machine(MadeUpMachine):
    """A source with a driver, a kmemleak, and the commands on both. `during` is done while a command sleeps."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self._file = file

    def suspect(self, address: int) -> Suspect:
        """As kmemleak lists what was allocated last."""
        return suspect(0, address, 100, jiffies=self.source.last.jiffies)

    def unload(self) -> None:
        image = module_image()
        self.source.names.symbols.module_freed("drv", image.key, time.monotonic_ns())

    def run(self, *arguments: str) -> Result:
        return CliRunner().invoke(run_module.run, ["--json", str(self._file), *arguments])

    def confirm(self) -> Result:
        return CliRunner().invoke(confirm_module.confirm, ["--json", str(self._file)])

    @property
    def document(self) -> Any:
        return validated(json.loads(self._file.read_text()))


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Machine:
    machine = Machine(tmp_path / "report.json")
    machine.stand_in(monkeypatch)
    return machine


def test_nothing_that_is_left_is_clean(machine: Machine) -> None:
    machine.source.allocate(A)
    machine.source.free(A)
    done = machine.run("true")
    assert (done.exit_code, machine.document["verdict"]) == (0, "clean"), done.output
    assert machine.document["command"] == {"arguments": ["true"], "status": 0}
    assert machine.kmemleak.scans == 2
    assert (machine.source.paused, machine.source.closed) == (1, 1)


def test_what_stays_listed_is_confirmed(machine: Machine) -> None:
    machine.source.allocate(A)
    machine.kmemleak.listed = (machine.suspect(A),)
    done = machine.run("true")
    assert done.exit_code == 1, done.output
    (leak,) = machine.document["leaks"]
    assert (leak["module"], leak["requester"], leak["objects"]) == ("drv", "drv_probe", 1)


def test_what_an_unloaded_module_left_is_asked_for_and_the_answer_counts(machine: Machine) -> None:
    machine.source.allocate(A)
    machine.source.allocate(B)
    machine.kmemleak.tracked = {A}
    machine.unload()
    done = machine.run("true")
    assert sorted(machine.kmemleak.asked) == [A, B]
    verdicts = {one["address"]: one["verdict"] for one in machine.document["suspects"]}
    assert verdicts == {f"{A:#x}": "confirmed", f"{B:#x}": "dismissed"}, done.output


OVERLOOKED = (
    "kmemleak may overlook {} of drv_item, asked for by drv_probe [drv]: a CPU's sheaf of that cache "
    "points there still; `run --repeat` may tell, or boot with slab_debug=F,drv_item"
)
ITEM, OTHERS = 7, 9


@pytest.mark.parametrize("listed", [(), (A,)])
def test_what_a_caches_own_list_hides_from_kmemleak_is_told_of(machine: Machine, listed: tuple[int, ...]) -> None:
    """C is freed; of what core code asked for, as of all that is referenced, nobody says anything."""
    source = machine.source
    source.names.caches.update(
        {ITEM: CacheName(ITEM, "drv_item", 100, 128), OTHERS: CacheName(OTHERS, "core_item", 100, 128)}
    )
    source.names.stacks.add(3, [inside("__kmalloc_noprof"), inside("core_alloc")])
    for address, cache, stack in ((A, ITEM, 1), (B, ITEM, 1), (C, ITEM, 1), (D, OTHERS, 3)):
        source.allocate(address, kind=Kind.CACHE, cache=cache, stack=stack)
    machine.kmemleak.listed = tuple(machine.suspect(address) for address in listed)
    source.free(C)
    source.in_sheaves = [(ITEM, hide(address)) for address in (A, B, C)] + [(OTHERS, hide(D))]
    done = machine.run("true")
    document = machine.document
    assert document["gaps"] == [OVERLOOKED.format("1 object" if listed else "2 objects")], done.output
    assert (done.exit_code, document["verdict"]) == ((1, "leaks") if listed else (4, "incomplete"))


def test_who_did_not_ask_kmemleak_is_not_told_what_it_overlooks(machine: Machine) -> None:
    machine.source.names.caches.update({7: CacheName(7, "drv_item", 100, 128)})
    machine.source.allocate(A, kind=Kind.CACHE, cache=7)
    machine.source.in_sheaves = [(7, hide(A))]
    machine.run("--no-kmemleak", "true")
    assert machine.document["gaps"] == []


def test_kmemleak_is_asked_only_so_often(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judging, "_ASK_AT_MOST", 3)
    for number in range(5):
        machine.source.allocate(A + 256 * number, stack=2)
    machine.unload()
    machine.run("true")
    assert len(machine.kmemleak.asked) == 3


def test_scans_that_fail_leave_the_evidence_incomplete(machine: Machine) -> None:
    machine.kmemleak.fails = EvidenceLost("kmemleak went off during the scan", "reboot")
    done = machine.run("true")
    assert (done.exit_code, machine.document["gaps"]) == (4, ["kmemleak went off during the scan (reboot)"])


def test_a_free_while_it_is_scanned_dismisses(machine: Machine) -> None:
    machine.source.allocate(A)
    machine.kmemleak.listed = (machine.suspect(A),)
    machine.kmemleak.at_scan = lambda: machine.source.free(A, call_site=inside("core_free"))
    done = machine.run("true")
    assert done.exit_code == 0, done.output
    (one,) = machine.document["suspects"]
    assert (one["verdict"], one["freed"]["site"].partition("+")[0]) == ("dismissed", "core_free")


def test_each_run_of_the_command_is_a_round(machine: Machine) -> None:
    done = machine.run("--repeat", "3", "sh", "-c", "exit 7")
    assert machine.document["runs"]["total"] == 3, machine.document["runs"]
    assert machine.document["command"]["status"] == 7
    assert done.exit_code == 0


@pytest.mark.thorough
def test_rounds_without_scans_are_compared_once_what_anybody_set_going_is_done(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[int] = []
    monkeypatch.setattr(run_module, "settle", lambda left, sleep: waited.append(left()))
    machine.source.allocate(A, stack=2)
    for arguments in (["--repeat=3"], ["--no-kmemleak"], ["--no-kmemleak", "--repeat=3"]):
        assert waited == []  # the scans take longer; nothing is compared
        machine.source.polled = 0
        machine.run(*arguments, "true")
    assert waited == [1]


def test_what_was_allocated_before_is_only_watched(machine: Machine) -> None:
    machine.kmemleak.listed = (suspect(-4, A),)
    done = machine.confirm()
    assert done.exit_code == 4
    assert machine.document["gaps"] == [
        "1 suspects were allocated before tracing began: reproduce the leak under `kleaktrace run`"
    ]


def test_what_is_no_longer_listed_is_asked_for(machine: Machine) -> None:
    machine.kmemleak.listed = (suspect(-4, A),)
    machine.kmemleak.at_scan = lambda: setattr(machine.kmemleak, "listed", ())
    done = machine.confirm()
    assert machine.kmemleak.asked == [A]
    (one,) = machine.document["suspects"]
    assert (one["verdict"], done.exit_code) == ("dismissed", 0), done.output


def test_coverage_says_whether_contents_were_seen(machine: Machine) -> None:
    machine.run("true")
    kinds = [one["kind"] for one in machine.document["coverage"]]
    assert kinds == [*(one.kind for one in FULL_COVERAGE), "object-contents"]
