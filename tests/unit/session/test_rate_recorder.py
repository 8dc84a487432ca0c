# SPDX-License-Identifier: GPL-2.0-or-later
"""Rates of a session that goes on: by what only events tell, and by call stack; and what the machine says meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from builders import inside
from made_up_source import MadeUpSource

from kleaktrace.core.events.records import Context, Kind
from kleaktrace.core.grouping.group_labels import GroupBy
from kleaktrace.core.ledger.ledger import Ledger
from kleaktrace.core.symbols.kernel_names import CacheName
from kleaktrace.edge.machine.meminfo import CgroupPaths
from kleaktrace.errors import EnvironmentRefusal, InternalFault
from kleaktrace.session import rate_recorder as module
from kleaktrace.session.rate_recorder import RateRecorder
from kleaktrace.session.session import Session

A, B = 0xFFFF888100010000, 0xFFFF888100020000
SECOND = 1_000_000_000


@contextmanager
def recorded(source: MadeUpSource, recorder: RateRecorder) -> Iterator[Session]:
    with Session(source, recorder) as session:
        yield session


def outstanding(recorder: RateRecorder, session: Session, top: int = 10) -> dict[str, int]:
    return {one.label: one.outstanding for one in recorder.table(session, top).groups}


def test_events_tell_who_allocated(source: MadeUpSource) -> None:
    recorder = RateRecorder(GroupBy.COMM)
    with recorded(source, recorder) as session:
        source.allocate(A, comm=b"insmod")
        source.allocate(A + 256, comm=b"insmod")
        source.allocate(B, comm=b"bash")
        source.free(B)
        source.allocate(B + 256, comm=b"bash", context=Context.SOFTIRQ)
        assert outstanding(recorder, session) == {"insmod": 2, "bash": 0, "(softirq)": 1}
        table = recorder.table(session, 10)
        rates = {one.label: (one.allocations, one.frees) for one in table.groups}
        assert rates["insmod"][0] == pytest.approx(2 * rates["bash"][0])
        assert rates["bash"][0] == rates["bash"][1]
        assert table.by is GroupBy.COMM


def test_a_later_look_knows_what_an_earlier_one_did(source: MadeUpSource) -> None:
    recorder = RateRecorder(GroupBy.PID)
    with recorded(source, recorder) as session:
        source.allocate(A, tgid=7, comm=b"one")
        assert outstanding(recorder, session) == {"7 (one)": 1}
        source.allocate(B, tgid=8, comm=b"two")
        source.free(A)
        assert outstanding(recorder, session) == {"7 (one)": 0, "8 (two)": 1}


def test_only_the_first_groups_are_told(source: MadeUpSource) -> None:
    recorder = RateRecorder(GroupBy.COMM)
    with recorded(source, recorder) as session:
        for number in range(5):
            source.allocate(A + 256 * number, comm=f"task{number}".encode())
        assert len(outstanding(recorder, session, top=2)) == 2


def test_call_stacks_tell_the_rest(source: MadeUpSource) -> None:
    source.names.stacks.add(1, [inside("__kmalloc_noprof"), inside("core_alloc"), inside("kthread")])
    source.names.stacks.add(2, [inside("__kmalloc_noprof"), inside("drv_probe")])
    recorder = RateRecorder(GroupBy.REQUESTER)
    with recorded(source, recorder) as session:
        source.allocate(A, stack=1)
        first = outstanding(recorder, session)
        assert list(first.values()) == [1]
        source.allocate(B, stack=2)
        source.allocate(B + 256, stack=2)
        assert sorted(outstanding(recorder, session).values()) == [1, 2]
        assert outstanding(recorder, session).items() > first.items()


@pytest.mark.parametrize(("unreclaimable", "caches"), [(False, {"inodes", "lasting"}), (True, {"lasting"})])
def test_what_the_kernel_takes_back_may_be_left_out(
    source: MadeUpSource, unreclaimable: bool, caches: set[str]
) -> None:
    source.names.caches[77] = CacheName(77, "inodes", 600, 640, reclaimable=True)
    source.names.caches[78] = CacheName(78, "lasting", 600, 640)
    by_cache, by_stack = (RateRecorder(by, unreclaimable) for by in (GroupBy.CACHE, GroupBy.STACK))
    with recorded(source, by_cache) as session:
        source.allocate(A, kind=Kind.CACHE, cache=77, stack=1)
        source.allocate(B, kind=Kind.CACHE, cache=78, stack=2)
        assert set(outstanding(by_cache, session)) == caches
        assert sum(outstanding(by_stack, session).values()) == len(caches)


def test_cgroups_go_by_their_paths(source: MadeUpSource, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").touch()
    (tmp_path / "build.slice").mkdir()
    monkeypatch.setattr(module, "CgroupPaths", lambda: CgroupPaths(tmp_path))
    recorder = RateRecorder(GroupBy.CGROUP)
    with recorded(source, recorder) as session:
        source.allocate(A, cgroup=(tmp_path / "build.slice").stat().st_ino)
        source.allocate(B, cgroup=5)
        assert outstanding(recorder, session) == {"/build.slice": 1, "(cgroup 5)": 1}


def test_the_machine_is_asked_when_it_is_time(source: MadeUpSource, monkeypatch: pytest.MonkeyPatch) -> None:
    slab = iter(range(1000))
    asked: list[int] = []

    def used() -> dict[str, int]:
        asked.append(next(slab))
        return {"Slab": asked[-1] << 20}

    monkeypatch.setattr(module, "memory_in_use", used)
    recorder, ledger = RateRecorder(GroupBy.STACK), Ledger()
    for tenth in range(600):
        recorder.sample(tenth * SECOND // 10, ledger)
    assert len(asked) <= 60  # a second apart at least
    with Session(source) as session:  # which would sample by a clock of its own
        table = recorder.table(session, 1)
    assert table.machine["Slab"].estimate == pytest.approx(1 << 20, rel=0.1)
    assert table.machine["Percpu"].estimate == 0


@pytest.mark.parametrize(
    ("failure", "raised"),
    [(ZeroDivisionError("made up"), InternalFault), (EnvironmentRefusal("a", "b"), EnvironmentRefusal)],
)
def test_a_drain_that_died_is_told(source: MadeUpSource, failure: Exception, raised: type[Exception]) -> None:
    source.fail = failure
    recorder = RateRecorder(GroupBy.COMM)
    session = Session(source, recorder)
    session._drain._thread.join()
    with pytest.raises(raised):
        recorder.table(session, 1)
