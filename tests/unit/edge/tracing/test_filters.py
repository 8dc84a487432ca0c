# SPDX-License-Identifier: GPL-2.0-or-later
"""Filters become constants in C code: what no kernel name can be is refused, and whatever is left compares exactly."""

from __future__ import annotations

import re
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kleaktrace.edge.tracing.filters import Filters
from kleaktrace.errors import UsageError

NUMBERS_ONLY = re.compile(r"\((&&|\(\(words\)\[\d+\]&0x[0-9a-f]+ULL\)==0x[0-9a-f]+ULL)+\)")


def matches(expression: object, name: bytes) -> bool:
    """Evaluate the C expression on a name as the kernel holds it: NUL-ended, with anything behind."""
    assert isinstance(expression, str)
    assert NUMBERS_ONLY.fullmatch(expression), "nothing of the user's text may get into the C code"
    memory = (name + b"\0").ljust(80, b"\xa5")
    python = expression.replace("ULL", "").replace("&&", " and ").replace("(words)", "words")
    words = np.frombuffer(memory, np.uint64).tolist()
    return bool(eval(python, {"words": words}))


@pytest.mark.parametrize("option", ["module", "cache"])
@pytest.mark.parametrize("name", ["", "evil\n", "a\nb", 'a"b', "a\\b", "a;b", "a\x1b[2J", "é", "a" * 64, "a,b"])
def test_names_that_no_module_or_cache_has_are_refused(option: str, name: str) -> None:
    with pytest.raises(UsageError, match="is not a name the kernel could have") as refused:
        Filters(**{option: name})  # type: ignore[arg-type]
    assert f"--{option}" in refused.value.what
    assert refused.value.fix


@pytest.mark.parametrize(
    "name", ["kmalloc-192", ":A-0000192", "ext4_inode_cache", "fat (x)", "a" * 63, "dma-kmalloc-8k", "x/y@z#1+2"]
)
def test_names_that_caches_have_are_taken(name: str) -> None:
    assert matches(Filters(cache=name).macros()["FILTER_CACHE(words)"], name.encode())


@pytest.mark.parametrize(("given_name", "name"), [("my-drv", "my_drv"), ("my-drv.ko", "my_drv"), ("drv", "drv")])
def test_a_module_goes_by_the_name_the_kernel_has_for_it(given_name: str, name: str) -> None:
    assert Filters(module=given_name).module == name
    assert matches(Filters(module=given_name).macros()["FILTER_MODULE(words)"], name.encode())


@given(st.binary(max_size=20).filter(lambda b: b"\0" not in b), st.binary(max_size=15).filter(lambda b: b"\0" not in b))
def test_a_comm_of_any_bytes_matches_itself_cut_as_the_kernel_cuts_it_and_nothing_else(
    wanted: bytes, other: bytes
) -> None:
    expression = Filters(comm=wanted.decode(sys.getfilesystemencoding(), "surrogateescape")).macros()[
        "FILTER_COMM(words)"
    ]
    assert matches(expression, wanted[:15])
    assert matches(expression, other) is (other == wanted[:15])
    if 0 < len(wanted) < 15:
        assert not matches(expression, wanted + b"x")
        assert not matches(expression, wanted[:-1])


@pytest.mark.parametrize(
    ("cache", "size"),
    [
        ("kmalloc-192", 192),
        ("kmalloc-8k", 8192),
        ("kmalloc-dma-64", 64),
        ("kmalloc-rcl-1k", 1024),
        ("kmalloc-cg-2k", 2048),
        ("kmalloc-rnd-07-96", 96),
        ("kmalloc-large", 0),
        ("my-kmalloc-64", 0),
        ("dentry", 0),
    ],
)
def test_a_kmalloc_cache_is_known_by_its_size_since_the_event_does_not_name_it(cache: str, size: int) -> None:
    assert Filters(cache=cache).macros()["FILTER_KMALLOC_SIZE"] == size


def test_sizes_the_wrong_way_round_are_refused() -> None:
    with pytest.raises(UsageError, match="--min-size is larger than --max-size"):
        Filters(min_size=193, max_size=192)


def test_sizes_become_constants_zero_among_them_and_the_pid_a_value_for_later() -> None:
    filters = Filters(min_size=0, max_size=192, pid=7)
    macros = filters.macros()
    assert macros["FILTER_MIN_SIZE"] == "0ULL"
    assert macros["FILTER_MAX_SIZE"] == "192ULL"
    assert "FILTER_PID" not in macros
    assert filters.values() == {"FILTER_PID": 7}
    assert macros["FILTERED"] == 1


def test_without_filters_there_is_nothing_to_compile_in() -> None:
    assert not Filters().any
    assert Filters().macros() == {}
    assert Filters().values() == {}
    assert Filters(min_size=0).any
