# SPDX-License-Identifier: GPL-2.0-or-later
"""What grew all at once, while its module did anything."""

from __future__ import annotations

import math

from builders import SECOND, START_NS, Scene, inside

from kleaktrace.core.growth.growing_stacks import StackDeduplicator, bursts, growth_evidence, module_births

A, B = 0xFFFF888100010000, 0xFFFF888100900000
AT_LOAD = 1  # see Scene: below do_one_initcall
IN_USE = 9


def in_use() -> Scene:
    scene = Scene()
    scene.names.stacks.add(IN_USE, [inside("__kmalloc_noprof"), inside("drv_work"), inside("kthread")])
    return scene


def scene_with(births: int, *, stack: int = IN_USE, later: float | None = None) -> Scene:
    """The driver leaves so many objects within 0.4 s, and if so later allocates and frees once more."""
    scene = in_use()
    for number in range(births):
        scene.allocate(2 + 0.4 * number / births, A + 256 * number, stack=stack)
    if later is not None:
        scene.allocate(later, B, stack=2)
        scene.free(later + 0.001, B)
    return scene


COMMAND = (START_NS, START_NS + 30 * SECOND)


def found(scene: Scene, *windows: tuple[int, int]) -> list[int]:
    same = StackDeduplicator(scene.names.stacks.get)
    evidence = growth_evidence(scene.ledger, same, START_NS, START_NS + 60 * SECOND)
    births = module_births(scene.ledger, scene.names)
    return [one.stack for one in bursts(evidence, births, scene.names, same, windows or (COMMAND,))]


def test_what_grew_to_the_end_of_its_module_s_activity_may_not_have_levelled_off() -> None:
    assert found(scene_with(60)) == [IN_USE]


def test_what_stopped_while_its_module_went_on_has() -> None:
    assert found(scene_with(60, later=20)) == []


def test_what_a_module_sets_up_when_it_is_loaded_is_no_burst() -> None:
    assert found(scene_with(60, stack=AT_LOAD)) == []


def test_a_few_objects_are_no_burst() -> None:
    assert found(scene_with(7)) == []


def test_a_burst_between_two_marks_is_one_though_its_module_goes_on_with_other_things() -> None:
    between_marks = (START_NS + SECOND, START_NS + 10 * SECOND)
    assert found(scene_with(60, later=20), COMMAND, between_marks) == [IN_USE]


def test_a_burst_may_have_pauses_in_which_others_had_their_turn() -> None:
    scene = in_use()
    for number in range(60):
        pauses = 0.3 * (number > 3) + 0.2 * (number > 10) + 0.5 * (number > 45) + 2 * (number > 50)
        scene.allocate(2 + 0.005 * number + pauses, A + 256 * number, stack=IN_USE)
    assert found(scene) == [IN_USE]


def test_what_comes_ever_more_seldom_is_no_burst() -> None:
    scene = in_use()
    for number in range(60):
        scene.allocate(2 - 0.1 * math.log(1 - number / 60), A + 256 * number, stack=IN_USE)
    assert found(scene) == []


def test_what_did_not_grow_when_it_was_asked_for_again_is_no_burst() -> None:
    scene = scene_with(60)
    scene.allocate(20, B, stack=IN_USE)
    scene.free(20.001, B)
    assert found(scene, COMMAND, (START_NS + SECOND, START_NS + 10 * SECOND)) == []


def test_activity_is_known_by_what_is_outstanding_and_by_samples_of_what_was_freed() -> None:
    scene = scene_with(10, later=20)
    births = module_births(scene.ledger, scene.names)
    active = births.within("drv", *COMMAND)
    assert (active.size, active[0], active[-1]) == (11, START_NS + 2 * SECOND, START_NS + 20 * SECOND)
    assert births.within("drv", START_NS + 10 * SECOND, START_NS + 11 * SECOND).size == 0
