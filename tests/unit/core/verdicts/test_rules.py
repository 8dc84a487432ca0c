# SPDX-License-Identifier: GPL-2.0-or-later
"""Every rule of the verdicts by its own small history; and no history makes a leak of a freed object."""

from __future__ import annotations

from dataclasses import replace

import pytest
from builders import FULL_COVERAGE, HZ, START_NS, Scene, inside, jiffies_at, module_image, suspect
from hypothesis import given
from hypothesis import strategies as st

from kleaktrace.core.events.coverage import Coverage, CoverageKind
from kleaktrace.core.events.records import Context, Kind, hide
from kleaktrace.core.evidence.evidence import Freed, JudgedSuspect, Verdict
from kleaktrace.core.evidence.suspect_cases import JIFFIES_TOLERANCE, LATE_S
from kleaktrace.core.kmemleak.frames import KmemleakFrame
from kleaktrace.core.symbols.kernel_names import CacheName

A = 0xFFFF888100010000
B = 0xFFFF888100020000
PERCPU = 0x607F00001230


def only(judged: list[JudgedSuspect]) -> JudgedSuspect:
    (one,) = judged
    return one


def leaked_at(at_s: float = 1.0, **fields: object) -> Scene:
    scene = Scene()
    scene.allocate(at_s, A, **fields)
    return scene


# Listed, and matched with an allocation


def test_outstanding_and_listed_by_two_scans_is_confirmed_with_all_its_evidence() -> None:
    scene = leaked_at(1.0, size=100)
    listed = suspect(1.0, A, size=128, comm="kmemleak_says", pid=42)
    verdict = only(scene.judge([listed], [listed]))
    assert verdict.verdict is Verdict.CONFIRMED
    assert verdict.reason == "not freed, and nothing has pointed to it in 2 scans"
    assert (verdict.source, verdict.address, verdict.size) == ("kmemleak", A, 128)
    assert (verdict.bytes_req, verdict.bytes_alloc, verdict.cache) == (100, 128, "kmalloc-128")
    assert verdict.age_s == pytest.approx(59)
    assert (verdict.comm, verdict.pid, verdict.context) == ("kmemleak_says", 42, Context.TASK)
    assert verdict.stack == ("drv_probe+0x22/0x100 [drv]", "do_one_initcall+0x22/0x1000")
    assert (verdict.siblings.allocated, verdict.siblings.freed, verdict.siblings.outstanding) == (1, 0, 1)
    assert verdict.freed is None
    assert verdict.in_window


def test_the_context_of_the_allocation_is_ours_not_what_kmemleak_prints_for_a_comm() -> None:
    scene = leaked_at(1.0, context=Context.HARDIRQ)
    listed = suspect(1.0, A, comm="hardirq", pid=0)
    assert only(scene.judge([listed], [listed])).context is Context.HARDIRQ


def test_an_unknown_context_is_told_from_the_stack() -> None:
    scene = Scene()
    scene.names.stacks.add(9, [inside("core_alloc"), inside("handle_softirqs"), inside("kthread")])
    scene.allocate(1.0, A, stack=9, context=Context.UNKNOWN)
    assert only(scene.judge([suspect(1.0, A)])).context is Context.SOFTIRQ


def test_a_free_that_was_seen_dismisses_and_says_when_and_where() -> None:
    scene = leaked_at(1.0)
    scene.free(31.5, A, "core_free")
    verdict = only(scene.judge([suspect(1.0, A)], [suspect(1.0, A)]))
    assert verdict.verdict is Verdict.DISMISSED
    assert verdict.freed == Freed(30.5, "core_free+0x22/0x1000")
    assert verdict.reason == "freed 30.500 s after its allocation by core_free+0x22/0x1000"


def test_a_free_while_it_is_watched_dismisses_however_young_it_was() -> None:
    scene = leaked_at(30.0)
    scene.ledger.watch([hide(A)])
    scene.free(30.5, A, "core_free")
    verdict = only(scene.judge([suspect(30.0, A)], [suspect(30.0, A)]))
    assert verdict.verdict is Verdict.DISMISSED
    assert verdict.freed == Freed(0.5, "core_free+0x22/0x1000")
    assert (verdict.siblings.allocated, verdict.siblings.freed) == (1, 1)


def test_a_free_without_a_call_site_is_by_an_unknown_caller() -> None:
    scene = leaked_at(1.0)
    scene.free(31.5, A, site="")
    assert only(scene.judge([suspect(1.0, A)])).freed == Freed(30.5, "an unknown caller")


def test_an_address_allocated_anew_without_a_free_seen_dismisses_as_reused() -> None:
    scene = leaked_at(1.0)
    scene.allocate(21.0, A)
    verdict = only(scene.judge([suspect(1.0, A)], [suspect(1.0, A)]))
    assert verdict.verdict is Verdict.DISMISSED
    assert verdict.reason.startswith("freed and reused: 20.000 s after")
    assert verdict.freed is None


