"""What grew all at once, while its module did anything."""

from __future__ import annotations

from builders import SECOND, START_NS, Scene, inside

from kleaktrace.core.growing_stacks import SameStacks, bursts, growth_evidence, module_activity

A, B = 0xFFFF888100010000, 0xFFFF888100900000
AT_LOAD = 1  # see Scene: below do_one_initcall
IN_USE = 9


def scene_with(births: int, *, stack: int = IN_USE, later: float | None = None) -> Scene:
    """The driver leaves so many objects within 0.4 s, and if so later allocates and frees once more."""
    scene = Scene()
    scene.names.stacks.add(IN_USE, [inside("__kmalloc_noprof"), inside("drv_work"), inside("kthread")])
    for number in range(births):
        scene.allocate(2 + 0.4 * number / births, A + 256 * number, stack=stack)
    if later is not None:
        scene.allocate(later, B, stack=2)
        scene.free(later + 0.001, B)
    return scene


def found(scene: Scene) -> list[int]:
    same = SameStacks(scene.names.stacks.get)
    evidence = growth_evidence(scene.ledger, same, START_NS, START_NS + 60 * SECOND)
    return [one.stack for one in bursts(evidence, scene.ledger, scene.names, START_NS + 30 * SECOND)]


def test_what_grew_to_the_end_of_its_module_s_activity_may_not_have_levelled_off() -> None:
    assert found(scene_with(60)) == [IN_USE]


def test_what_stopped_while_its_module_went_on_has() -> None:
    assert found(scene_with(60, later=20)) == []


def test_what_a_module_sets_up_when_it_is_loaded_is_no_burst() -> None:
    assert found(scene_with(60, stack=AT_LOAD)) == []


def test_a_few_objects_are_no_burst() -> None:
    assert found(scene_with(7)) == []


def test_activity_is_known_by_what_is_outstanding_and_by_samples_of_what_was_freed() -> None:
    scene = scene_with(10, later=20)
    assert module_activity(scene.ledger, scene.names) == {"drv": (START_NS + 2 * SECOND, START_NS + 20 * SECOND)}
