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
from kleaktrace.commands import judging, scanning, settling
from kleaktrace.commands import run as run_module
from kleaktrace.core.events.records import Kind, hide
from kleaktrace.core.kmemleak.report_parser import Suspect
from kleaktrace.core.symbols.kernel_names import CacheName
from kleaktrace.core.verdicts import overlooked
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
    machine.kmemleak.tracked = {A: machine.source.last.jiffies}
    machine.source.allocate(B)
    machine.unload()
    done = machine.run("true")
    assert sorted(machine.kmemleak.asked) == [A, B]
    verdicts = {one["address"]: one["verdict"] for one in machine.document["suspects"]}
    assert verdicts == {f"{A:#x}": "confirmed", f"{B:#x}": "dismissed"}, done.output


def test_what_came_to_lie_where_it_was_does_not_convict_it(machine: Machine) -> None:
    """Freed unseen, and its memory taken by our own process, whose events are left out."""
    machine.source.allocate(A)
    machine.kmemleak.tracked = {A: machine.source.last.jiffies + 10}
    machine.unload()
    assert machine.run("true").exit_code == 0
    (one,) = machine.document["suspects"]
    assert one["verdict"] == "dismissed"
    assert one["reason"] == "freed by a path without an event: kmemleak no longer has it"


OVERLOOKED = (
    "kmemleak may overlook {} of {}, asked for by drv_probe [drv]: a CPU's sheaf of that cache points there still; "
    "try --repeat, or boot with slab_debug=F"
)
ITEM = 7
BORN_S = 10.0


def allocate_before(machine: Machine, *addresses: int, born_s: float = BORN_S, **fields: Any) -> None:
    """So many seconds ago: kmemleak lists nothing that is younger than five."""
    machine.source.names.caches.setdefault(ITEM, CacheName(ITEM, "drv_item", 100, 128))
    born_ns = time.monotonic_ns() - int(born_s * 1e9)
    for address in addresses:
        machine.source.allocate(address, **{"kind": Kind.CACHE, "cache": ITEM, "time_ns": born_ns, **fields})
    assert machine.source.in_sheaves is not None
    machine.source.in_sheaves += [hide(address) for address in addresses]


@pytest.mark.parametrize("listed", [(), (A,)])
def test_what_a_caches_own_list_hides_from_kmemleak_is_told_of(machine: Machine, listed: tuple[int, ...]) -> None:
    """C is freed; of what core code asked for, as of all that is referenced, nobody says anything."""
    machine.source.names.stacks.add(3, [inside("__kmalloc_noprof"), inside("core_alloc")])
    allocate_before(machine, A)
    machine.kmemleak.listed = tuple(machine.suspect(address) for address in listed)
    allocate_before(machine, B, C)
    allocate_before(machine, D, stack=3)
    machine.source.free(C)
    done = machine.run("true")
    document = machine.document
    objects = "1 object" if listed else "2 objects"
    assert document["gaps"] == [OVERLOOKED.format(objects, "drv_item")], done.output
    assert (done.exit_code, document["verdict"]) == ((1, "leaks") if listed else (4, "incomplete"))


def test_confirm_tells_of_it_too(machine: Machine) -> None:
    allocate_before(machine, A)
    assert machine.confirm().exit_code == 4
    assert machine.document["gaps"] == [OVERLOOKED.format("1 object", "drv_item")]


def test_a_kmalloc_may_be_hidden_as_well(machine: Machine) -> None:
    allocate_before(machine, A, kind=Kind.KMALLOC, cache=0)
    machine.run("true")
    assert machine.document["gaps"] == [OVERLOOKED.format("1 object", "kmalloc-128")]


def test_what_could_not_have_been_listed_yet_is_not_overlooked(machine: Machine) -> None:
    allocate_before(machine, A, born_s=1.0)
    assert machine.run("true").exit_code == 0


def test_what_others_lived_as_long_as_is_not_overlooked(machine: Machine) -> None:
    """Nine siblings were freed at an age of a minute: this one is just another that is in use."""
    for number in range(9):
        address = D + (1 + number << 8)
        allocate_before(machine, address, born_s=60)
        machine.source.free(address)
    allocate_before(machine, A)
    assert machine.run("true").exit_code == 0


@pytest.mark.parametrize(
    ("kind", "needed", "done"),
    [(Kind.KMALLOC, 1, 1), (Kind.KMALLOC, 3, 3), (Kind.KMALLOC, 9, 4), (Kind.CACHE, 9, 1)],
)
def test_sheaves_are_cleared_until_nothing_is_hidden_that_need_not_be(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, kind: Kind, needed: int, done: int
) -> None:
    """Somebody may free an object meanwhile; of what only the module can take, once is enough."""
    cleared: list[int] = []

    def clear() -> None:
        cleared.append(1)
        if len(cleared) == needed:
            machine.source.in_sheaves = []

    monkeypatch.setattr(scanning, "scrub_sheaves", clear)
    allocate_before(machine, A, kind=kind)
    assert machine.run("true").exit_code == (0 if needed == done else 4)
    assert len(cleared) == done


