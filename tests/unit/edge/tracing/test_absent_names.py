# SPDX-License-Identifier: GPL-2.0-or-later
"""Filters that nothing can pass are told, not answered by an empty table."""

from __future__ import annotations

from pathlib import Path

import pytest

from kleaktrace.edge.tracing import absent_names as module
from kleaktrace.edge.tracing.absent_names import absent_names
from kleaktrace.edge.tracing.filters import Filters

SLABINFO = "slabinfo - version: 2.1\n# name <active_objs>\ndentry 10 20 : tunables 0 0 0\n"


@pytest.fixture
def proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(module, "PROC", tmp_path)
    (tmp_path / "modules").write_text("my_drv 16384 0 - Live 0x0000000000000000\n")
    (tmp_path / "slabinfo").write_text(SLABINFO)
    return tmp_path


def test_what_is_there_is_not_worth_a_word(proc: Path) -> None:
    assert list(absent_names(Filters())) == []
    assert list(absent_names(Filters(module="my-drv.ko", cache="dentry"))) == []


def test_what_is_not_there_is_told(proc: Path) -> None:
    (module_words, cache_words) = absent_names(Filters(module="other", cache="dentyr"))
    assert module_words == "the module other is not loaded: there is nothing to show until it is"
    assert cache_words.startswith("no slab cache is called dentyr now")


def test_a_kernel_without_modules_says_so(proc: Path) -> None:
    (proc / "modules").unlink()
    (words,) = absent_names(Filters(module="drv"))
    assert words == "this kernel has no loadable modules: nothing passes through drv"


def test_what_cannot_be_read_is_no_reason_to_complain(proc: Path) -> None:
    (proc / "slabinfo").unlink()
    assert list(absent_names(Filters(cache="dentry"))) == []
