# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from guest_lib import packages
from guest_lib.cache import locked


def missing_are(monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> None:
    """What is missing, each time that somebody asks."""
    left = list(answers)
    monkeypatch.setattr(packages, "missing_packages", lambda names: left.pop(0))


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    done: list[str] = []

    def install(wanted: Sequence[str], log: Path) -> None:
        done.extend(wanted)

    monkeypatch.setattr(packages, "cache_directory", lambda: tmp_path)
    monkeypatch.setattr(packages, "_install", install)
    return done


def test_where_all_is_there_nobody_waits(
    installed: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing_are(monkeypatch, [])
    with locked(tmp_path / "packages.lock"):
        packages.install(["gcc"])
    assert (installed, capsys.readouterr()) == ([], ("", ""))


def test_what_another_has_installed_meanwhile_is_not_installed_again(
    installed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    missing_are(monkeypatch, ["gcc", "make"], ["make"])
    packages.install(["gcc", "make"])
    assert installed == ["make"]
