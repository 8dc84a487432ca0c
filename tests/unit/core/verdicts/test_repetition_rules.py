# SPDX-License-Identifier: GPL-2.0-or-later
"""What rounds say, as verdicts: on referenced leaks, on what core code keeps, and where the evidence is thin."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from builders import FULL_COVERAGE, SECOND, START_NS, Scene, inside, module_image, suspect

from kleaktrace.core.events.coverage import Coverage
from kleaktrace.core.events.records import Context, Kind
from kleaktrace.core.evidence.evidence import JudgedSuspect, Rounds, Verdict
from kleaktrace.core.evidence.rounds import RoundSeries, RoundSource, load_cycles, repeated
from kleaktrace.core.repetition.repeated_stacks import RepeatedStacks
from kleaktrace.core.symbols.kernel_names import CacheName

A = 0xFFFF888100010000
MODULE_KEY = 0xFFFFFFFFC0200000
BY_CORE = 2  # see Scene
BY_NO_MODULE = 3


def address(number: int) -> int:
    return A + 256 * number


def rounds(count: int, every_s: float = 1.0) -> RoundSeries:
    edges = [START_NS + round((1 + number * every_s) * SECOND) for number in range(count + 1)]
    return repeated(edges[:-1], edges[-1])


def leaking(left: Iterable[int], unload: bool = True, **fields: object) -> Scene:
    """A round begins at 1, 2, 3, … s: loads the driver, leaves so many objects behind, unloads it."""
    scene, objects = Scene(), 0
    for number, count in enumerate(left):
        if number:
            scene.names.symbols.module_loaded(module_image(loaded_ns=START_NS + (1 + number) * SECOND))
        for _ in range(count):
            scene.allocate(1.2 + number, address(objects), **{"stack": BY_CORE, "tgid": 1000 + number, **fields})
            objects += 1
        if unload:
            scene.unload(1.6 + number)
    return scene


def confirmed(judged: Iterable[JudgedSuspect]) -> list[JudgedSuspect]:
    return [one for one in judged if one.verdict is Verdict.CONFIRMED]


def test_what_core_code_leaves_behind_in_every_round_is_a_leak() -> None:
    judged = leaking([2] * 10).judge(series=[rounds(10)])
    assert len(confirmed(judged)) == len(judged) == 20
    one = judged[0]
    assert (one.source, one.rule) == ("repetition", "repetition")
    assert one.reason == "2 objects more with each run, in 9 of 9 after the warm-up; a cache would have levelled off"
    assert one.rounds == Rounds(9, 9, 2)


LEFT = [5] * 8 + [9, 25]
"""Five leak in each round; and of 24 that a cache keeps, the last round has made 20 and the one before 4."""


def numbers_of(left: Iterable[int], of_each: slice) -> list[tuple[int, int]]:
    """The round and the number of some of the objects of each round."""
    found, first = [], 0
    for number, count in enumerate(left):
        found += [(number, at) for at in range(first, first + count)[of_each]]
        first += count
    return found


def test_a_cache_that_keeps_the_youngest_is_not_convicted_with_what_leaks_beside_it() -> None:
    judged = leaking(LEFT, unload=False, stack=1).judge(series=[rounds(10)])
    assert {one.address for one in confirmed(judged)} == {address(number) for number in range(40)}
    assert len(judged) == sum(LEFT)
    assert any("this round left 9, and which of them the others will not tell" in one.reason for one in judged)


def test_where_all_that_grows_is_listed_the_others_of_its_stack_are_not_convicted() -> None:
    leaked = numbers_of(LEFT, slice(5))
    listed = [suspect(1.2 + number, address(at)) for number, at in leaked]
    judged = leaking(LEFT, unload=False, stack=1).judge(listed, listed, series=[rounds(10)])
    assert {one.address for one in confirmed(judged)} == {address(at) for _, at in leaked}
    assert len(judged) == len(leaked), "of the others there is nothing to say"


def test_what_is_not_listed_is_convicted_where_it_grows_by_itself() -> None:
    """Two of each five are listed; to the others something points."""
    listed = [suspect(1.2 + number, address(at)) for number, at in numbers_of([5] * 10, slice(2))]
    judged = leaking([5] * 10, unload=False, stack=1).judge(listed, listed, series=[rounds(10)])
    assert len(confirmed(judged)) == 50
    assert sum(one.source == "repetition" for one in judged) == 30
    assert {one.rounds for one in judged} == {Rounds(9, 9, 5)}


def test_what_a_stray_word_hides_from_kmemleak_is_convicted_by_the_rounds() -> None:
    """One of fifty is not listed, and its round has left as many as the others."""
    listed = [suspect(1.2 + number, address(at)) for number, at in numbers_of([5] * 10, slice(5)) if at != 23]
    judged = leaking([5] * 10, unload=False, stack=1).judge(listed, listed, series=[rounds(10)])
    assert len(confirmed(judged)) == 50
    assert [one.address for one in judged if one.source == "repetition"] == [address(23)]


def test_loads_and_unloads_are_rounds_by_themselves() -> None:
    scene = leaking([1] * 7)
    symbols = scene.names.symbols
    series = load_cycles("drv", symbols.loads("drv"), symbols.unloads("drv"), START_NS + 60 * SECOND)
    judged = scene.judge(series=[series])
    assert len(confirmed(judged)) == 7
    assert judged[0].reason.startswith("1 object more with each load of drv, in 6 of 6")


def test_of_several_modules_the_rounds_of_its_own_tell() -> None:
    scene = leaking([1] * 8)
    ends = [START_NS + round((1.6 + number) * SECOND) for number in range(8)]
    for at_ns in ends[1:]:  # another one, that came with it from the second time on
        scene.names.symbols.module_loaded(module_image("a_helper", 0xFFFFFFFFC0900000, loaded_ns=at_ns - SECOND // 2))
        scene.names.symbols.module_freed("a_helper", MODULE_KEY, at_ns)
    symbols = scene.names.symbols
    series = [
        load_cycles(name, symbols.loads(name), symbols.unloads(name), START_NS + 60 * SECOND)
        for name in ("a_helper", "drv")
    ]
    judged = scene.judge(series=series)
    assert len(confirmed(judged)) == 8
    assert "with each load of drv" in judged[0].reason


def test_without_rounds_it_stays_undecided() -> None:
    judged = leaking([2] * 10).judge()
    assert {one.verdict for one in judged} == {Verdict.UNDECIDED}
    assert all(one.counts_against_clean for one in judged)


def test_what_a_loaded_module_left_behind_is_a_leak_too() -> None:
    assert len(confirmed(leaking([1] * 12, unload=False, stack=1).judge(series=[rounds(12)]))) == 12


def test_what_levels_off_is_kept_and_not_in_the_way_of_clean() -> None:
    (one,) = leaking([0, 0, 1, 0, 0, 0, 0]).judge(series=[rounds(7)])
    assert (one.verdict, one.counts_against_clean, one.rule) == (Verdict.UNDECIDED, False, "levels off")


def test_what_was_forgotten_in_debugfs_once_is_not_kept_because_later_rounds_could_not_do_it_again() -> None:
    scene = leaking([2] + [0] * 9, stack=9)
    frames = ("__kmalloc_noprof", "core_alloc", "debugfs_create_dir", "drv_probe", "do_one_initcall")
    scene.names.stacks.add(9, [inside(frame) for frame in frames])
    judged = scene.judge(series=[rounds(10)])
    assert {(one.verdict, one.counts_against_clean) for one in judged} == {(Verdict.UNDECIDED, True)}


@pytest.mark.parametrize(("each", "verdict"), [(2, Verdict.UNDECIDED), (14, Verdict.CONFIRMED)])
def test_heads_of_skbs_that_grow_with_each_round_are_told_of_however_few(each: int, verdict: Verdict) -> None:
    """The lists of two processors have room for 128; what is more was kept by somebody else."""
    scene = leaking([each] * 10, unload=False, kind=Kind.CACHE, cache=7)
    scene.names.caches[7] = CacheName(7, "skbuff_head_cache", 232, 256)
    judged = scene.judge(series=[rounds(10)])
    assert len(judged) == 10 * each
    assert {(one.verdict, one.counts_against_clean) for one in judged} == {(verdict, True)}
    assert ("64 at most" in judged[0].reason) is (verdict is Verdict.UNDECIDED)


def test_what_the_next_round_frees_is_not_in_the_way_of_clean() -> None:
    (one,) = leaking([0, 0, 0, 0, 0, 0, 1]).judge(series=[rounds(7)])
    assert (one.verdict, one.counts_against_clean, one.rule) == (Verdict.UNDECIDED, False, "pending")


@pytest.mark.parametrize("unload", [False, True])
def test_what_the_next_round_frees_is_not_confirmed_where_kmemleak_lists_it(unload: bool) -> None:
    """As it does where a driver keeps a pointer as another number. When the module is gone, nobody frees it."""
    scene = leaking([0, 0, 0, 0, 0, 0, 1], unload=False, stack=1)
    if unload:
        scene.unload(8.5)
    listed = [suspect(7.2, address(0))]
    (one,) = scene.judge(listed, listed, series=[rounds(7)])
    assert one.verdict is (Verdict.CONFIRMED if unload else Verdict.UNDECIDED)
    assert unload or one.reason == "only the last of 7 rounds left any, so the next one may free it"
    assert one.counts_against_clean


def test_what_vmalloc_keeps_its_books_in_is_not_counted_with_what_it_gave() -> None:
    """Both are asked for by the same functions, by name."""
    scene = leaking([])
    frames = [inside("vmalloc_noprof"), inside("drv_probe")]
    scene.names.stacks.add(7, [inside("__vmalloc_node_range_noprof"), *frames])
    scene.names.stacks.add(8, [inside("__kmalloc_noprof"), inside("__get_vm_area_node"), *frames])
    for number in range(8):
        at_s = 1.2 + number
        scene.allocate(at_s, address(3 * number), stack=7, kind=Kind.VMALLOC, bytes_req=8192, bytes_alloc=8192)
        scene.allocate(at_s, address(3 * number + 1), stack=8)
        scene.allocate(at_s, address(3 * number + 2), stack=8)
    judged = scene.judge(series=[rounds(8)])
    assert {one.rounds for one in judged} == {Rounds(7, 7, 1)}
    assert [one.cache for one in judged] == ["vmalloc"] * 8


@pytest.mark.parametrize(
    ("left", "bounded"),
    [
        ([4, 2, 1, 0, 0, 0, 0], True),
        ([0, 0, 0, 0, 0, 0, 9], True),
        ([3, 0, 0, 0, 0, 0, 9], True),
        ([3, 0, 0, 0, 9], False),
        ([0, 1, 0, 1, 0, 1, 0], False),
        ([1, 1, 1, 1, 1, 1, 1], False),
    ],
)
def test_what_levels_off_or_is_freed_by_the_next_round_is_not_growing(left: list[int], bounded: bool) -> None:
    repeated = RepeatedStacks(leaking(left).evidence(series=[rounds(len(left))]))
    assert repeated.bounded == ({BY_CORE} if bounded else frozenset())


def test_what_comes_now_and_then_is_in_the_way_of_clean() -> None:
    judged = leaking([0, 1, 0, 1, 0, 1, 0]).judge(series=[rounds(7)])
    assert {(one.verdict, one.counts_against_clean) for one in judged} == {(Verdict.UNDECIDED, True)}


def test_what_more_the_first_round_left_is_not_told_apart() -> None:
    judged = leaking([3, 1, 1, 1, 1, 1]).judge(series=[rounds(6)])
    assert len(confirmed(judged)) == 5
    (reason,) = {one.reason for one in judged if one.verdict is Verdict.UNDECIDED}
    assert reason.endswith("this round left 3, and which of them the others will not tell")


def test_index_nodes_convict_nobody_and_are_not_in_the_way() -> None:
    scene = leaking([1] * 10, kind=Kind.CACHE, cache=77)
    scene.names.caches[77] = CacheName(77, "radix_tree_node", 576, 576)
    judged = scene.judge(series=[rounds(10)])
    assert {(one.verdict, one.counts_against_clean, one.rule) for one in judged} == {
        (Verdict.UNDECIDED, False, "index node")
    }


def test_reclaimable_memory_convicts_nobody_but_of_what_a_module_had_made_and_left_each_time() -> None:
    def left(**fields: object) -> list[JudgedSuspect]:
        scene = leaking([1] * 10, kind=Kind.CACHE, cache=77, **fields)
        scene.names.caches[77] = CacheName(77, "dentry", 64, 64, reclaimable=True)
        return scene.judge(series=[rounds(10)])

    assert left(stack=BY_NO_MODULE) == []
    assert left(unload=False, stack=1) == []
    assert len(confirmed(left())) == 10  # it has gone, and the dentry should have


def test_what_processes_hold_that_live_on_convicts_nobody() -> None:
    scene = leaking([1] * 12, unload=False, stack=BY_NO_MODULE, tgid=55)
    assert len(confirmed(scene.judge(series=[rounds(12)]))) == 12
    assert scene.judge(series=[rounds(12)], alive=frozenset({55})) == []
    in_interrupt = leaking([1] * 12, unload=False, stack=BY_NO_MODULE, tgid=55, context=Context.SOFTIRQ)
    assert len(confirmed(in_interrupt.judge(series=[rounds(12)], alive=frozenset({55})))) == 12


@pytest.mark.parametrize(("lost", "expected"), [(1, 12), (30, 0)])
def test_loss_weighs_as_much_as_it_can_have_hidden(lost: int, expected: int) -> None:
    scene = leaking([2] * 6)
    scene.lose(3.0, 3.5, lost)
    assert len(confirmed(scene.judge(series=[rounds(6)]))) == expected


def test_frees_that_this_kernel_does_not_show_leave_it_undecided_unless_kmemleak_has_it() -> None:
    blind = [c for c in FULL_COVERAGE if c.kind != "slab-bulk-free"] + [Coverage("slab-bulk-free", None)]
    scene = leaking([1] * 10)
    assert confirmed(scene.judge(series=[rounds(10)], coverage=blind)) == []
    assert len(confirmed(scene.judge(series=[rounds(10)], coverage=blind, tracked=lambda *_: True))) == 10


def test_siblings_that_live_longer_than_the_rounds_took_leave_it_undecided() -> None:
    scene = leaking([1] * 10)
    for number in range(8):
        scene.allocate(0.1, address(1000 + number), stack=BY_CORE)
    for number in range(8):
        scene.free(59.9, address(1000 + number))
    judged = scene.judge(series=[rounds(10)])
    assert confirmed(judged) == []
    assert "8 siblings were freed, one after 59.8 s: the rounds are too short to tell" in judged[0].reason


def test_bookkeeping_of_vmalloc_is_not_counted_beside_what_it_describes() -> None:
    assert leaking([1] * 10, stack=4).judge(series=[rounds(10)]) == []


def test_what_kmemleak_convicts_keeps_its_verdict_and_gets_its_rounds() -> None:
    scene = leaking([1] * 10, stack=1, unload=False)
    listed = [suspect(1.2 + number, address(number)) for number in range(10)]
    judged = scene.judge(listed, listed, series=[rounds(10)])
    assert {(one.source, one.rounds) for one in judged} == {("kmemleak", Rounds(9, 9, 1))}


def test_what_kmemleak_takes_for_referenced_again_is_a_leak_all_the_same() -> None:
    scene = leaking([1] * 10, stack=1, unload=False)
    listed = [suspect(1.2 + number, address(number)) for number in range(10)]
    judged = scene.judge(listed, [], [], series=[rounds(10)])
    assert {(one.source, one.verdict) for one in judged} == {("repetition", Verdict.CONFIRMED)}


def test_marks_are_compared_like_runs() -> None:
    edges = rounds(10).edges
    judged = leaking([1] * 10).judge(series=[RoundSeries(RoundSource.MARK, edges, "probe")])
    assert judged[0].reason.startswith("1 object more with each round of probe, in 9 of 9")


def test_what_differs_only_in_what_was_interrupted_is_one_stack() -> None:
    scene = Scene()
    for number in range(12):
        key = 20 + number % 3
        came_upon = ("drv_work", "drv_free", "kthread")[number % 3]
        scene.names.stacks.add(key, [inside("core_alloc"), inside("handle_softirqs"), inside(came_upon)])
        scene.allocate(1.2 + number, address(number), stack=key, context=Context.SOFTIRQ)
    assert len(confirmed(scene.judge(series=[rounds(12)]))) == 12
