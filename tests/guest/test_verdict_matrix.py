"""Every case of the lab in a booted kernel: no verdict is wrong, every kind of leak is found. `tools/lab` prints it."""

from __future__ import annotations

from pathlib import Path

import pytest
from verdict_matrix import Phase, run, show

pytestmark = pytest.mark.guest


@pytest.fixture(scope="module")
def phases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Phase]:
    directory: Path = tmp_path_factory.mktemp("matrix")
    found = run(directory)
    show(found)
    return {phase.name: phase for phase in found}


@pytest.mark.parametrize("name", ["loaded", "unloaded"])
def test_no_verdict_is_wrong(phases: dict[str, Phase], name: str) -> None:
    phase = phases[name]
    assert phase.lost == 0
    assert phase.outcome == "leaks"
    assert phase.wrong == []
    assert phase.undecided <= 0.02


def test_every_kind_of_leak_is_found_and_named(phases: dict[str, Phase]) -> None:
    assert phases["loaded"].kinds == 30
    assert phases["loaded"].missed == []
    assert phases["unloaded"].kinds == 32
    assert phases["unloaded"].missed == []


def test_stacks_are_those_that_kmemleak_took(phases: dict[str, Phase]) -> None:
    assert phases["loaded"].compared > 100
    assert phases["loaded"].unlike == []
