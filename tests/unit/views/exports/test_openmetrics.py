# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

from dataclasses import replace

from builders import DRIVER, Scene, inside, module_image
from exported import A, everything, exported, hostile, huge, nothing, recording

from kleaktrace.core.report import Kernel
from kleaktrace.views.exports.openmetrics import MOST_STACKS, export

LONG = DRIVER + 0x20000


def samples(text: str) -> dict[str, str]:
    return dict(line.rpartition(" ")[::2] for line in text.splitlines() if not line.startswith("#"))


def test_counters_gauges_and_states() -> None:
    told = samples(export(exported(everything())))
    assert told["kleaktrace_allocations_total"] == "65"
    assert told["kleaktrace_allocated_bytes_total"] == "13440"
    assert told["kleaktrace_outstanding_bytes"] == "13120"
    assert told["kleaktrace_start_time_seconds"] == "1767225600.0"
    assert told['kleaktrace_verdict{kleaktrace_verdict="leaks"}'] == "1"
    assert told['kleaktrace_verdict{kleaktrace_verdict="clean"}'] == "0"
    assert told['kleaktrace_suspect_bytes{source="kmemleak",verdict="confirmed"}'] == "256"
    assert told["kleaktrace_growing_stacks"] == "1"


def test_it_ends_with_the_end() -> None:
    for made in (everything(), nothing(), hostile(), huge()):
        text = export(exported(made))
        assert text.endswith("\n# EOF\n")
        assert [line for line in text.splitlines() if line.startswith("# EOF")] == ["# EOF"]


def test_hostile_label_values_are_escaped() -> None:
    made = replace(hostile(), kernel=Kernel('6.12"\\\n# EOF', "x"))
    text = export(exported(made))
    assert 'kernel="6.12\\"\\\\\\\\n# EOF"' in text
    (line,) = [line for line in text.splitlines() if line.startswith("kleaktrace_stack_outstanding_bytes{")]
    assert 'module="m]\\"\\\\x1b<"' in line
    assert line.endswith('verdict="confirmed"} 128')


def many_stacks(count: int) -> Scene:
    scene = Scene()
    for number in range(count):
        scene.names.stacks.add(100 + number, [inside("core_alloc", 1 + number), inside("kthread")])
        scene.allocate(1, A + 4096 * number, stack=100 + number, bytes_alloc=64 * (number + 1))
    return scene


def test_the_number_of_series_is_bounded_and_nothing_is_left_out() -> None:
    for count in (MOST_STACKS - 1, MOST_STACKS, MOST_STACKS + 30):
        told = samples(export(exported(recording(many_stacks(count)))))
        series = {name: int(value) for name, value in told.items() if "_stack_outstanding_bytes{" in name}
        assert len(series) == min(count, MOST_STACKS + 1)
        assert sum(series.values()) == int(told["kleaktrace_outstanding_bytes"])
        assert any('function="(others)"' in name for name in series) == (count > MOST_STACKS)


def test_a_label_value_is_bounded() -> None:
    scene = Scene()
    scene.names.symbols.module_loaded(module_image("m" * 5000, LONG, {"f" * 5000: 0}, key=0xFFFFFFFFC0500000))
    scene.names.stacks.add(9, [LONG + 0x22])
    scene.allocate(1, A, stack=9)
    line = next(line for line in export(exported(recording(scene))).splitlines() if "_stack_outstanding_bytes{" in line)
    assert len(line) < 500
