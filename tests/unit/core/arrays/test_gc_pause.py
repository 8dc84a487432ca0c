# SPDX-License-Identifier: GPL-2.0-or-later
"""The search for garbage pauses, and goes on as it was."""

from __future__ import annotations

import gc

import pytest

from kleaktrace.core.arrays.gc_pause import kept_uncollected


def test_no_search_inside_and_again_after() -> None:
    assert gc.isenabled()
    with kept_uncollected():
        assert not gc.isenabled()
        with kept_uncollected():
            pass
        assert not gc.isenabled()
    assert gc.isenabled()


def test_it_goes_on_after_an_error() -> None:
    with pytest.raises(ValueError, match="bad"), kept_uncollected():
        raise ValueError("bad")
    assert gc.isenabled()