def test_a_newer_allocation_at_the_address_dismisses_even_if_the_older_was_not_seen() -> None:
    scene = leaked_at(21.0)
    verdict = only(scene.judge([suspect(1.0, A)], [suspect(1.0, A)]))
    assert verdict.verdict is Verdict.DISMISSED
    assert verdict.reason == "freed and reused: its address now holds a newer allocation"
    assert verdict.bytes_req is None, "the newer allocation's figures are not the suspect's"


def test_an_older_allocation_at_the_address_is_no_match_and_confirms_nothing() -> None:
    scene = leaked_at(1.0)
    assert only(scene.judge([suspect(30.0, A)], [suspect(30.0, A)])).verdict is Verdict.UNDECIDED


def test_listed_by_one_scan_and_not_by_the_next_is_referenced_again() -> None:
    verdict = only(leaked_at(1.0).judge([suspect(1.0, A)], [], []))
    assert verdict.verdict is Verdict.DISMISSED
    assert verdict.reason == "referenced again: listed by one scan, not by the 2 after it"


def test_one_scan_that_does_not_list_it_may_have_been_misled() -> None:
    verdict = only(leaked_at(1.0).judge([suspect(1.0, A)], []))
    assert verdict.verdict is Verdict.UNDECIDED
    assert verdict.reason == "listed by one scan, but not by the last; scan again"


def test_listed_again_after_a_gap_must_prove_itself_anew() -> None:
    listed = suspect(1.0, A)
    assert only(leaked_at(1.0).judge([listed], [listed], [], [listed])).verdict is Verdict.UNDECIDED


def test_listed_by_the_last_scan_only_is_undecided() -> None:
    verdict = only(leaked_at(1.0).judge([], [suspect(1.0, A)]))
    assert (verdict.verdict, verdict.reason) == (Verdict.UNDECIDED, "listed by the last scan only; scan again")


@pytest.mark.parametrize(
    ("listed_size", "verdict"),
    [
        (99, Verdict.UNDECIDED),
        (100, Verdict.CONFIRMED),
        (128, Verdict.CONFIRMED),
        (129, Verdict.UNDECIDED),
    ],
)
def test_sizes_match_from_what_was_asked_for_to_what_was_given(listed_size: int, verdict: Verdict) -> None:
    listed = suspect(1.0, A, size=listed_size)
    judged = only(leaked_at(1.0, size=100).judge([listed], [listed]))
    assert judged.verdict is verdict
    assert ("sizes differ" in judged.reason) is (verdict is Verdict.UNDECIDED)


@pytest.mark.parametrize(
    ("traced", "listed_size", "verdict"),
    [
        (12288, 8192, Verdict.CONFIRMED),  # pages of 4 KiB
        (3 << 16, 2 << 16, Verdict.CONFIRMED),  # of 64 KiB
        (16384, 8192, Verdict.UNDECIDED),
        (12288, 12288 - 100, Verdict.UNDECIDED),
    ],
)
def test_a_vmalloc_may_be_traced_with_its_guard_page(traced: int, listed_size: int, verdict: Verdict) -> None:
    scene = leaked_at(1.0, size=traced, bytes_alloc=traced, kind=Kind.VMALLOC)
    listed = suspect(1.0, A, size=listed_size)
    by_addresses = Coverage(CoverageKind.VMALLOC, "by addresses", guard_pages=True)
    assert only(scene.judge([listed], [listed], coverage=(by_addresses,))).verdict is verdict
    assert only(scene.judge([listed], [listed])).verdict is Verdict.UNDECIDED


