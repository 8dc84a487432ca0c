# SPDX-License-Identifier: GPL-2.0-or-later
"""Names for kernel addresses, right for the time at which an address was seen.

The base is one snapshot of /proc/kallsyms. Modules that come later bring their own symbol table (copied at
module_load, so `__init` functions are in it); modules that go keep their names, until another module takes their place.
"""

from __future__ import annotations

import re
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from kleaktrace.core.arrays.types import U64

_SPLIT = r"(?:\.(?:isra|constprop|part|cold|llvm|lto_priv)(?:\.\d+)?)*"
"""What compilers add to the names of what they make of a function."""

_FORMER = 16
"""So many modules are still remembered after others have taken their places."""

_ADDRESS_DIGITS = 16
_HEX = np.full(256, 255, np.uint8)
_HEX[np.frombuffer(b"0123456789abcdef", np.uint8)] = np.arange(16, dtype=np.uint8)
_IS_TEXT = np.zeros(256, bool)
_IS_TEXT[np.frombuffer(b"tTwW", np.uint8)] = True

ELF_SYMBOL = np.dtype(
    [("name", "<u4"), ("info", "u1"), ("other", "u1"), ("section", "<u2"), ("value", "<u8"), ("size", "<u8")]
)
"""Elf64_Sym (include/uapi/linux/elf.h)."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One return address, named as the kernel's %pS would (lib/vsprintf.c)."""

    address: int
    name: str | None = None
    offset: int = 0
    size: int = 0
    module: str | None = None

    def __str__(self) -> str:
        if self.name is None:
            return f"{self.address:#x}"
        module = f" [{self.module}]" if self.module else ""
        return f"{self.name}+{self.offset:#x}/{self.size:#x}{module}"

    @property
    def title(self) -> str:
        """Function and module, without the place in it: `drv_probe [drv]`; of code without a name, the address."""
        if self.name is None:
            return f"{self.address:#x}"
        return f"{self.name} [{self.module}]" if self.module else self.name


@dataclass(frozen=True)
class SymbolTable:
    """Text symbols, by ascending address.

    starts: (n,) uint64; an address belongs to the last start not above it.
    lines: for each, where in `text` its name begins; the name ends at a blank or control character.
    """

    starts: U64
    name_offsets: npt.NDArray[np.int64]
    text: bytes

    def find(self, address: int) -> Frame | None:
        """Name an address, or None when it lies before the first symbol."""
        after = int(np.searchsorted(self.starts, np.uint64(address), side="right"))
        if after == 0:
            return None
        start = int(self.starts[after - 1])
        # Aliases share a start: the kernel names the first of them.
        first = int(np.searchsorted(self.starts, np.uint64(start), side="left"))
        end = int(self.starts[after]) if after < self.starts.size else start
        name, module = self._name(first)
        return Frame(address, name, address - start, max(end - start, 0), module)

    def _name(self, index: int) -> tuple[str, str | None]:
        offset = int(self.name_offsets[index])
        end = self.text.find(b"\n", offset)
        name, _, module = self.text[offset : end if end >= 0 else None].partition(b"\t")
        return name.decode(errors="replace"), module.strip(b"[] ").decode(errors="replace") or None

    def size_at(self, address: int) -> int:
        """Bytes from a symbol's address to the next symbol."""
        frame = self.find(address)
        return frame.size if frame else 0

    def address_of(self, name: str) -> int | None:
        """Address of a symbol of the kernel itself, not of a module."""
        found = _find_line(self.text, name)
        return None if found is None else int(self.text[found : found + _ADDRESS_DIGITS], 16)

    def module_range(self, module: str) -> tuple[int, int] | None:
        """First and last address of a module's text symbols."""
        tag = f"\t[{module}]".encode()
        addresses = [
            int(line[:_ADDRESS_DIGITS], 16)
            for line in self.text.splitlines()
            if line.endswith(tag) and line[_ADDRESS_DIGITS + 1 : _ADDRESS_DIGITS + 2] in (b"t", b"T")
        ]
        return (min(addresses), max(addresses)) if addresses else None


def _find_line(text: bytes, name: str) -> int | None:
    """Offset of the line that defines `name` (not one of a module's)."""
    wanted = f" {name}\n".encode()
    found = text.find(wanted)
    return None if found < 0 else text.rfind(b"\n", 0, found) + 1


