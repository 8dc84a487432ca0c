# SPDX-License-Identifier: GPL-2.0-or-later
"""The cases, and both formats that tell them."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import replace

from builders import Scene
from exported import A, B, everything, exported, hostile, nothing, recording, with_losses
from reports import growing_stack, judged, report

from kleaktrace.core.evidence.evidence import Verdict
from kleaktrace.views.exports import junit, ktap
from kleaktrace.views.exports.cases import Result, cases

LEAK = "leak: drv_probe, stack ab3001651563cb7b"


def test_a_leak_fails_and_what_nobody_can_decide_is_skipped() -> None:
    found = cases(exported(everything()).report)
    assert [(case.area, case.name.partition(",")[0], case.result) for case in found] == [
        ("recording", "evidence", Result.PASSED),
        ("drv", "leak: drv_probe", Result.FAILED),
        ("drv", "leak: core_alloc", Result.SKIPPED),
        ("kernel", "growth: core_alloc", Result.SKIPPED),
        ("machine", "memory: pages", Result.SKIPPED),
    ]
    leak = found[1]
    assert leak.name == LEAK
    assert leak.reason == "confirmed, 2 objects, 256 B: not freed, and nothing has pointed to it in 2 scans"
    assert "  drv_probe+0x22/0x100 [drv]" in leak.evidence
    assert "same call stack: 1 of 3 freed, 1 at core_free+0x22/0x1000" in leak.evidence


def test_the_worst_of_the_suspects_of_a_stack_decides() -> None:
    dismissed, undecided = judged(verdict=Verdict.DISMISSED), judged(verdict=Verdict.UNDECIDED)
    on_purpose = judged(verdict=Verdict.UNDECIDED, counts_against_clean=False)

    def result(*suspects: object) -> Result:
        _, case = cases(report(suspects=suspects))
        return case.result

    assert result(dismissed) is Result.PASSED
    assert result(dismissed, on_purpose) is Result.PASSED
    assert result(dismissed, undecided) is Result.SKIPPED
    assert result(dismissed, undecided, judged()) is Result.FAILED


def test_an_incomplete_recording_passes_nothing_off_as_clean() -> None:
    (case,) = cases(exported(with_losses()).report)
    assert case.result is Result.SKIPPED
    assert "7 events were lost" in case.reason
    assert "ok 1 kleaktrace # SKIP\n" in ktap.export(exported(with_losses()))


def test_a_clean_recording() -> None:
    assert [case.result for case in cases(exported(nothing()).report)] == [Result.PASSED]
    assert ktap.export(exported(nothing())).endswith("  ok 1 recording: evidence\nok 1 kleaktrace\n")


def test_what_keeps_growing_is_skipped_with_its_figures() -> None:
    _, case = cases(report(growing=(growing_stack(),)))
    assert case.result is Result.SKIPPED
    assert "growing by 1229 bytes/s, 95 % between 1126 and 1331" in case.evidence


def test_the_names_are_the_same_in_another_boot() -> None:
    moved = [frame.replace("0x100 [", "0x140 [") for frame in judged().stack]  # another build, of another size
    first, second = cases(report(suspects=[judged()])), cases(report(suspects=[judged(stack=tuple(moved), pid=7)]))
    assert [case.name for case in first] == [case.name for case in second]


def test_ktap_in_full() -> None:
    scene = Scene()
    scene.allocate(1, A)
    scene.allocate(2, B, stack=2)
    scene.free(3, B)
    material = exported(recording(scene))
    two = replace(material.report, suspects=[judged(), judged(verdict=Verdict.DISMISSED, stack=("f+0x1/0x2",))])
    assert (
        ktap.export(replace(material, report=two))
        == """\
KTAP version 1
1..1
  KTAP version 1
  # Subtest: kleaktrace
  1..3
  #  kernel 6.12.0 x86_64, traced for 60.0 s
  #  2 allocations, 1 free, 1 outstanding (128 B)
  #  0 events lost
  #  verdict: clean
  ok 1 recording: evidence
  #  confirmed: 1 object, 128 B from kmalloc-128, by kmemleak
  #    not freed, and nothing has pointed to it in 3 scans
  #    task insmod (pid 42), 21.5 s ago
  #  same call stack: 0 of 1 freed
  #    drv_probe+0x22/0x100 [drv]
  #    do_one_initcall+0x22/0x1000
  not ok 2 drv: leak: drv_probe, stack ab3001651563cb7b # confirmed, 1 object, 128 B: not freed, and nothing has \
pointed to it in 3 scans
  #  dismissed: 1 object, 128 B from kmalloc-128, by kmemleak
  #    not freed, and nothing has pointed to it in 3 scans
  #    task insmod (pid 42), 21.5 s ago
  #  same call stack: 0 of 1 freed
  #    f+0x1/0x2
  ok 3 kernel: leak: f, stack d4c5d30ae8938ebc # dismissed, 1 object, 128 B: not freed, and nothing has pointed to \
it in 3 scans
not ok 1 kleaktrace
"""
    )


def test_hostile_text_forges_no_result() -> None:
    text = ktap.export(exported(hostile()))
    assert text.replace("\n", "").isprintable()
    results = [line for line in text.splitlines() if line.lstrip().startswith(("ok", "not ok"))]
    assert [line.split()[:3] for line in results] == [
        ["ok", "1", "recording:"],
        ["not", "ok", "2"],
        ["not", "ok", "1"],
    ]
    assert all(line.partition(" # ")[0].count("#") == 0 for line in results)


def test_junit_in_full() -> None:
    suite = ET.fromstring(junit.export(exported(everything())))[0]
    assert suite.attrib == {
        "name": "kleaktrace",
        "timestamp": "2026-01-01T00:00:00",
        "tests": "5",
        "failures": "1",
        "errors": "0",
        "skipped": "3",
        "time": "60.000",
    }
    by_name = {case.get("name"): case for case in suite.iter("testcase")}
    failed = by_name[LEAK]
    assert failed.get("classname") == "kleaktrace.drv"
    assert "nothing has pointed to it" in (failed[0].get("message") or "")
    assert "drv_probe+0x22/0x100 [drv]" in (failed[0].text or "")
    assert [child.tag for child in by_name["memory: pages"]] == ["skipped"]


def test_junit_takes_hostile_text() -> None:
    suite = ET.fromstring(junit.export(exported(hostile())))[0]
    (_, leak) = suite.iter("testcase")
    assert leak.get("classname") == 'kleaktrace.m]"\\x1b<'
    assert '\\x1b]0;x\\x07<&"\\n#;' in (leak[0].text or "")
