# SPDX-License-Identifier: GPL-2.0-or-later
"""The programs that read debug information: llvm-symbolizer, or addr2line. One process answers for all of a file.

Both are asked for the same form: an address, then a function and its file:line for each function that is inlined
there, innermost first. An answer is known by its address; a file that makes up lines of its own gets no other's.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, NamedTuple

from kleaktrace.core.source_lines.answers import Named

_LINE = re.compile(r"(?P<file>.*):(?P<line>\d+|\?)(?: \(discriminator \d+\))?")
_LLVM_VERSIONS = range(25, 10, -1)
_LONGEST = 4096
_DEEPEST = 64
_UNKNOWN = "??"


class Answer(NamedTuple):
    """What is known of an address, innermost first; nothing: no name, no line."""

    address: int
    lines: tuple[Named, ...]


class Symbolizer:
    """A program that is installed here."""

    def __init__(self, program: str) -> None:
        self.program = program

    @property
    def name(self) -> str:
        """As people know it."""
        return Path(self.program).name

    def answers(self, path: Path, addresses: Sequence[int], deadline: float) -> Iterator[Answer]:
        """Answers for addresses in a file, in their order; fewer if the program fails, or its time is up.

        Give them ascending: neighbours share what has to be read. deadline: by time.monotonic.
        """
        environment = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}  # nor DEBUGINFOD_URLS: no network
        process = subprocess.Popen(
            self._command(path),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        clock = threading.Timer(max(deadline - time.monotonic(), 0), process.kill)
        asking = threading.Thread(target=_ask, args=(process.stdin, addresses), daemon=True)
        clock.start()
        asking.start()
        try:
            yield from _parsed(process.stdout, addresses)
        finally:
            process.kill()
            asking.join()
            process.stdout.close()
            process.wait()
            clock.cancel()

    def _command(self, path: Path) -> list[str]:
        file = str(path.absolute())
        if self.name.startswith("llvm"):
            return [self.program, "--output-style=GNU", "--addresses", "--functions", "--inlines", f"--obj={file}"]
        return [self.program, "--addresses", "--functions", "--inlines", f"--exe={file}"]


def symbolizers() -> list[Symbolizer]:
    """Those that are installed, the fastest first."""
    names = ["llvm-symbolizer", *(f"llvm-symbolizer-{version}" for version in _LLVM_VERSIONS)]
    llvm = next(filter(None, map(shutil.which, names)), None)
    return [Symbolizer(program) for program in (llvm, shutil.which("addr2line")) if program]


def _ask(stream: IO[bytes], addresses: Sequence[int]) -> None:
    with suppress(OSError), stream:  # it may have been ended
        for start in range(0, len(addresses), 4096):
            stream.write("".join(f"{address:#x}\n" for address in addresses[start : start + 4096]).encode())


def _parsed(stream: IO[bytes], addresses: Sequence[int]) -> Iterator[Answer]:
    """Answers are whole when the next begins, or the program has ended by itself."""
    known: dict[bytes, tuple[str, int]] = {}
    chains: dict[tuple[Named, ...], tuple[Named, ...]] = {}
    line = stream.readline(_LONGEST)
    for number, address in enumerate(addresses):
        following = addresses[number + 1] if number + 1 < len(addresses) else None
        if not _is(line, address):
            return
        found: list[Named] = []
        line = stream.readline(_LONGEST)
        while line and not (following is not None and _is(line, following)):
            place = stream.readline(_LONGEST)
            if not place.endswith(b"\n"):
                return
            if place not in known:
                known[place] = _place(place)
            file, row = known[place]
            if file and len(found) < _DEEPEST:
                found.append((line.decode(errors="replace").strip(), file, row))
            line = stream.readline(_LONGEST)
        chain = tuple(found)
        yield Answer(address, chains.setdefault(chain, chain))


def _is(line: bytes, address: int) -> bool:
    """Whether it is an address's own line; addr2line writes all 16 digits, llvm-symbolizer those that count."""
    return line.startswith(b"0x") and line[2:].strip().lstrip(b"0") == b"%x" % address


def _place(line: bytes) -> tuple[str, int]:
    """A file and a line; an empty file: not known."""
    found = _LINE.fullmatch(line.decode(errors="replace").strip())
    if found is None or found["file"] in ("", _UNKNOWN):
        return "", 0
    return found["file"], int(found["line"]) if found["line"].isdigit() and len(found["line"]) < 10 else 0