@pytest.mark.parametrize(
    ("asked", "listed_size", "kind", "verdict"),
    [
        (0x401000, 0x600000, Kind.VMALLOC, Verdict.CONFIRMED),  # three pages of 2 MiB
        (0x401000, 0x410000, Kind.VMALLOC, Verdict.CONFIRMED),  # pages of 64 KiB
        (0x401000, 0x800000, Kind.VMALLOC, Verdict.CONFIRMED),  # two of 4 MiB
        (0x401000, 0x602000, Kind.VMALLOC, Verdict.UNDECIDED),  # no huge page divides it
        (0x401000, 0xA00000, Kind.VMALLOC, Verdict.UNDECIDED),  # one page of 2 MiB too many
        (0x401000, 0x400000, Kind.VMALLOC, Verdict.UNDECIDED),  # less
        (0x1400, 0x200000, Kind.VMALLOC, Verdict.UNDECIDED),  # too little to fill a huge page
        (0x401000, 0x600000, Kind.KMALLOC, Verdict.UNDECIDED),
    ],
)
def test_vmallocs_may_be_in_huge_pages(asked: int, listed_size: int, kind: Kind, verdict: Verdict) -> None:
    listed = suspect(1.0, A, size=listed_size)
    given = -(-asked // 4096) * 4096
    judged = only(leaked_at(1.0, size=asked, bytes_alloc=given, kind=kind).judge([listed], [listed]))
    assert judged.verdict is verdict


# Time


@pytest.mark.parametrize(("late", "matched"), [(-3, False), (-2, True), (0, True), (3, True), (4 * HZ, True)])
def test_an_event_may_be_a_little_early_and_seconds_late(late: int, matched: bool) -> None:
    scene = leaked_at(10.0)
    listed = suspect(0, A, jiffies=jiffies_at(10.0) - late)
    assert (only(scene.judge([listed], [listed])).verdict is Verdict.CONFIRMED) is matched


def test_what_kmemleak_can_list_had_its_address_for_five_seconds_and_no_more_is_sure() -> None:
    listed = suspect(0, A, jiffies=jiffies_at(10.0) - 5 * HZ)
    assert only(leaked_at(10.0).judge([listed], [listed])).reason.startswith("freed and reused")


def test_the_free_of_what_was_seen_late_dismisses_all_the_same() -> None:
    scene = leaked_at(10.0)
    scene.free(30.0, A)
    listed = suspect(0, A, jiffies=jiffies_at(10.0) - 20)
    verdict = only(scene.judge([listed], []))
    assert (verdict.verdict, verdict.freed) == (Verdict.DISMISSED, Freed(pytest.approx(20), "core_free+0x22/0x1000"))


@pytest.mark.parametrize("early", [0, 1, 2])
def test_times_match_across_the_wrap_of_the_low_half(early: int) -> None:
    """kmemleak prints 64 bits, events carry the low 32; the wrap comes five minutes after every boot."""
    wrap = 1 << 33
    scene = Scene()
    scene.allocate(1.0, A, jiffies=(wrap - early) % (1 << 32))
    listed = suspect(0, A, jiffies=wrap - early + 2)
    assert only(scene.judge([listed], [listed])).verdict is Verdict.CONFIRMED


def test_an_allocation_just_past_the_wrap_is_newer_not_older() -> None:
    wrap = 1 << 33
    scene = Scene()
    scene.allocate(30.0, A, jiffies=5000)
    verdict = only(scene.judge([suspect(0, A, jiffies=wrap - 100)]))
    assert verdict.reason == "freed and reused: its address now holds a newer allocation"


def test_tags_that_kasan_keeps_in_the_address_do_not_hide_the_match() -> None:
    tagged = A & ~(0xFF << 56) | 0xF3 << 56
    verdict = only(leaked_at(1.0).judge([suspect(1.0, tagged)], [suspect(1.0, tagged)]))
    assert (verdict.verdict, verdict.address) == (Verdict.CONFIRMED, A)


def test_per_cpu_offsets_are_a_name_space_of_their_own() -> None:
    scene = Scene()
    scene.allocate(1.0, PERCPU, kind=Kind.PERCPU)
    slab, percpu = suspect(1.0, PERCPU), suspect(1.0, PERCPU, kind="percpu")
    judged = scene.judge([slab, percpu], [slab, percpu])
    assert [j.verdict for j in judged] == [Verdict.CONFIRMED, Verdict.UNDECIDED]
    assert [j.cache for j in judged] == ["percpu", ""]


# Allocated before tracing began


def test_what_predates_the_window_is_undecided_and_does_not_weaken_the_run() -> None:
    listed = suspect(-100, A)
    verdict = only(Scene().judge([listed], [listed], watched_s=12.3))
    assert verdict.verdict is Verdict.UNDECIDED
    assert verdict.reason == "allocated before tracing began; no free seen in 12 s of watching"
    at_once = only(Scene().judge([suspect(-100, A)], [suspect(-100, A)], watched_s=0.4))
    assert at_once.reason == "allocated before tracing began; no free seen since kmemleak listed it"
    assert not verdict.in_window
    assert not verdict.counts_against_clean
    assert verdict.age_s == pytest.approx(160)
    assert verdict.stack == ("0xffffffffc0100022",), "kmemleak's own, since we have none"


@pytest.mark.parametrize(
    ("frames", "is_head"),
    [
        (("kmem_cache_alloc_bulk_noprof", "bpf_trampoline_6442", "napi_skb_cache_get", "napi_alloc_skb"), True),
        (("kmem_cache_alloc_node_noprof", "__alloc_skb", "drv_tx"), True),
        (("kmem_cache_alloc_noprof", "skb_clone.part.0", "drv_rx"), True),
        (("kmem_cache_alloc_node_noprof", "kmalloc_reserve", "__alloc_skb", "drv_tx"), False),
        (("__kmalloc_noprof", "drv_probe", "skb_clone"), False),
    ],
)
def test_the_record_of_a_head_of_an_skb_may_be_older_than_its_leak(frames: tuple[str, ...], is_head: bool) -> None:
    """NAPI's lists hand on what was freed in the window, and neither we nor kmemleak see it."""
    listed = suspect(-100, A, frames=tuple(KmemleakFrame(symbol=name, offset=1, size=2) for name in frames))
    verdict = only(Scene().judge([listed], [listed], watched_s=12.3))
    assert (verdict.verdict, verdict.in_window) == (Verdict.UNDECIDED, False)
    assert verdict.counts_against_clean is is_head
    assert ("it may have leaked since" in verdict.reason) is is_head


def of_module(module: str) -> tuple[KmemleakFrame, ...]:
    return KmemleakFrame(symbol="core_alloc", offset=1, size=2), KmemleakFrame(
        symbol="any", offset=1, size=2, module=module
    )


def test_names_of_a_module_that_was_loaded_later_are_not_those_of_who_allocated() -> None:
    scene = Scene()
    scene.names.symbols.module_loaded(module_image("late", loaded_ns=START_NS + 10**9, base=0xFFFFFFFFC0300000))
    listed = suspect(-100, A, frames=of_module("late"))
    verdict = only(scene.judge([listed], [listed], watched_s=12.3))
    assert verdict.reason == (
        "allocated before tracing began; no free seen in 12 s of watching; "
        "its callers may bear wrong names: late was loaded later, perhaps to where another module had been"
    )


def test_names_of_a_module_that_was_there_already_are_taken_as_they_are() -> None:
    scene = Scene()
    scene.unload(1, "old")
    scene.names.symbols.module_loaded(module_image("old", loaded_ns=START_NS + 2 * 10**9, base=0xFFFFFFFFC0300000))
    for module in ("old", "never_seen"):
        listed = suspect(-100, A, frames=of_module(module))
        reason = only(scene.judge([listed], [listed], watched_s=12.3)).reason
        assert reason == "allocated before tracing began; no free seen in 12 s of watching"


@pytest.mark.parametrize("readings", [1, 2])
def test_what_predates_the_window_is_dismissed_when_the_watch_sees_its_free(readings: int) -> None:
    scene, listed = Scene(), suspect(-100, A)
    scene.watch(A)
    scene.free(20.0, A, "core_free")
    verdict = only(scene.judge(*[[listed]] * readings))
    assert verdict.verdict is Verdict.DISMISSED
    assert verdict.freed == Freed(None, "core_free+0x22/0x1000")
    assert not verdict.in_window


def test_the_watch_tells_a_per_cpu_free_from_another() -> None:
    scene = Scene()
    scene.watch(PERCPU)
    scene.watch(PERCPU, percpu=True)
    scene.free(20.0, PERCPU, kind=Kind.PERCPU)
    slab, percpu = suspect(-100, PERCPU), suspect(-100, PERCPU, kind="percpu")
    judged = scene.judge([slab, percpu], [slab, percpu])
    assert [j.verdict for j in judged] == [Verdict.DISMISSED, Verdict.UNDECIDED]
    assert judged[0].freed is not None


def test_what_predates_the_window_is_dismissed_when_its_address_is_allocated_in_it() -> None:
    verdict = only(leaked_at(10.0).judge([suspect(-100, A)], [suspect(-100, A)]))
    assert verdict.verdict is Verdict.DISMISSED
    assert not verdict.in_window


@pytest.mark.parametrize(
    ("known", "verdict", "reason"),
    [
        (False, Verdict.DISMISSED, "freed meanwhile: kmemleak no longer has it"),
        (True, Verdict.UNDECIDED, "no longer listed: something points to it now, perhaps by chance"),
        (None, Verdict.UNDECIDED, "no longer listed: freed, or something points to it now, perhaps by chance"),
    ],
)
def test_what_predates_the_window_and_is_no_longer_listed(known, verdict, reason) -> None:
    judged = only(Scene().judge([suspect(-100, A)], [], [], tracked=lambda address, kind: known))
    assert (judged.verdict, judged.reason) == (verdict, reason)


@pytest.mark.parametrize(("kind", "is_same"), [(Kind.VMALLOC, True), (Kind.KMALLOC, False)])
@pytest.mark.parametrize("freed", [False, True])
def test_kmemleak_may_know_a_vmalloc_long_after_it_got_its_addresses(kind: Kind, is_same: bool, freed: bool) -> None:
    scene = leaked_at(10.0, kind=kind)
    if freed:
        scene.free(12.0, A, kind=kind)
    listed = suspect(10.5, A)
    verdict = only(scene.judge([listed], [listed]))
    seen = Verdict.DISMISSED if freed else Verdict.CONFIRMED
    assert verdict.verdict is (seen if is_same else Verdict.UNDECIDED)


def test_an_allocation_in_the_window_s_first_ticks_is_matched_all_the_same() -> None:
    scene = leaked_at(0.0)
    listed = suspect(0.0, A)
    assert only(scene.judge([listed], [listed])).verdict is Verdict.CONFIRMED


# Allocated in the window, but not seen


def test_not_seen_after_loss_is_undecided_with_the_figure() -> None:
    scene = Scene()
    scene.lose(2, 3, events=17)
    verdict = only(scene.judge([suspect(1.0, A)], [suspect(1.0, A)]))
    assert (verdict.verdict, verdict.reason) == (
        Verdict.UNDECIDED,
        "its allocation was not seen: 17 events were lost",
    )
    assert verdict.counts_against_clean


def test_not_seen_without_loss_came_by_an_untraced_path() -> None:
    verdict = only(Scene().judge([suspect(1.0, A)], [suspect(1.0, A)]))
    assert verdict.verdict is Verdict.UNDECIDED
    assert "a path without an event" in verdict.reason


def test_a_physical_address_has_no_event() -> None:
    listed = suspect(1.0, 0x7F000000, kind="phys")
    verdict = only(Scene().judge([listed], [listed]))
    assert verdict.verdict is Verdict.UNDECIDED
    assert verdict.reason.startswith("a physical address")


def test_not_seen_and_no_longer_listed_is_dismissed_only_if_kmemleak_knows_it_no_more() -> None:
    readings = [suspect(1.0, A)], []
    assert only(Scene().judge(*readings)).verdict is Verdict.UNDECIDED
    assert only(Scene().judge(*readings, tracked=lambda address, kind: False)).verdict is Verdict.DISMISSED


# Loss


@pytest.mark.parametrize(("from_s", "to_s"), [(0.5, 1.0), (1.0, 1.0), (20, 21), (0, 60), (59, 60)])
def test_loss_in_its_lifetime_leaves_a_suspect_undecided(from_s: float, to_s: float) -> None:
    scene = leaked_at(1.0)
    scene.lose(from_s, to_s, events=5)
    verdict = only(scene.judge([suspect(1.0, A)], [suspect(1.0, A)]))
    assert (verdict.verdict, verdict.reason) == (Verdict.UNDECIDED, "5 events were lost in its lifetime")


@pytest.mark.parametrize(
    ("kind", "frees", "expected"),
    [
        (Kind.KMALLOC, (0, 5, 5, 5), Verdict.CONFIRMED),
        (Kind.KMALLOC, (5, 0, 0, 0), Verdict.UNDECIDED),
        (Kind.VMALLOC, (5, 0, 5, 5), Verdict.CONFIRMED),
        (Kind.VMALLOC, (0, 5, 0, 0), Verdict.UNDECIDED),
        (Kind.KMALLOC, (0, 0, 0, 0), Verdict.CONFIRMED),
    ],
)
def test_only_a_lost_free_that_could_have_freed_it_matters(
    kind: Kind, frees: tuple[int, ...], expected: Verdict
) -> None:
    scene = Scene()
    scene.allocate(1, A, kind=kind)
    scene.lose(2, 3, 5, frees)
    (verdict,) = scene.judge([suspect(1, A)], [suspect(1, A)])
    assert verdict.verdict is expected


def test_loss_before_its_allocation_does_not_matter() -> None:
    scene = leaked_at(10.0)
    scene.lose(1, 9.9)
    assert only(scene.judge([suspect(10.0, A)], [suspect(10.0, A)])).verdict is Verdict.CONFIRMED


# Siblings


def with_siblings(lifetime_s: float, freed: int, stack: int = 1) -> JudgedSuspect:
    scene = Scene()
    for number in range(freed):
        scene.allocate(1.0, B + 256 * number, stack=stack)
    scene.allocate(30.0, A, stack=stack)
    for number in range(freed):
        scene.free(1.0 + lifetime_s, B + 256 * number)
    return only(scene.judge([suspect(30.0, A)], [suspect(30.0, A)]))


def test_a_suspect_younger_than_its_siblings_became_is_undecided_with_the_figure() -> None:
    verdict = with_siblings(lifetime_s=50, freed=6)
    assert verdict.verdict is Verdict.UNDECIDED
    assert verdict.reason == (
        "too young: 6 siblings from the same call stack were freed, the last at an age of 50.0 s; this one is 30.0 s "
        "old, and 100% of such live longer"
    )


def test_a_suspect_older_than_its_siblings_became_is_confirmed_with_their_record() -> None:
    verdict = with_siblings(lifetime_s=3, freed=6)
    assert verdict.verdict is Verdict.CONFIRMED
    siblings = verdict.siblings
    assert (siblings.allocated, siblings.freed, siblings.outstanding, siblings.outstanding_bytes) == (7, 6, 1, 128)
    assert siblings.median_lifetime_s == pytest.approx(3, rel=0.12)
    assert siblings.free_sites == (("core_free+0x22/0x1000", 6),)


def test_a_few_siblings_say_nothing_unless_one_became_older() -> None:
    assert with_siblings(lifetime_s=20, freed=4).verdict is Verdict.CONFIRMED
    assert with_siblings(lifetime_s=50, freed=1).verdict is Verdict.UNDECIDED


def test_siblings_by_another_path_speak_where_the_same_stack_says_too_little() -> None:
    scene = Scene()
    scene.names.stacks.add(9, [inside("__kmalloc_noprof"), inside("drv_probe"), inside("kthread")])
    for number in range(8):
        scene.allocate(1.0, B + 256 * number, stack=9)
        scene.free(46.0, B + 256 * number)
    scene.allocate(36.0, A)
    verdict = only(scene.judge([suspect(36.0, A)], [suspect(36.0, A)]))
    assert verdict.verdict is Verdict.UNDECIDED
    assert "8 siblings asked for by drv_probe, from whatever call stack were freed" in verdict.reason


def test_what_functions_give_out_that_share_it_are_no_siblings_by_that_alone() -> None:
    """Names of kobjects live as long as the kobjects do, and those of others have nothing to do with it."""
    scene = Scene()
    named = [inside("kobject_set_name_vargs"), inside("kobject_add"), inside("kobject_create_and_add")]
    scene.names.stacks.add(8, [*named, inside("drv_probe")])
    scene.names.stacks.add(9, [*named, inside("core_alloc")])
    for number in range(8):
        scene.allocate(1.0, B + 256 * number, stack=9)
        scene.free(46.0, B + 256 * number)
    scene.allocate(36.0, A, stack=8)
    assert only(scene.judge([suspect(36.0, A)], [suspect(36.0, A)])).verdict is Verdict.CONFIRMED


def test_what_vmalloc_takes_for_its_own_books_are_no_siblings_of_what_was_asked_for() -> None:
    """A spare node of its tree is freed when areas merge, which says nothing of the memory."""
    scene = Scene()
    asked = [inside("__vmalloc_node_range_noprof"), inside("drv_probe")]
    scene.names.stacks.add(8, asked)
    scene.names.stacks.add(9, [inside("alloc_vmap_area"), *asked])
    for number in range(8):
        scene.allocate(1.0, B + 256 * number, stack=9)
        scene.free(46.0, B + 256 * number)
    scene.allocate(36.0, A, stack=8, kind=Kind.VMALLOC)
    assert only(scene.judge([suspect(36.0, A)], [suspect(36.0, A)])).verdict is Verdict.CONFIRMED


def test_those_without_a_stack_are_no_siblings_of_each_other() -> None:
    verdict = with_siblings(lifetime_s=50, freed=6, stack=0)
    assert verdict.verdict is Verdict.CONFIRMED
    assert verdict.siblings.allocated == 0


def siblings_through_a_loss(at_s: float, many: int = 6, listed: bool = False, lost: int = 7) -> JudgedSuspect:
    """A suspect at 32 s, 28 s old, of a stack that has others whose frees may be among what was lost until 31 s."""
    scene = Scene()
    others = [B + 256 * number for number in range(many)]
    for address in others:
        scene.allocate(at_s, address)
    scene.lose(29, 31, lost)
    scene.allocate(32.0, A)
    reading = [suspect(32.0, A), *(suspect(at_s, address) for address in others if listed)]
    (judged,) = [one for one in scene.judge(reading, reading) if one.address == A]
    return judged


def test_a_suspect_younger_than_its_siblings_may_have_become_unseen_is_undecided_with_the_figure() -> None:
    verdict = siblings_through_a_loss(at_s=2.0)
    assert verdict.verdict is Verdict.UNDECIDED
    assert verdict.reason == (
        "events were lost: 6 siblings from the same stack may have been freed unseen when they were older than this "
        "one, which is 28.0 s old"
    )


def test_a_suspect_older_than_its_siblings_can_have_become_unseen_is_confirmed() -> None:
    assert siblings_through_a_loss(at_s=4.0).verdict is Verdict.CONFIRMED


def test_siblings_that_kmemleak_lists_were_not_freed_unseen() -> None:
    assert siblings_through_a_loss(at_s=2.0, listed=True).verdict is Verdict.CONFIRMED


def test_few_siblings_that_may_have_been_freed_unseen_say_nothing_either() -> None:
    assert siblings_through_a_loss(at_s=2.0, many=4).verdict is Verdict.CONFIRMED


def test_no_more_siblings_were_freed_unseen_than_events_were_lost() -> None:
    assert siblings_through_a_loss(at_s=2.0, lost=4).verdict is Verdict.CONFIRMED


def test_frees_seen_count_with_those_that_may_have_been_missed() -> None:
    scene = Scene()
    for number in range(6):
        scene.allocate(2.0, B + 256 * number)
    for number in range(4):
        scene.free(3.0, B + 256 * number)
    scene.lose(29, 31)
    scene.allocate(32.0, A)
    assert only(scene.judge([suspect(32.0, A)], [suspect(32.0, A)])).verdict is Verdict.UNDECIDED


# Unloaded modules


def unloaded(stack: int = 1, at_s: float = 30.0, **fields: object) -> Scene:
    scene = leaked_at(1.0, stack=stack, **fields)
    scene.unload(at_s)
    return scene


def test_what_an_unloaded_module_s_own_code_never_freed_is_confirmed() -> None:
    verdict = only(unloaded().judge(tracked=lambda address, kind: True))
    assert (verdict.verdict, verdict.source) == (Verdict.CONFIRMED, "unload")
    assert verdict.reason == "drv was unloaded 30.0 s ago, and its own code never freed this"
    assert (verdict.address, verdict.size, verdict.bytes_req, verdict.comm, verdict.pid) == (A, 128, 100, "insmod", 42)
    assert verdict.stack[0] == "drv_probe+0x22/0x100 [drv]"


def test_what_core_code_allocated_for_an_unloaded_module_is_undecided_and_not_clean() -> None:
    verdict = only(unloaded(stack=2).judge(tracked=lambda address, kind: True))
    assert verdict.verdict is Verdict.UNDECIDED
    assert "core code allocated this on its behalf" in verdict.reason
    assert (verdict.counts_against_clean, verdict.rule) == (True, "unloaded module")


@pytest.mark.parametrize(("processors", "counted"), [(0, False), (1, True), (2, False)])
def test_heads_of_skbs_are_kept_as_many_as_the_processors_have_lists_for(processors: int, counted: bool) -> None:
    scene = Scene()
    scene.names.caches[7] = CacheName(7, "skbuff_head_cache", 232, 256)
    for number in range(65):
        scene.allocate(1.0, A + 256 * number, stack=2, kind=Kind.CACHE, cache=7)
    scene.unload(30.0)
    verdicts = scene.judge(processors=processors)
    assert len(verdicts) == 65
    assert {(v.verdict, v.counts_against_clean) for v in verdicts} == {(Verdict.UNDECIDED, counted)}


def test_what_other_core_code_allocated_is_not_the_module_s() -> None:
    assert unloaded(stack=3).judge() == []


def test_what_kmemleak_no_longer_has_was_freed_unseen() -> None:
    asked = []

    def tracked(address: int, kind: int) -> bool:
        asked.append((address, kind))
        return False

    verdict = only(unloaded().judge(tracked=tracked))
    assert verdict.verdict is Verdict.DISMISSED
    assert asked == [(A, Kind.KMALLOC)]


def without(*kinds: str) -> list[Coverage]:
    return [replace(c, source=None) if c.kind in kinds else c for c in FULL_COVERAGE]


@pytest.mark.parametrize(
    ("known", "kind", "missing", "verdict"),
    [
        (None, Kind.KMALLOC, "", Verdict.CONFIRMED),
        (None, Kind.KMALLOC, "slab-bulk-free", Verdict.UNDECIDED),
        (None, Kind.CACHE, "slab-bulk-free", Verdict.UNDECIDED),
        (None, Kind.VMALLOC, "slab-bulk-free", Verdict.CONFIRMED),
        (None, Kind.PERCPU, "slab-bulk-free", Verdict.CONFIRMED),
        (True, Kind.KMALLOC, "slab-bulk-free", Verdict.CONFIRMED),
        (None, Kind.VMALLOC, "vfree", Verdict.UNDECIDED),
        (True, Kind.VMALLOC, "vfree", Verdict.CONFIRMED),
    ],
)
def test_an_unload_confirms_only_if_the_free_would_have_been_seen(
    known: bool | None, kind: Kind, missing: str, verdict: Verdict
) -> None:
    scene = unloaded(kind=kind)
    assert only(scene.judge(coverage=without(missing), tracked=lambda a, k: known)).verdict is verdict


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (CoverageKind.SLAB_SHEAF_FREE, "kfree_rcu, which collects in sheaves,"),
        (CoverageKind.SLAB_RCU_FREE, "kfree_rcu, which collects nothing here,"),
    ],
)
def test_what_kfree_rcu_may_have_freed_unseen_is_undecided(kind: CoverageKind, words: str) -> None:
    by_rcu = Coverage(kind, None)
    verdict = only(unloaded().judge(coverage=(*FULL_COVERAGE, by_rcu)))
    assert verdict.verdict is Verdict.UNDECIDED
    assert f"a {words} could not have been seen on this kernel" in verdict.reason
    seen = replace(by_rcu, source="fexit")
    assert only(unloaded().judge(coverage=(*FULL_COVERAGE, seen))).verdict is Verdict.CONFIRMED


