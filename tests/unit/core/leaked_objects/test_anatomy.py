# SPDX-License-Identifier: GPL-2.0-or-later
"""What leaked objects are, from the verdicts to the words."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from builders import SECOND, START_NS, Scene, inside, suspect

from kleaktrace.core.events.records import Kind, hide
from kleaktrace.core.evidence.evidence import JudgedSuspect, SuspectSource, Verdict
from kleaktrace.core.evidence.rounds import repeated
from kleaktrace.core.leaked_objects.anatomy import Anatomy, anatomy, leaked_rows, overwritten_words, referenced_rows
from kleaktrace.core.leaked_objects.leaks import Leak, leaks, stack_key
from kleaktrace.core.symbols.kernel_names import CacheName

A, B = 0xFFFF888100010000, 0xFFFF888100020000
WORK = inside("drv_work", 0)


def confirmed_in(scene: Scene) -> list[JudgedSuspect]:
    edges = [START_NS + number * SECOND for number in range(1, 12)]
    return [one for one in scene.judge(series=[repeated(edges[:-1], edges[-1])]) if one.verdict is Verdict.CONFIRMED]


def devices_with_names() -> Scene:
    """Each round leaves a device, by the driver, and its name, by core code."""
    scene = Scene()
    for number in range(10):
        scene.allocate(1.2 + number, A + 1024 * number, size=64, bytes_alloc=64, stack=2)
        scene.allocate(1.3 + number, B + 1024 * number, size=256, bytes_alloc=256, stack=1)
    return scene


def looked_into(scene: Scene, words: Sequence[np.ndarray] | None = None) -> tuple[Anatomy, list[Leak]]:
    suspects = confirmed_in(scene)
    rows = leaked_rows(scene.ledger, suspects, scene.names)
    if words is None:
        words = [np.full(int(size) // 8, hide(0), np.uint64) for size in rows["bytes_req"]]
        for of, row in zip(words, rows, strict=True):
            if row["bytes_req"] == 256:  # its own name, and a function
                of[3] = np.uint64(hide(hide(int(row["object"])) - B + A))
                of[5] = np.uint64(hide(WORK))
    found = anatomy(rows, words, scene.names, scene.names.symbols.function_at, lambda *_: "")
    return found, leaks(suspects, found)


def test_what_hangs_on_a_leak_is_told_with_it_and_comes_after_it() -> None:
    _, (device, name) = looked_into(devices_with_names())
    assert (device.module, device.function, device.requester) == ("drv", "drv_probe", "drv_probe")
    assert device.cause is not None
    assert (device.objects, device.bytes, device.bytes_with_held, device.hangs_on) == (10, 2560, 3200, "")
    assert device.bytes_per_round == 320
    assert (name.requester, name.function, name.cause, name.hangs_on) == ("core_alloc", "drv_probe", None, "drv_probe")


def test_nothing_hangs_on_what_a_module_left_before_it_was_allocated() -> None:
    """As a device that leaked points to what has gone: the memory was used again for other things."""
    scene = devices_with_names()
    scene.unload(20.0)
    _, listed = looked_into(scene)
    assert [leak.hangs_on for leak in listed] == ["", "drv_probe"]
    scene = Scene()
    for number in range(10):
        scene.allocate(1.3 + number, B + 1024 * number, size=256, bytes_alloc=256, stack=1)
        scene.unload(1.4 + number)
        scene.allocate(1.5 + number, A + 1024 * number, size=64, bytes_alloc=64, stack=2)
    _, listed = looked_into(scene)
    assert [leak.hangs_on for leak in listed] == ["", ""]


def test_referenced_is_what_kmemleak_lists_nothing_of() -> None:
    scene = devices_with_names()
    suspects = confirmed_in(scene)
    rows = leaked_rows(scene.ledger, suspects, scene.names)
    names = rows["stack"] == 2
    one = next(s for s in suspects if s.bytes_req == 256)
    listed = [s._replace(source=SuspectSource.KMEMLEAK) if s is one else s for s in suspects]
    assert referenced_rows(rows, suspects).all()
    assert referenced_rows(rows, listed).tolist() == names.tolist()
    rows["kind"][names] = Kind.PERCPU
    assert not referenced_rows(rows, listed).any()


def test_functions_in_the_objects_are_named() -> None:
    found, (device, _) = looked_into(devices_with_names())
    assert device.notes == ("points to drv_work (byte 40) (all 8 looked at)",)
    assert found.notes_on(("nowhere",)) == ()


def test_what_could_not_be_read_hangs_on_nothing() -> None:
    scene = devices_with_names()
    found, listed = looked_into(scene, [np.zeros(0, np.uint64)] * 20)
    assert [leak.hangs_on for leak in listed] == ["", ""]
    assert found.notes == ()


def test_entries_of_one_list_are_equals_whoever_called_for_them() -> None:
    """One in four was asked for on another way to the same place."""
    scene = Scene()
    scene.names.stacks.add(9, [inside("__kmalloc_noprof"), inside("drv_probe"), inside("kthread")])
    for number in range(8):
        scene.allocate(1.0 + number, B + 256 * number, size=256, bytes_alloc=256, stack=1 if number % 4 else 9)
    scene.unload(30.0)
    suspects = scene.judge(tracked=lambda *_: True)
    rows = leaked_rows(scene.ledger, suspects, scene.names)
    words = [np.full(32, hide(0), np.uint64) for _ in rows]
    for of, row in zip(words, rows, strict=True):
        place = hide(int(row["object"])) - B
        of[0] = np.uint64(hide(B + (place + 256) % 2048))
    found = anatomy(rows, words, scene.names, scene.names.symbols.function_at, lambda *_: "")
    assert sorted((leak.objects, leak.hangs_on) for leak in leaks(suspects, found)) == [(2, ""), (6, "")]


def test_index_nodes_are_not_looked_into() -> None:
    scene = Scene()
    scene.names.caches[77] = CacheName(77, "radix_tree_node", 576, 576)
    scene.allocate(1.0, A, kind=Kind.CACHE, cache=77)
    scene.unload(2.0)
    suspects = scene.judge(tracked=lambda *_: True)
    assert [one.verdict for one in suspects] == [Verdict.CONFIRMED]  # the driver's own
    assert leaked_rows(scene.ledger, suspects, scene.names).size == 0


def test_heads_of_skbs_are_looked_into() -> None:
    """Kept on purpose they are as long as nobody needs them; one that has leaked points to its data."""
    scene = Scene()
    scene.names.caches[77] = CacheName(77, "skbuff_head_cache", 232, 256)
    scene.allocate(1.0, A, kind=Kind.CACHE, cache=77)
    suspects = scene.judge([suspect(1.0, A)], [suspect(1.0, A)])
    assert [one.verdict for one in suspects] == [Verdict.CONFIRMED]
    assert leaked_rows(scene.ledger, suspects, scene.names).size == 1


def test_a_slab_cache_may_be_called_percpu() -> None:
    scene = Scene()
    scene.names.caches[77] = CacheName(77, "percpu", 128, 128)
    scene.allocate(1.0, A, kind=Kind.CACHE, cache=77)
    scene.allocate(1.1, B, kind=Kind.PERCPU)
    scene.unload(2.0)
    suspects = scene.judge(tracked=lambda *_: True)
    assert {(one.cache, one.percpu) for one in suspects} == {("percpu", False), ("percpu", True)}
    rows = leaked_rows(scene.ledger, [one._replace(verdict=Verdict.CONFIRMED) for one in suspects], scene.names)
    assert rows["kind"].tolist() == [Kind.CACHE, Kind.PERCPU]


def test_an_overwritten_pointer_is_told_by_what_is_freed() -> None:
    scene = Scene()
    for number in range(10):
        for part in range(4):
            scene.allocate(1.1 + number + part / 10, A + 4096 * number + 128 * part)
        scene.free(1.8 + number, A + 4096 * number + 128 * 3)
    series = [repeated([START_NS + number * SECOND for number in range(1, 11)], START_NS + 11 * SECOND)]
    told = overwritten_words(scene.ledger, series, START_NS, START_NS + 60 * SECOND)
    assert told(1, scene.ledger.outstanding([1])).startswith(
        "only the youngest of each 4 is ever freed (in 10 of 10 rounds)"
    )
    assert told(2, scene.ledger.outstanding([2])) == ""


def test_a_stack_s_key_knows_functions_and_modules_and_no_addresses() -> None:
    assert stack_key(["f+0x1/0x2 [drv]", "0xffffffff81000000"]) == stack_key(["f+0x1/0x9 [drv]", "0xffffffff82000000"])
    assert stack_key(["f+0x1/0x2 [drv]"]) != stack_key(["f+0x1/0x2 [other]"])
    assert stack_key(["f+0x1/0x2 [drv]"]) != stack_key(["f+0x3/0x2 [drv]"])
