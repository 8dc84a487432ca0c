# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import pytest
from readers import Written, kunit

pytestmark = pytest.mark.formats


def test_a_leak_fails(written: Written) -> None:
    assert kunit(written("everything", "ktap")) == (
        1,
        {
            "recording: evidence": "PASS",
            "drv: leak: drv_probe, stack ab3001651563cb7b": "FAIL",
            "drv: leak: core_alloc, stack 2d5d53ed31d50519": "SKIP",
            "kernel: growth: core_alloc, stack d80e7e1671a7018e": "SKIP",
            "machine: memory: pages": "SKIP",
        },
    )


def test_a_clean_recording_passes(written: Written) -> None:
    assert kunit(written("nothing", "ktap")) == (0, {"recording: evidence": "PASS"})


def test_an_incomplete_one_is_skipped(written: Written) -> None:
    # Where nothing at all was tested, kunit.py says so with its exit status.
    assert kunit(written("with_losses", "ktap")) == (1, {"recording: evidence": "SKIP"})


def test_hostile_text_forges_no_case(written: Written) -> None:
    status, cases = kunit(written("hostile", "ktap"))
    assert (status, sorted(cases.values())) == (1, ["FAIL", "SKIP"])