def test_frees_that_showed_late_say_how_little_the_table_is_worth() -> None:
    scene = unloaded()
    scene.allocate(2.0, B)
    scene.allocate(3.0, B)
    (verdict,) = [v for v in scene.judge(coverage=without("slab-bulk-free")) if v.address == A]
    assert "where 1 frees of such objects showed only when their memory was used again" in verdict.reason


def test_loss_leaves_what_an_unloaded_module_left_undecided() -> None:
    scene = unloaded()
    scene.lose(10, 11, events=5)
    verdict = only(scene.judge(tracked=lambda address, kind: True))
    assert verdict.verdict is Verdict.UNDECIDED
    assert "5 events were lost in its lifetime" in verdict.reason


def test_vmalloc_s_bookkeeping_is_left_out_of_what_a_module_left() -> None:
    assert unloaded(stack=4).judge() == []
    assert len(unloaded(stack=4, kind=Kind.VMALLOC).judge()) == 1, "the area itself is not"


def test_the_page_array_of_a_large_vmalloc_is_left_out_of_what_a_module_left() -> None:
    assert unloaded(stack=5, kind=Kind.VMALLOC).judge() == []
    assert unloaded(stack=5).judge() == [], "nor when it is a small one, from the slab"
    assert len(unloaded(stack=6, kind=Kind.VMALLOC).judge()) == 1, "the area itself is not"


