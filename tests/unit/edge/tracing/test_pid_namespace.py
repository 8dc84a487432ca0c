# SPDX-License-Identifier: GPL-2.0-or-later
"""Whose numbers of processes the programs are to see."""

from __future__ import annotations

from pathlib import Path

import pytest

from kleaktrace.edge.tracing import tracer


def test_a_kernel_without_pid_namespaces_has_only_the_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tracer, "PID_NAMESPACE", tmp_path / "missing")
    assert tracer._pid_namespace() == {}


def test_another_namespace_than_the_first_is_told_by_its_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "pid"
    file.touch()
    monkeypatch.setattr(tracer, "PID_NAMESPACE", file)
    assert tracer._pid_namespace()["PID_NAMESPACE"] == file.stat().st_ino
