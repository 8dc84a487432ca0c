# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import pytest
from readers import Written, exposition

pytestmark = pytest.mark.formats


def test_types_units_and_values(written: Written) -> None:
    families = exposition(written("everything", "openmetrics").read_text())
    kinds = {name.removeprefix("kleaktrace_"): (family.type, family.unit) for name, family in families.items()}
    assert kinds["recording"] == ("info", "")
    assert kinds["allocations"] == ("counter", "")
    assert kinds["allocated_bytes"] == ("counter", "bytes")
    assert kinds["outstanding_objects"] == ("gauge", "objects")
    assert kinds["verdict"] == ("stateset", "")
    assert kinds["growth_bytes_per_second"] == ("gauge", "bytes_per_second")
    assert all(family.documentation for family in families.values())
    (allocated,) = families["kleaktrace_allocated_bytes"].samples
    assert (allocated.name, allocated.value) == ("kleaktrace_allocated_bytes_total", 13440)
    verdict = families["kleaktrace_verdict"].samples
    assert [sample.labels["kleaktrace_verdict"] for sample in verdict if sample.value] == ["leaks"]
    assert {
        sample.labels["function"]: sample.value for sample in families["kleaktrace_stack_outstanding_bytes"].samples
    }["drv_probe"] == 256


@pytest.mark.parametrize("recording", ["nothing", "with_losses", "huge"])
def test_what_is_empty_and_what_is_huge(written: Written, recording: str) -> None:
    assert "kleaktrace_window_seconds" in exposition(written(recording, "openmetrics").read_text())


def test_hostile_names_come_out_as_they_went_in(written: Written) -> None:
    families = exposition(written("hostile", "openmetrics").read_text())
    (sample,) = families["kleaktrace_stack_outstanding_bytes"].samples
    assert sample.labels["module"] == 'm]"\\x1b<'
    assert sample.value == 128
