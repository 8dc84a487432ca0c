# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import pytest
from builders import SECOND, START_NS, Scene
from recordings import HEAP, one_leak, scene_recording

from kleaktrace.core.growth.level_history import LevelHistory
from kleaktrace.core.overview.stack_details import stack_details


def test_a_leak_that_one_in_six_is() -> None:
    recording, _ = one_leak()
    details = stack_details(recording, [(1,), (3,)])
    curve = details.curves[0]
    # 5 of 6 were freed after half a second; the bin ends at 0.536 s.
    assert curve.ages_s.tolist() == [pytest.approx(0.5369, abs=1e-3)]
    assert curve.shares.tolist() == [pytest.approx(1 / 6)]
    assert 60 <= curve.followed_s < 75
    assert details.curves[1].shares.size == 0
    assert details.free_sites == [[("drv_free+0x22/0xe00 [drv]", 5)], []]


def test_levels_over_time_of_one_and_of_all() -> None:
    recording, _ = one_leak()
    details = stack_details(recording, [(1,)])
    assert details.times_s.tolist() == list(range(12))
    assert details.levels.tolist() == [[0.0, *[128.0] * 11]]
    assert details.all_levels.tolist() == [0.0, *[128.0] * 11]


def test_keys_of_one_stack_count_together() -> None:
    scene, history = Scene(), LevelHistory()
    for key in (1, 2, 3):
        scene.allocate(key, HEAP + key * 0x1000, stack=key)
    scene.free(4, HEAP + 0x1000, "drv_free")
    scene.free(4, HEAP + 0x2000, "drv_free")
    history.sample(START_NS + 5 * SECOND, scene.ledger.snapshot())
    details = stack_details(scene_recording(scene, history=history), [(1, 3), (2,)])
    assert details.levels.tolist() == [[128.0], [0.0]]
    assert details.free_sites == [[("drv_free+0x22/0xe00 [drv]", 1)]] * 2
    assert [curve.shares.tolist() for curve in details.curves] == [[0.5], [0.0]]


def test_of_no_stack_there_is_nothing() -> None:
    details = stack_details(scene_recording(Scene()), [])
    assert (list(details.curves), list(details.free_sites), details.levels.shape) == ([], [], (0, 0))