def parse_kallsyms(text: bytes) -> SymbolTable:
    """Read /proc/kallsyms: lines `ADDRESS TYPE NAME[\\t[MODULE]]`, addresses of 16 digits.

    Lines of other shapes and symbols other than functions are left out.
    """
    if not text.endswith(b"\n"):
        text += b"\n"
    raw = np.frombuffer(text, np.uint8)
    ends = np.flatnonzero(raw == ord("\n"))
    begins = np.concatenate([np.zeros(1, np.int64), ends[:-1] + 1])
    name_at = _ADDRESS_DIGITS + 3
    begins = begins[ends - begins > name_at]
    begins = begins[_IS_TEXT[raw[begins + _ADDRESS_DIGITS + 1]]]
    begins = begins[(raw[begins + _ADDRESS_DIGITS] == ord(" ")) & (raw[begins + name_at - 1] == ord(" "))]
    if not begins.size:
        return SymbolTable(np.zeros(0, np.uint64), begins, text)
    digits = _HEX[np.lib.stride_tricks.sliding_window_view(raw, _ADDRESS_DIGITS)[begins]]
    good = (digits < 16).all(axis=1)
    begins, digits = begins[good], digits[good]
    starts = (digits[:, ::2] << 4 | digits[:, 1::2]).view(">u8").reshape(-1).astype(np.uint64)
    order = np.argsort(starts, kind="stable")
    return SymbolTable(starts[order], begins[order].astype(np.int64) + name_at, text)


@dataclass(frozen=True, slots=True)
class TextRange:
    """Addresses [start, start + length)."""

    start: int
    length: int

    def __contains__(self, address: int) -> bool:
        return self.start <= address < self.start + self.length

    def covers(self, other: TextRange) -> bool:
        """Whether all of the other's addresses are in it."""
        return not other.length or (other.start in self and other.start + other.length <= self.start + self.length)


@dataclass(frozen=True, slots=True)
class FunctionPlace:
    """Where a function lies, in bytes; the module is empty for the kernel's own text."""

    module: str
    address: int
    length: int
    text: TextRange | None = None
    """Of its module, the part that it is in; None: not known."""
    in_init: bool = False
    """Whether that is what is given back when the module's init has run."""


@dataclass
class ModuleImage:
    """A module as it was when it was loaded: where its code is and what its symbols are.

    key: address of its struct module. times: ns, CLOCK_MONOTONIC.
    """

    name: str
    key: int
    loaded_ns: int
    text: TextRange
    init_text: TextRange
    symbols: npt.NDArray[np.void] = field(default_factory=lambda: np.zeros(0, ELF_SYMBOL))
    strings: bytes = b""
    freed_ns: int | None = None
    buried: set[TextRange] = field(default_factory=set)
    """Of its ranges, those that a later module covers."""

    def __contains__(self, address: int) -> bool:
        return address in self.text or address in self.init_text

    @property
    def names_nothing(self) -> bool:
        """Whether it has gone, and later ones are wherever it was."""
        return self.freed_ns is not None and {self.text, self.init_text} <= self.buried

    def covers(self, area: TextRange) -> bool:
        """Whether it has all addresses of an area."""
        return self.text.covers(area) or self.init_text.covers(area)

    def set_symbols(self, symbol_table: bytes, string_table: bytes) -> None:
        """Take the functions out of an ELF symbol table (arrays of Elf64_Sym, and of NUL-ended names)."""
        whole = len(symbol_table) // ELF_SYMBOL.itemsize
        symbols = np.frombuffer(symbol_table, ELF_SYMBOL, whole)
        value = symbols["value"]
        inside = np.zeros(whole, bool)
        for area in (self.text, self.init_text):
            inside |= (value >= np.uint64(area.start)) & (value < np.uint64(area.start + area.length))
        # STT_NOTYPE and STT_FUNC; the kernel, too, ignores section and file symbols
        inside &= ((symbols["info"] & 15) <= 2) & (symbols["name"] > 0)
        chosen = symbols[inside]
        chosen = chosen[_has_name(chosen["name"], string_table)]
        self.symbols = chosen[np.argsort(chosen["value"], kind="stable")]
        self.strings = string_table

    def places_of(self, function: str) -> list[FunctionPlace]:
        """Where a function lies in it, and what a compiler split off."""
        pattern = re.compile(rf"{re.escape(function)}{_SPLIT}")
        found: list[FunctionPlace] = []
        for index in range(self.symbols.size):
            if pattern.fullmatch(self._name(index)):
                start = int(self.symbols["value"][index])
                area = self.text if start in self.text else self.init_text
                found.append(FunctionPlace(self.name, start, self.find(start).size, area, area is self.init_text))
        return found

    def find(self, address: int) -> Frame:
        """Name an address of this module."""
        area = self.text if address in self.text else self.init_text
        starts = self.symbols["value"]
        after = int(np.searchsorted(starts, np.uint64(address), side="right"))
        if not after or int(starts[after - 1]) not in area:
            return Frame(address, self.name, address - area.start, area.length, self.name)
        start = int(starts[after - 1])
        following = int(starts[after]) if after < starts.size else 0
        end = following if following in area else area.start + area.length
        # Of aliases the kernel names the first (kernel/module/kallsyms.c, find_kallsyms_symbol).
        name = self._name(int(np.searchsorted(starts, np.uint64(start), side="left")))
        return Frame(address, name, address - start, end - start, self.name)

    def _name(self, index: int) -> str:
        offset = int(self.symbols["name"][index])
        return self.strings[offset : self.strings.find(b"\0", offset)].decode(errors="replace")