def test_what_was_allocated_after_the_unload_is_not_left_behind() -> None:
    scene = Scene()
    scene.unload(10)
    scene.names.symbols.module_loaded(module_image())
    scene.allocate(20.0, A)
    assert scene.judge() == []


def test_a_module_that_is_still_there_has_left_nothing() -> None:
    assert leaked_at(1.0).judge() == []


def test_what_kmemleak_lists_is_judged_once() -> None:
    listed = suspect(1.0, A)
    assert [j.source for j in unloaded().judge([listed], [listed])] == ["kmemleak"]


def test_what_was_listed_once_and_left_by_an_unloaded_module_is_judged_by_the_unload() -> None:
    scene = unloaded()
    verdict = only(scene.judge([suspect(1.0, A)], [], []))
    assert (verdict.source, verdict.verdict) == ("unload", Verdict.CONFIRMED)


def test_the_unload_rule_is_not_silenced_by_an_older_object_at_the_same_address() -> None:
    """The listed one was there before; what the module left is another object."""
    scene = unloaded()
    judged = scene.judge([suspect(-100, A)], [])
    assert [(j.source, j.verdict) for j in judged] == [
        ("unload", Verdict.CONFIRMED),
        ("kmemleak", Verdict.DISMISSED),
    ]


# All of them


