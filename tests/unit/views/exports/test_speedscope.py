# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import json
from typing import Any

from builders import Scene
from exported import A, everything, exported, hostile, huge, nothing, recording

from kleaktrace.views.exports.speedscope import export


def stacks(document: dict[str, Any], profile: int) -> dict[tuple[str, ...], int]:
    frames, chosen = document["shared"]["frames"], document["profiles"][profile]
    names = [tuple(frames[place]["name"] for place in sample) for sample in chosen["samples"]]
    return dict(zip(names, chosen["weights"], strict=True))


def test_samples_begin_at_the_root_and_weigh_bytes() -> None:
    document = json.loads(export(exported(everything())))
    assert stacks(document, 0) == {
        ("kthread", "core_alloc"): 7680,
        ("(no stack could be taken)",): 5056,
        ("do_one_initcall", "drv_probe [drv]"): 256,
        ("do_one_initcall", "drv_probe [drv]", "core_alloc"): 128,
    }
    assert stacks(document, 1)["do_one_initcall", "drv_probe [drv]"] == 576
    assert [(p["name"], p["unit"], p["endValue"]) for p in document["profiles"]] == [
        ("outstanding", "bytes", 13120),
        ("allocated", "bytes", 13440),
    ]


def test_a_frame_is_there_once_and_tells_its_module() -> None:
    frames = json.loads(export(exported(everything())))["shared"]["frames"]
    assert {"name": "drv_probe [drv]", "file": "[drv]"} in frames
    assert {"name": "kthread", "file": "[kernel.kallsyms]"} in frames
    assert len({json.dumps(frame) for frame in frames}) == len(frames) == 5


def test_an_empty_recording_has_empty_profiles() -> None:
    document = json.loads(export(exported(nothing())))
    assert document["shared"]["frames"] == []
    assert [(p["samples"], p["weights"], p["endValue"]) for p in document["profiles"]] == [([], [], 0)] * 2


def test_hostile_names_and_large_numbers() -> None:
    text = export(exported(hostile()))
    assert text[:-1].isprintable()
    assert text.isascii()
    assert sum(json.loads(export(exported(huge())))["profiles"][1]["weights"]) == (1 << 63) + 5


def test_what_was_freed_is_in_the_second_profile_only() -> None:
    scene = Scene()
    scene.allocate(1, A)
    scene.free(2, A)
    document = json.loads(export(exported(recording(scene))))
    assert [stacks(document, profile) for profile in (0, 1)] == [{}, {("do_one_initcall", "drv_probe [drv]"): 128}]