@pytest.mark.parametrize(("asked_by", "status"), [("drv_probe", 4), ("core_alloc", 0)])
def test_a_module_s_skbs_may_be_overlooked_too(machine: Machine, asked_by: str, status: int) -> None:
    machine.source.names.stacks.add(3, [inside("__alloc_skb"), inside(asked_by)])
    allocate_before(machine, A, stack=3)
    assert machine.run("true").exit_code == status


def test_what_is_kept_on_purpose_is_not_overlooked(machine: Machine) -> None:
    machine.source.names.caches[ITEM] = CacheName(ITEM, "drv_inode_cache", 100, 128, reclaimable=True)
    allocate_before(machine, A)
    assert machine.run("true").exit_code == 0


def test_where_sheaves_can_not_be_read_nothing_is_clean_that_they_may_hide(machine: Machine) -> None:
    machine.source.in_sheaves = None
    assert machine.run("true").exit_code == 0
    machine.source.in_sheaves = []
    allocate_before(machine, A)
    machine.source.in_sheaves = None
    assert machine.run("true").exit_code == 4
    (gap,) = machine.document["gaps"]
    assert gap.startswith("kmemleak may overlook any of 1 allocations of modules: what sheaves point to can't be read")


@pytest.mark.parametrize("lists_percpu", [False, True])
def test_where_kmemleak_lists_no_per_cpu_memory_it_is_told_of(
    machine: Machine, lists_percpu: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two, one is freed; of what core code asked for nobody says anything."""
    if lists_percpu:
        monkeypatch.setattr(overlooked, "_LISTS_PERCPU", "core_alloc")  # a function that is there
    machine.source.names.stacks.add(3, [inside("core_alloc")])
    for at, stack in ((0x100, 1), (0x200, 1), (0x300, 3)):
        allocate_before(machine, at, kind=Kind.PERCPU, cache=0, stack=stack)
    machine.source.free(0x200, kind=Kind.PERCPU)
    done = machine.run("true")
    told = (
        "kmemleak of this kernel does not list 1 object of percpu, asked for by drv_probe [drv]: "
        "whether anything points there it does not tell; try --repeat, or unload the module before the end"
    )
    assert machine.document["gaps"] == ([] if lists_percpu else [told]), done.output
    assert done.exit_code == (0 if lists_percpu else 4)


def test_a_clean_run_tells_what_modules_still_have(machine: Machine) -> None:
    machine.source.allocate(A, bytes_alloc=1024)
    machine.source.allocate(B, bytes_alloc=1024)
    said = "still allocated by modules: 2 objects of drv, 2.0 KiB; what of it leaks, --repeat tells"
    assert said in machine.run("true").output
    assert "still allocated" not in machine.run("--repeat", "2", "true").output


def test_memory_of_vmalloc_is_told_of_and_its_books_are_not(machine: Machine) -> None:
    frames = [inside("__vmalloc_node_range_noprof"), inside("vmalloc_noprof"), inside("drv_probe")]
    machine.source.names.stacks.add(5, frames)
    machine.source.names.stacks.add(6, [inside("__kmalloc_noprof"), inside("__get_vm_area_node"), *frames])
    machine.source.allocate(A, kind=Kind.VMALLOC, bytes_alloc=8192, stack=5)
    machine.source.allocate(B, stack=6)
    assert "still allocated by modules: 1 object of drv, 8.0 KiB" in machine.run("true").output


def test_of_many_those_with_most_objects_are_named(machine: Machine) -> None:
    for number in range(7):
        machine.source.names.caches[100 + number] = CacheName(100 + number, f"drv_{number}", 100, 128)
        addresses = [A + (number << 12) + (one << 8) for one in range(1 + number)]
        allocate_before(machine, *addresses, cache=100 + number)
    machine.run("true")
    gaps = machine.document["gaps"]
    assert gaps[0] == OVERLOOKED.format("7 objects", "drv_6")
    assert gaps[5:] == ["kmemleak may overlook what 2 more asked for in the same way"]


def test_who_did_not_ask_kmemleak_is_not_told_what_it_overlooks(machine: Machine) -> None:
    allocate_before(machine, A)
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
    monkeypatch.setattr(settling, "settle", lambda left, sleep: waited.append(left()))
    machine.source.allocate(A, stack=2)
    for arguments in (["--repeat=3"], ["--no-kmemleak"], ["--no-kmemleak", "--repeat=3"]):
        assert waited == []  # the scans take longer; nothing is compared
        machine.source.polled = 0
        machine.run(*arguments, "true")
    assert waited == [1]


def test_what_is_gone_from_sysfs_with_its_module_is_asked_for(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, int]] = []
    monkeypatch.setattr(settling, "let_go", lambda entries, btf, read: asked.extend(entries))
    machine.source.names.stacks.add(3, [inside("kernfs_new_node"), inside("drv_probe")])
    machine.source.names.stacks.add(4, [inside("kernfs_new_node"), inside("core_alloc")])
    for address, stack, kind in ((A, 3, Kind.CACHE), (B, 4, Kind.CACHE), (C, 2, Kind.CACHE), (D, 3, Kind.KMALLOC)):
        machine.source.allocate(address, stack=stack, kind=kind)
    machine.run("true")
    assert asked == []
    machine.unload()
    machine.source.polled = 0
    machine.run("true")
    assert asked == [("kernfs_new_node", hide(A))]


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
