# SPDX-License-Identifier: GPL-2.0-or-later
"""Who freed, though modules go, come again elsewhere, and others take their places."""

from __future__ import annotations

import numpy as np
from builders import DRIVER, KERNEL_TEXT, START_NS, kallsyms, module_image
from hypothesis import given
from hypothesis import strategies as st

from kleaktrace.core.symbols.call_sites import CallSites
from kleaktrace.core.symbols.symbol_table import Symbols, parse_kallsyms

ELSEWHERE = DRIVER + 0x10000
KERNEL = {"_stext": 0xFFFFFFFF81000000, **KERNEL_TEXT, "_etext": 0xFFFFFFFF81100000}
FREES = 0x22
"""So far into a function its free returns."""


def symbols_with(*modules: tuple[str, int, int]) -> Symbols:
    """Modules (name, base, when they were loaded) with a function `NAME_free`, each gone before the next comes."""
    symbols = Symbols(parse_kallsyms(kallsyms(KERNEL)))
    for name, base, loaded_ns in modules:
        symbols.module_loaded(module_image(name, base, {f"{name}_free": 0}, loaded_ns=loaded_ns))
        symbols.module_freed(name, 0xFFFFFFFFC0200000, loaded_ns + 5)
    return symbols


def names(sites: CallSites, addresses: list[int], times: list[int]) -> list[str]:
    keys = sites.keys(np.array(addresses, np.uint64), np.array(times, np.uint64))
    return [str(sites.frame(key)) for key in keys.tolist()]


def test_a_place_keeps_its_name_when_another_module_comes_there() -> None:
    symbols = symbols_with(("old", DRIVER, START_NS))
    sites = CallSites(symbols)
    key = sites.keys(np.array([DRIVER + FREES], np.uint64), np.array([START_NS + 1], np.uint64))
    symbols.module_loaded(module_image("new", DRIVER, {"new_free": 0}, loaded_ns=START_NS + 10))
    assert str(sites.frame(int(key[0]))) == "old_free+0x22/0x1000 [old]"
    assert names(sites, [DRIVER + FREES], [START_NS + 11]) == ["new_free+0x22/0x1000 [new]"]


def test_frees_of_before_and_after_may_come_together() -> None:
    sites = CallSites(symbols_with(("old", DRIVER, START_NS), ("new", DRIVER, START_NS + 10)))
    times = [START_NS + 1, START_NS + 11, START_NS + 2]
    assert [name.partition("+")[0] for name in names(sites, [DRIVER + FREES] * 3, times)] == [
        *("old_free", "new_free", "old_free"),
    ]


def test_a_module_that_comes_again_elsewhere_frees_at_the_same_place() -> None:
    sites = CallSites(symbols_with(("drv", DRIVER, START_NS), ("drv", ELSEWHERE, START_NS + 10)))
    addresses = np.array([DRIVER + FREES, ELSEWHERE + FREES, DRIVER + 0x30], np.uint64)
    first, again, other = sites.keys(addresses, np.array([START_NS + 1, START_NS + 11, START_NS + 1], np.uint64))
    assert first == again != other


def test_the_kernel_s_own_places_go_by_their_addresses() -> None:
    sites = CallSites(symbols_with(("drv", DRIVER, START_NS)))
    addresses = np.array([KERNEL["core_free"] + FREES, 0], np.uint64)
    assert sites.keys(addresses, np.array([START_NS] * 2, np.uint64)).tolist() == addresses.tolist()
    mostly = addresses[:1]
    assert sites.keys(mostly, np.array([START_NS], np.uint64)) is mostly, "which costs nothing"
    assert str(sites.frame(KERNEL["core_free"] + FREES)).startswith("core_free+0x22")
    assert sites.frame(0).name is None


def test_a_place_that_nobody_knew_is_not_a_later_module_s() -> None:
    sites = CallSites(symbols_with(("drv", DRIVER, START_NS)))
    assert names(sites, [DRIVER + FREES], [START_NS - 1]) == [f"{DRIVER + FREES:#x}"]


modules = st.lists(st.tuples(st.sampled_from(["a", "b"]), st.sampled_from([DRIVER, ELSEWHERE])), max_size=6)
frees = st.lists(
    st.tuples(st.sampled_from([DRIVER, ELSEWHERE, KERNEL["core_free"]]), st.integers(0, 69), st.sampled_from([4, 8])),
    max_size=30,
)


@given(modules, frees)
def test_each_free_is_named_by_what_was_there_then(
    came: list[tuple[str, int]], happened: list[tuple[int, int, int]]
) -> None:
    loaded = [(name, base, START_NS + 10 * number) for number, (name, base) in enumerate(came)]
    sites = CallSites(symbols_with(*loaded))
    times = [START_NS + at for _, at, _ in happened]
    addresses = [base + offset for base, _, offset in happened]
    for name, (base, _, _), time_ns in zip(names(sites, addresses, times), happened, times, strict=True):
        there = [module for module, at, since in loaded if at == base and since <= time_ns]
        if base == KERNEL["core_free"]:
            assert name.startswith("core_free+")
        else:
            assert name.startswith(f"{there[-1]}_free+") if there else "free+" not in name
