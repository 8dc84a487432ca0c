# SPDX-License-Identifier: GPL-2.0-or-later
"""Symbols of modules, page by page: what came before need not come again, and what did not come is counted."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from builders import DRIVER, elf_tables, module_image

from kleaktrace.core.symbols.symbol_table import ModuleImage
from kleaktrace.edge.tracing import module_symbols
from kleaktrace.edge.tracing.abi import MODULE_PAGE_LENGTH as PAGE
from kleaktrace.edge.tracing.module_symbols import ModuleSymbols
from kleaktrace.edge.tracing.name_records import ModuleLoaded, ModulePage

TABLES = 0xFFFFFFFFC0400000
FUNCTIONS = [(f"drv_{number}", DRIVER + 2 * number) for number in range(400)]


class FakeBpf:
    """A map, as edge.bpf.bpf_object.BpfObject has it."""

    def __init__(self) -> None:
        self.told: set[int] = set()

    def write(self, name: str, key: bytes, value: bytes) -> bool:
        assert (name, len(value)) == ("told_modules", 8)
        self.told.add(int.from_bytes(key, "little"))
        return True

    def delete(self, name: str, key: bytes) -> None:
        assert name == "told_modules"
        self.told.discard(int.from_bytes(key, "little"))


def load(image: ModuleImage, identity: int) -> tuple[ModuleLoaded, list[ModulePage]]:
    """A module of `FUNCTIONS`, and its pages. The symbols begin in the middle of one, the strings in the next."""
    symbols, strings = elf_tables(FUNCTIONS)
    start = TABLES + 0x810
    memory = bytes(0x810) + symbols + strings
    places = (start, start + len(symbols)), (start + len(symbols), start + len(symbols) + len(strings))
    pages = [
        ModulePage(image.key, page, memory[page - TABLES :][:PAGE].ljust(PAGE, b"\0"))
        for first, end in places
        for page in range(first - first % PAGE, end, PAGE)
    ]
    return ModuleLoaded(image, identity, *places), pages


def arrive(symbols: ModuleSymbols, image: ModuleImage, identity: int, without: Sequence[int] = ()) -> None:
    loaded, pages = load(image, identity)
    symbols.loaded(loaded)
    for page in pages:
        if (page.address - TABLES) // PAGE not in without:
            symbols.page(page)


def image(key: int = 7) -> ModuleImage:
    return module_image(functions={}, key=key)


def names(of: ModuleImage) -> set[str | None]:
    return {of.find(address).name for _, address in FUNCTIONS}


ALL = {name for name, _ in FUNCTIONS}


def test_a_module_is_named_when_its_pages_are_here_and_the_kernel_side_need_not_send_them_again() -> None:
    bpf = FakeBpf()
    symbols = ModuleSymbols(bpf)  # type: ignore[arg-type]
    first = image()
    arrive(symbols, first, 55)
    assert names(first) == ALL
    assert bpf.told == {55}
    assert symbols.incomplete == 0
    symbols.freed(7)
    again = image()
    symbols.loaded(load(again, 55)[0])
    assert names(again) == ALL
    assert symbols.incomplete == 0


@pytest.mark.parametrize("lost", range(4))
def test_a_module_of_which_a_page_was_lost_is_counted_and_sent_again(lost: int) -> None:
    bpf = FakeBpf()
    symbols = ModuleSymbols(bpf)  # type: ignore[arg-type]
    first = image()
    assert {(page.address - TABLES) // PAGE for page in load(first, 55)[1]} == {0, 1, 2, 3}
    arrive(symbols, first, 55, without=[lost])
    assert symbols.incomplete == 1
    assert bpf.told == set()
    symbols.name()
    assert names(first) < ALL | {"drv"}
    symbols.freed(7)
    assert symbols.incomplete == 1
    again = image()
    arrive(symbols, again, 55)
    assert names(again) == ALL
    assert symbols.incomplete == 1


def test_a_page_that_could_not_be_read_is_missing() -> None:
    symbols = ModuleSymbols(FakeBpf())  # type: ignore[arg-type]
    loaded, pages = load(image(), 55)
    symbols.loaded(loaded)
    for page in pages:
        symbols.page(ModulePage(page.key, page.address, b""))
    assert symbols.incomplete == 1
    symbols.page(ModulePage(99, TABLES, b"of one that never came"))


def test_symbols_are_kept_within_bounds_and_what_is_dropped_is_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module_symbols, "MOST_KEPT", 3)
    bpf = FakeBpf()
    symbols = ModuleSymbols(bpf)  # type: ignore[arg-type]
    for identity in (1, 2, 3):
        arrive(symbols, image(key=identity), identity)
    symbols.loaded(load(image(key=1), 1)[0])  # the oldest, but used again
    arrive(symbols, image(key=4), 4)
    assert bpf.told == {1, 3, 4}
    monkeypatch.setattr(module_symbols, "_MOST_BYTES", 1)
    arrive(symbols, image(key=5), 5)
    assert bpf.told == set()
    assert symbols.incomplete == 0


def test_the_kernel_side_sends_no_more_than_so_many_pages_of_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module_symbols, "_MOST_PAGES", 1)
    symbols = ModuleSymbols(FakeBpf())  # type: ignore[arg-type]
    large = image()
    loaded, pages = load(large, 55)
    symbols.loaded(loaded)
    sent = {first - first % PAGE for first, _ in (loaded.symbol_table, loaded.string_table)}
    for page in pages:
        if page.address in sent:
            symbols.page(page)
    assert symbols.incomplete == 0
    assert {"drv_0"} < names(large) < ALL
