# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

from pathlib import Path

import pytest
from junitparser import Failure, JUnitXml, Skipped
from readers import Written

pytestmark = pytest.mark.formats


def read(path: Path) -> dict[str, list[str]]:
    """What became of each case."""
    whole = JUnitXml.fromfile(str(path))
    (suite,) = whole
    cases = {f"{case.classname}: {case.name}": [type(result).__name__ for result in case.result] for case in suite}
    results = [result for case in suite for result in case.result]
    assert (suite.tests, whole.tests) == (len(cases), len(cases))
    assert suite.failures == sum(isinstance(result, Failure) for result in results)
    assert suite.skipped == sum(isinstance(result, Skipped) for result in results)
    assert {"kernel", "arch", "verdict"} <= {known.name for known in suite.properties()}
    return cases


def test_a_leak_fails(written: Written) -> None:
    assert read(written("everything", "junit")) == {
        "kleaktrace.recording: evidence": [],
        "kleaktrace.drv: leak: drv_probe, stack ab3001651563cb7b": ["Failure"],
        "kleaktrace.drv: leak: core_alloc, stack 2d5d53ed31d50519": ["Skipped"],
        "kleaktrace.kernel: growth: core_alloc, stack d80e7e1671a7018e": ["Skipped"],
        "kleaktrace.machine: memory: pages": ["Skipped"],
    }


def test_nothing_and_hostile_text(written: Written) -> None:
    assert read(written("nothing", "junit")) == {"kleaktrace.recording: evidence": []}
    assert sorted(read(written("hostile", "junit")).values()) == [["Failure"], ["Skipped"]]