def test_the_confirmed_come_first_then_the_dismissed_each_largest_first() -> None:
    scene = Scene()
    for number, size in enumerate((64, 4096, 512)):
        scene.allocate(1.0, A + 8192 * number, size=size)
    scene.allocate(1.0, B)
    scene.free(30.0, B)
    listed = [suspect(1.0, A + 8192 * n, size=size) for n, size in enumerate((64, 4096, 512))]
    listed += [suspect(1.0, B), suspect(-100, A + (1 << 20))]
    judged = scene.judge(listed, listed)
    assert [(j.verdict, j.size) for j in judged] == [
        (Verdict.CONFIRMED, 4096),
        (Verdict.CONFIRMED, 512),
        (Verdict.CONFIRMED, 64),
        (Verdict.DISMISSED, 128),
        (Verdict.UNDECIDED, 128),
    ]


def test_the_newest_reading_describes_a_suspect() -> None:
    readings = [[suspect(1.0, A, comm="earlier")], [suspect(1.0, A, comm="later")]]
    assert only(leaked_at(1.0).judge(*readings)).comm == "later"


# Steps of one history: (units of 6 s since the step before, what, which of three addresses).
steps = st.lists(
    st.tuples(st.integers(1, 9), st.sampled_from(["allocate", "free", "lose", "unload"]), st.integers(0, 2)),
    max_size=25,
)


