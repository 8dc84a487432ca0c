# SPDX-License-Identifier: GPL-2.0-or-later
"""Build ids of a machine, read from files that stand for sysfs."""

from __future__ import annotations

from pathlib import Path

import pytest

from kleaktrace.edge.debug_info import build_ids
from kleaktrace.edge.debug_info.build_ids import BuildIdReader, loaded_build_ids, module_build_id


def note(build_id: bytes) -> bytes:
    return b"\x04\0\0\0" + len(build_id).to_bytes(4, "little") + b"\x03\0\0\0" + b"GNU\0" + build_id


def load(machine: Path, name: str, build_id: bytes) -> None:
    (machine / name / "notes").mkdir(parents=True, exist_ok=True)
    (machine / name / "notes" / ".note.gnu.build-id").write_bytes(note(build_id))


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    (tmp_path / "notes").write_bytes(note(b"k" * 20))
    monkeypatch.setattr(build_ids, "KERNEL_NOTES", tmp_path / "notes")
    monkeypatch.setattr(build_ids, "MODULES", tmp_path / "module")
    load(tmp_path / "module", "drv", b"d" * 20)
    (tmp_path / "module" / "built_in").mkdir()
    return tmp_path / "module"


def test_the_kernel_and_what_is_loaded(machine: Path) -> None:
    assert loaded_build_ids() == {"": "6b" * 20, "drv": "64" * 20}


def test_modules_that_come_are_read_and_the_last_build_holds(machine: Path) -> None:
    found: dict[str, str] = {}
    reader = BuildIdReader(found)
    load(machine, "late", b"1" * 20)
    reader.module_loaded("late")
    reader.module_loaded("never_there")
    reader.stop()
    reader.stop()
    assert found == {"": "6b" * 20, "drv": "64" * 20, "late": "31" * 20}
    reader = BuildIdReader(found)
    load(machine, "late", b"2" * 20)
    reader.module_loaded("late")
    reader.stop()
    assert found["late"] == "32" * 20


@pytest.mark.parametrize("name", ["", ".", "..", "../drv", "drv/../drv"])
def test_a_name_leads_nowhere(machine: Path, name: str) -> None:
    assert module_build_id(name) == ""


def test_where_there_is_nothing_nothing_is_known(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(build_ids, "KERNEL_NOTES", tmp_path / "none")
    monkeypatch.setattr(build_ids, "MODULES", tmp_path / "none")
    assert loaded_build_ids() == {}
