# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import numpy as np
import pytest

from kleaktrace.core.symbols import unnamed_keys
from kleaktrace.core.symbols.unnamed_keys import UnnamedKeys


def keys(*values: int) -> np.ndarray:
    return np.array(values, np.uint64)


def test_what_gets_its_name_later_was_not_lost() -> None:
    named = {1: "a"}
    nameless = UnnamedKeys(named)
    nameless.note(keys(0, 1, 2, 2, 3, 2**64 - 1))
    assert nameless.count() == 3
    named |= {3: "c", 2: "b"}
    assert nameless.count() == 1
    nameless.note(keys())
    nameless.note(keys(2, 4))
    assert nameless.count() == 2


def test_not_more_are_remembered_than_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unnamed_keys, "MOST", 10)
    nameless = UnnamedKeys(())
    for first in range(1, 100, 3):
        nameless.note(keys(first, first + 1, first + 2))
    assert nameless.count() == 10