@given(steps, st.lists(st.tuples(st.integers(-5, 200), st.integers(0, 2)), max_size=4), st.data())
@pytest.mark.thorough
def test_whatever_happened_a_freed_object_and_one_with_loss_in_its_life_are_never_confirmed(
    history: list[tuple[int, str, int]], strangers: list[tuple[int, int]], data: st.DataObject
) -> None:
    """kmemleak may list anything, but for what it does not: an object whose address was given out again within 5 s."""
    scene, now = Scene(), 0
    alive: dict[int, int] = {}
    born: list[tuple[int, int]] = []
    gone: set[tuple[int, int]] = set()
    losses = []
    for wait, what, number in history:
        now += 6 * wait
        address = A + 4096 * number
        match what:
            case "allocate":
                if address in alive:
                    gone.add((address, alive[address]))  # its free is implied
                scene.allocate(now, address)
                alive[address] = now
                born.append((address, now))
            case "free":
                scene.free(now, address)
                if address in alive:
                    gone.add((address, alive.pop(address)))
            case "lose":
                scene.lose(now, now + wait)
                losses.append(now + wait)
            case "unload":
                scene.unload(now)
    scene.seconds = now + 10
    known = [*born, *((A + 4096 * number, 6 * at) for at, number in strangers)]
    listings = st.lists(st.sampled_from(known), unique=True) if known else st.just([])
    drawn = [data.draw(listings), data.draw(listings)]
    readings = [
        [suspect(at, address) for address, at in drawn[which]] for which in (0, 1, data.draw(st.integers(0, 1)))
    ]
    tracked = data.draw(st.sampled_from([None, lambda a, k: True, lambda a, k: None]))
    scene.watch(A)
    judged = scene.judge(*readings, tracked=tracked)

    ticks_of = {(address, jiffies_at(at)): at for address, at in born}
    listed = {(s.address, s.jiffies) for reading in readings for s in reading}
    # Each suspect is judged once; one no longer listed, of a module that is gone, by the unload.
    times = [(j, jiffies_at(round(scene.seconds - j.age_s))) for j in judged]
    assert sum(j.source == "kmemleak" or (j.address, at) in listed for j, at in times) == len(listed)
    for verdict in judged:
        if verdict.verdict is not Verdict.CONFIRMED:
            continue
        at = round(scene.seconds - verdict.age_s)
        assert (verdict.address, jiffies_at(at)) in ticks_of, "confirmed without its allocation having been seen"
        assert (verdict.address, at) not in gone
        assert not [end for end in losses if end >= at]
    alive_and_listed = listed & {(address, jiffies_at(at)) for address, at in alive.items()}
    confirmed = sum((j.source, j.verdict) == ("kmemleak", Verdict.CONFIRMED) for j in judged)
    assert confirmed <= len(alive_and_listed), "confirmed on the strength of another object at its address"


def test_an_event_is_never_as_late_as_the_steps_of_that_history_are_long() -> None:
    assert JIFFIES_TOLERANCE / HZ < LATE_S < 6
