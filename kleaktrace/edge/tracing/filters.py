# SPDX-License-Identifier: GPL-2.0-or-later
"""What to trace, decided in the kernel: what is filtered out costs nearly nothing."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass

from kleaktrace.errors import UsageError

_COMM_LENGTH = 15  # bpf/records.h, COMM_LENGTH, less the NUL
_WANTED_OBJECTS = 1 << 20
_LONGEST_NAME = 63  # bpf/records.h, MODULE_NAME_LENGTH and CACHE_NAME_LENGTH, less the NUL
_NAME = re.compile(r"[\w.:/+@#() -]+", re.ASCII)
_KMALLOC = re.compile(r"^(?:dma-|rcl-|cg-|rnd-\d+-)?(\d+)(k?)$")


@dataclass(frozen=True, slots=True)
class Filters:
    """All that are set must hold. Sizes are bytes asked for, both ends included."""

    module: str | None = None
    pid: int | None = None
    comm: str | None = None
    cache: str | None = None
    min_size: int | None = None
    max_size: int | None = None

    def __post_init__(self) -> None:
        if self.module is not None:
            # the kernel's name of a module has no dashes (scripts/Makefile.lib, modname)
            object.__setattr__(self, "module", self.module.removesuffix(".ko").replace("-", "_"))
        for option, value in (("--module", self.module), ("--cache", self.cache)):
            if value is not None and not (_NAME.fullmatch(value) and len(value) <= _LONGEST_NAME):
                raise UsageError(
                    f"{option} {value!r} is not a name the kernel could have",
                    f"use letters, digits, -_.:/, at most {_LONGEST_NAME} of them",
                )
        if self.min_size is not None and self.max_size is not None and self.min_size > self.max_size:
            raise UsageError("--min-size is larger than --max-size", "swap them")

    @property
    def any(self) -> bool:
        """Whether anything is filtered out."""
        return any(getattr(self, name) is not None for name in self.__slots__)

    def values(self) -> dict[str, int]:
        """Of `compiled_programs.VALUES`, what bpf/events.h needs."""
        return {} if self.pid is None else {"FILTER_PID": self.pid}

    def macros(self) -> dict[str, str | int]:
        """The -D macros for bpf/events.h."""
        if not self.any:
            return {}
        macros: dict[str, str | int] = {"FILTERED": 1, "WANTED_OBJECTS": _WANTED_OBJECTS}
        if self.module is not None:
            macros["FILTER_MODULE(words)"] = _same_name(self.module.encode())
        if self.comm is not None:
            macros["FILTER_COMM(words)"] = _same_name(os.fsencode(self.comm)[:_COMM_LENGTH])
        if self.cache is not None:
            macros["FILTER_CACHE(words)"] = _same_name(self.cache.encode())
            macros["FILTER_KMALLOC_SIZE"] = _kmalloc_size(self.cache)
        if self.min_size is not None:
            macros["FILTER_MIN_SIZE"] = f"{self.min_size}ULL"
        if self.max_size is not None:
            macros["FILTER_MAX_SIZE"] = f"{self.max_size}ULL"
        return macros


def _same_name(name: bytes) -> str:
    """A C expression: whether the string at `words`, an array of u64, is this name.

    With constants in the code: bcc has no read-only data for a string to lie in.
    """
    text = name + b"\0"
    parts = [text[at : at + 8] for at in range(0, len(text), 8)]
    return "(" + "&&".join(_same_word(number, part) for number, part in enumerate(parts)) + ")"


def _same_word(number: int, part: bytes) -> str:
    wanted, mask = (int.from_bytes(word.ljust(8, b"\0"), sys.byteorder) for word in (part, b"\xff" * len(part)))
    return f"((words)[{number}]&{mask:#x}ULL)=={wanted:#x}ULL"


def _kmalloc_size(cache: str) -> int:
    """Object size of a kmalloc cache by its name, 0 for another cache (mm/slab_common.c, kmalloc_info)."""
    found = _KMALLOC.match(cache.removeprefix("kmalloc-")) if cache.startswith("kmalloc-") else None
    return int(found[1]) * (1024 if found[2] else 1) if found else 0