def _has_name(offsets: npt.NDArray[np.uint32], strings: bytes) -> npt.NDArray[np.bool_]:
    """Which of these places hold a whole name, one that is more than a mapping symbol or a label of the compiler.

    As kernel/module/kallsyms.c, is_mapping_symbol: on arm64 functions are full of `$x` and `$d`.
    """
    whole = offsets < strings.rfind(b"\0") + 1
    text = np.frombuffer(strings + bytes(4), np.uint8)
    first, second, third, fourth = (text[np.where(whole, offsets, 0) + place] for place in range(4))
    label = (first == 0) | (first == ord("$"))
    label |= (first == ord(".")) & (second == ord("L"))
    label |= (first == ord("L")) & (second == ord("0"))
    unique = (first == ord("_")) & (second == ord("_")) & (third == ord("U")) & (fourth == ord("N"))  # __UNIQUE_ID_…
    named: npt.NDArray[np.bool_] = whole & ~label & ~unique
    return named


@dataclass(frozen=True, slots=True)
class KnownSymbols:
    """What was known of the symbols of a machine that is not here: of addresses, only those that were asked for.

    frames: by return address. functions: names by the address at which they begin. loads, unloads: when (ns) modules
    came and went, by name.
    """

    frames: Mapping[int, Frame]
    functions: Mapping[int, str]
    loads: Mapping[str, Sequence[int]]
    unloads: Mapping[str, Sequence[int]]


