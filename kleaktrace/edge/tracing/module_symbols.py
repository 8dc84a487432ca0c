# SPDX-License-Identifier: GPL-2.0-or-later
"""Puts the symbols of modules together as their pages arrive, and keeps them for when a module comes again."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import numpy.typing as npt

from kleaktrace.core.symbols.symbol_table import ModuleImage
from kleaktrace.edge.bpf.bpf_object import BpfObject
from kleaktrace.edge.tracing.abi import MODULE_PAGE_LENGTH as PAGE
from kleaktrace.edge.tracing.name_records import ModuleLoaded, ModulePage

MOST_KEPT = 1024
"""Modules whose symbols are kept (bpf/modules.c, TOLD_MODULES)…"""

_MOST_BYTES = 32 << 20
"""…and bytes of them."""

_MOST_PAGES = 512
"""Of one table (bpf/modules.c, TABLE_PAGES)."""

_MAP = "told_modules"


class _Arriving:
    """A module whose symbols are arriving: the symbol table's pages first, then the strings'."""

    def __init__(self, loaded: ModuleLoaded) -> None:
        self.loaded = loaded
        self.pages: dict[int, bytes] = {}
        self.changed = False

    def add(self, page: ModulePage) -> None:
        """Take a page."""
        self.pages[page.address] = page.data
        self.changed = True

    @property
    def complete(self) -> bool:
        """Whether nothing is missing."""
        return all(map(self.pages.get, (*_pages(self.loaded.symbol_table), *_pages(self.loaded.string_table))))

    def name(self) -> None:
        """Give the image what has come by now."""
        if self.changed:
            strings = self._bytes(*self.loaded.string_table)
            if strings:
                self.loaded.image.set_symbols(self._bytes(*self.loaded.symbol_table), strings)
            self.changed = False

    def _bytes(self, start: int, end: int) -> bytes:
        """Memory from `start` on, as far as its pages are here without a gap, up to `end`."""
        first = start - start % PAGE
        found = bytearray()
        for address in range(first, end, PAGE):
            page = self.pages.get(address)
            if not page:
                break
            found += page
        return bytes(found[start - first : end - first])


class ModuleSymbols:
    """The symbols of the modules that come. What is kept here, the kernel side does not send again."""

    def __init__(self, bpf: BpfObject) -> None:
        self._bpf = bpf
        self._arriving: dict[int, _Arriving] = {}
        self._kept: OrderedDict[int, tuple[npt.NDArray[np.void], bytes]] = OrderedDict()
        self._bytes = 0
        self.given_up = 0
        """Modules that are gone, and whose symbols never were complete."""

    @property
    def incomplete(self) -> int:
        """Modules whose symbols are not complete, and perhaps never will be."""
        return self.given_up + len(self._arriving)

    def loaded(self, module: ModuleLoaded) -> None:
        """A module has come; its symbols are here already, or will be."""
        self.freed(module.image.key)
        if module.identity in self._kept:
            self._kept.move_to_end(module.identity)
            module.image.symbols, module.image.strings = self._kept[module.identity]
        else:
            self._arriving[module.image.key] = _Arriving(module)

    def page(self, page: ModulePage) -> None:
        """A page of one that is arriving."""
        arriving = self._arriving.get(page.key)
        if arriving is None:
            return
        arriving.add(page)
        if arriving.complete:
            arriving.name()
            del self._arriving[page.key]
            self._keep(arriving.loaded)

    def name(self) -> None:
        """Have the images named by what has come so far: an address is to be named."""
        for arriving in self._arriving.values():
            arriving.name()

    def freed(self, key: int) -> None:
        """A module is gone: if something is missing, it will not come any more."""
        if key in self._arriving:
            self._arriving.pop(key).name()
            self.given_up += 1

    def _keep(self, module: ModuleLoaded) -> None:
        image = module.image
        self._kept[module.identity] = image.symbols, image.strings
        self._bytes += _size(image)
        while self._kept and (len(self._kept) > MOST_KEPT or self._bytes > _MOST_BYTES):
            identity, (symbols, strings) = self._kept.popitem(last=False)
            self._bytes -= symbols.nbytes + len(strings)
            self._bpf.delete(_MAP, _word(identity))
        if module.identity in self._kept:
            self._bpf.write(_MAP, _word(module.identity), _word(1))


def _pages(table: tuple[int, int]) -> range:
    """Addresses of the pages of a table that are sent."""
    start, end = table
    first = start - start % PAGE
    return range(first, min(end, first + _MOST_PAGES * PAGE), PAGE)


def _size(image: ModuleImage) -> int:
    return image.symbols.nbytes + len(image.strings)


def _word(value: int) -> bytes:
    return value.to_bytes(8, "little")