class Symbols:
    """The base table, and every module that came since.

    Of a module that is loaded again and again, one image is kept for each place it was at, with one table of strings.
    """

    def __init__(self, base: SymbolTable) -> None:
        self._base = base
        self._images: list[ModuleImage] = []
        self._former: deque[ModuleImage] = deque(maxlen=_FORMER)
        """The last that name nothing any more, in the order in which others came: events of theirs may still come."""
        self._loads: dict[str, list[int]] = {}
        self._unloads: dict[str, list[int]] = {}
        first, last = base.address_of("_stext"), base.address_of("_etext")
        self._kernel_text = range(first or 0, last or 0)
        self._of_kernel: dict[int, Frame] = {}
        """Frames in the kernel's own text, where no module can come."""
        self._known = KnownSymbols({}, {}, {}, {})

    @classmethod
    def restored(cls, known: KnownSymbols) -> Symbols:
        """Those that tell what is known of another machine, and of anything else that it has no name."""
        made = cls(SymbolTable(np.zeros(0, np.uint64), np.zeros(0, np.int64), b""))
        made._known = known
        made._loads = {name: sorted(times) for name, times in known.loads.items()}
        made._unloads = {name: sorted(times) for name, times in known.unloads.items()}
        return made

    @property
    def module_names(self) -> frozenset[str]:
        """Names of the modules that were loaded or unloaded while we watched."""
        return frozenset(self._loads) | frozenset(self._unloads)

    def module_loaded(self, image: ModuleImage) -> None:
        """From now on `image` names the addresses in its ranges."""
        insort(self._loads.setdefault(image.name, []), image.loaded_ns)
        for earlier in self._images:
            earlier.buried |= {area for area in (earlier.text, earlier.init_text) if image.covers(area)}
        self._former.extend(each for each in self._images if each.names_nothing)
        self._images = [each for each in self._images if not each.names_nothing]
        self._images.append(image)

    def module_freed(self, name: str, key: int, time_ns: int) -> None:
        """Remember when a module went; its names stay."""
        insort(self._unloads.setdefault(name, []), time_ns)
        for image in reversed(self._images):
            if image.key == key and image.freed_ns is None:
                image.freed_ns = time_ns
                self._share_strings(image)
                break

    def image(self, key: int) -> ModuleImage | None:
        """The newest module whose struct module is at `key`."""
        return next((image for image in reversed(self._images) if image.key == key), None)

    @property
    def unloaded(self) -> frozenset[str]:
        """Names of the modules that were unloaded at least once."""
        return frozenset(self._unloads)

    def loads(self, name: str) -> Sequence[int]:
        """When (ns) a module of this name was loaded while we watched, ascending."""
        return self._loads.get(name, ())

    def unloads(self, name: str) -> Sequence[int]:
        """When (ns) a module of this name was unloaded, ascending."""
        return self._unloads.get(name, ())

    def unloaded_after(self, name: str, time_ns: int) -> int | None:
        """When (ns) a module of this name was first unloaded after `time_ns`; None: not since."""
        times = self.unloads(name)
        place = bisect_left(times, time_ns)
        return times[place] if place < len(times) else None

    def _share_strings(self, image: ModuleImage) -> None:
        for other in self._images:
            if other.strings == image.strings:
                image.strings = other.strings
                return

    def function_at(self, address: int) -> str | None:
        """The name of the function that begins exactly at an address, as of now."""
        if address in self._known.functions:
            return self._known.functions[address]
        found = self.frame(address + 1)
        return found.name if found.name and found.offset == 1 else None

    def places_of(self, function: str) -> list[FunctionPlace]:
        """Where a function is, in the kernel and in modules as they were loaded last; and what a compiler split off."""
        line = rf"^([0-9a-f]{{16}}) [tTwW] {re.escape(function)}{_SPLIT}(?:\t\[(\S+)\])?$"
        pattern = re.compile(line.encode(), re.MULTILINE)
        found = [
            FunctionPlace(module.decode(errors="replace"), int(digits, 16), self._base.size_at(int(digits, 16)))
            for digits, module in pattern.findall(self._base.text)
        ]
        newest = {image.name: image for image in self._images}
        of_images = [place for image in newest.values() for place in image.places_of(function)]
        return [place for place in found if place.module not in newest] + of_images

    def outside_kernel(self, addresses: U64) -> npt.NDArray[np.bool_]:
        """Which of these return addresses are not in the kernel's own text: those that modules share in turn."""
        first, length = np.uint64(self._kernel_text.start), np.uint64(len(self._kernel_text))
        outside: npt.NDArray[np.bool_] = addresses - first - np.uint64(1) >= length
        return outside

    def loads_after(self, time_ns: int) -> U64:
        """When (ns) modules were loaded after `time_ns`, as far as they can still be named, ascending."""
        times = (image.loaded_ns for image in (*self._former, *self._images))
        return np.array(sorted(loaded_ns for loaded_ns in times if loaded_ns > time_ns), np.uint64)

    def frame(self, address: int, time_ns: int | None = None) -> Frame:
        """Name a return address as of a time (ns), or of now. It points after the call: look up the byte before it."""
        if not address:
            return Frame(0)
        if address in self._known.frames:
            return self._known.frames[address]
        if address - 1 in self._kernel_text:
            if address not in self._of_kernel:
                self._of_kernel[address] = _returning_to(address, self._base.find(address - 1))
            return self._of_kernel[address]
        image = self._image_at(address - 1, time_ns)
        return _returning_to(address, image.find(address - 1) if image else self._base.find(address - 1))

    def _image_at(self, address: int, time_ns: int | None) -> ModuleImage | None:
        """The module that was at an address then; it may have gone since."""
        if time_ns is None:
            return next((image for image in reversed(self._images) if address in image), None)
        there = [i for i in (*self._former, *self._images) if i.loaded_ns <= time_ns and address in i]
        return max(there, key=lambda image: image.loaded_ns, default=None)


def _returning_to(address: int, call: Frame | None) -> Frame:
    """The frame of a return address, given that of the byte before it."""
    if call is None or not call.size or call.offset >= call.size:
        return Frame(address)
    return Frame(address, call.name, call.offset + 1, call.size, call.module)
