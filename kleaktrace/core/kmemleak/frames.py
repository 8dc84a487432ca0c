# SPDX-License-Identifier: GPL-2.0-or-later
"""Reads one line of a kmemleak backtrace, raw or decoded, into a `KmemleakFrame`.

The kernel prints `[<%p>] %pS` up to 6.12 and plain `%pS` since (mm/kmemleak.c, `print_unreferenced`);
decoders (scripts/decode_stacktrace.sh, syzkaller, addr2line) add `file:line`, `[inline]` and whole lines. Programs
that texts pass through take the angle brackets for a tag of HTML and drop them, or leave them out.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

MAX_FRAMES = 16
"""Frames kmemleak keeps per object (MAX_TRACE, mm/kmemleak.c): a full stack is a cut stack."""


class KmemleakFrame(NamedTuple):  # a long report has millions, and no other kind of class is made as fast
    """One frame of a printed backtrace.

    `address` is the code address if the text gives it in the clear, else None; `printed` is what stood in
    `[<...>]`: an address, its hash, or `(ptrval)`. `symbol`, `offset` and `size` come from
    `sym+0xoff/0xsize`; a frame in a module that is gone has none of them. `source` is `file:line` where a
    decoder added it, `inline` marks a frame that has no return address of its own.
    """

    address: int | None = None
    symbol: str | None = None
    offset: int | None = None
    size: int | None = None
    module: str | None = None
    source: str | None = None
    inline: bool = False
    printed: str | None = None

    @property
    def text(self) -> str:
        """The frame as the kernel prints it: `func+0xoff/0xsize [module]` or `0xffffffffc03a204b`."""
        if self.symbol is None:
            return f"0x{self.address or 0:x}"
        place = "" if self.offset is None else f"+0x{self.offset:x}/0x{self.size or 0:x}"
        return f"{self.symbol}{place}" + (f" [{self.module}]" if self.module else "")

    @property
    def resolved(self) -> bool:
        """Whether the frame has a name."""
        return self.symbol is not None

    def __str__(self) -> str:
        source = f" ({self.source})" if self.source else ""
        return f"{self.text}{source}" + (" [inline]" if self.inline else "")


END_MARK = KmemleakFrame(printed="end")
"""A printed line that is no frame but the end of the trace: `0xffffffffffffffff`, `0x0` or `(null)`."""

_PRINTED = r"(?:0x)?[0-9a-fA-F]{8,16}|\(?_*ptrval_*\)?|\(null\)|\.{2,}|…|0|"
BRACKET = (
    r"(?:(?:#\d{1,2}:?\s+)?(?:"
    r"\[\s?<\s*+(?P<printed>[^>\n]{0,32})>\s?\]"
    # What is left of it where angle brackets went lost, and what others print.
    rf"|\[(?P<unpointed>{_PRINTED})\]|<(?P<unboxed>{_PRINTED})>|\((?P<round>(?:0x)?[0-9a-f]{{8,16}})\)"
    r"|(?P<unmarked>(?:0x)?[0-9a-f]{8,16}):?(?=\s+[^\s+]*\+0x)"
    r")\s*+)?+"
)
"""The address of a frame, whatever marks it."""
SYMBOL = r"[^\s+\[(<?!@#0-9'\"`|{},;:=*&%~/\\>)-][^\s+\\]{0,511}?"
DEMANGLED = r"<[^\n+]{1,400}?>::[\w:]{1,100}|[A-Za-z_][\w:<>~]{0,200}\([^()\n+]{0,300}\)"
OFFSET = r"\+0x(?P<offset>[0-9a-f]{1,16})/0x(?P<size>[0-9a-f]{1,16})(?![0-9a-f])"
SOURCE = r"(?:[^\s()\[\]:<>]{1,511}:(?:\d{1,9}|\?)|[^()\[\]:<>\n]{1,511}\.\w{1,4}:\d{1,9})"

_PLAIN = re.compile(
    BRACKET + r"(?:"
    rf"(?P<symbol>{DEMANGLED}|{SYMBOL}){OFFSET}"
    r"|0x(?P<bare>[0-9a-f]{1,16})(?=\s|--|$)"
    r"|(?P<null>\(null\))"
    r")(?P<rest>.*)"
)
_DECODED = re.compile(
    BRACKET + r"(?P<inlined>\(inlined by\)\s+)?(?P<symbol>[A-Za-z_.$][\w.$]{0,511})\s+"
    r"(?P<at>at\s+)?(?P<open>\()?(?P<source>(?(open)" + SOURCE + r"|[^\s()\[\]:]{1,512}:(?:\d{1,9}|\?)))(?P<rest>.*)"
)
_NAME_ONLY = re.compile(
    r"\[<\s*(?P<printed>[^>\n]{0,32})>\]\s+(?P<symbol>[A-Za-z_.$][\w.$]{0,511})(?P<rest>(?:\s+\[[\w.-]+\])?)-*$"
)
NO_ADDRESS = r"(?!(?:0x)?[0-9a-f]{8}(?:[0-9a-f]{8})?\])"
"""Ahead of what is in square brackets: the name of a module, not an address that lost its pointed ones."""
_MODULE = re.compile(rf"\[(?!inline\]){NO_ADDRESS}([\w.-]{{1,64}})(?: [0-9a-f]{{8,64}})?\]")
_MODULE_BEHIND = re.compile(r".*\)\s+([A-Za-z_][\w-]{0,63})\s*$")
_SOURCES = re.compile(r"[^\s()\[\]:]+:\d+")
_IN_BRACKETS = re.compile(rf"\(({SOURCE})")
_DECODED_TAIL = re.compile(r"\s*(?:\(discriminator \d+\)\s*)?(?:\[[\w.-]+\]\s*)*-*")
_ALL_ONES = (0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF)


def parse_frame(line: str) -> KmemleakFrame | None:
    """Read one backtrace line without indent and log prefix; None if it is no frame, `END_MARK` at an end."""
    found = frame_and_rest(line)
    return found[0] if found else None


def frame_and_rest(line: str) -> tuple[KmemleakFrame, str] | None:
    """The same, and what stands behind a frame of the form that the kernel prints."""
    plain = _PLAIN.match(line)
    if plain:
        return _plain_frame(plain), plain["rest"]
    decoded = _DECODED.match(line)
    if decoded:
        frame = _decoded_frame(decoded)
        return (frame, "") if frame else None
    named = _NAME_ONLY.match(line)
    if named:
        printed = named["printed"].strip()
        module = _module(named["rest"])
        return KmemleakFrame(_clear_address(printed), named["symbol"], module=module, printed=printed), ""
    return None


def is_addr2line(line: str) -> bool:
    """Whether the line is one that addr2line -i adds below a frame: `func at file:line`."""
    decoded = _DECODED.match(line)
    return bool(decoded and decoded["at"])


def settle(
    frames: Sequence[KmemleakFrame], notes: Sequence[tuple[int, KmemleakFrame]] = ()
) -> tuple[KmemleakFrame, ...]:
    """Return the frames of one object in order, innermost first, addresses judged together.

    `notes` are addr2line's lines, each with the index of the frame it stands below: the last one of a frame
    is the frame's own source, those before it were inlined into it.
    """
    merged = _with_notes(frames, notes) if notes else frames
    if not any(f.printed and len(f.printed) == 8 and f.address is None for f in merged):
        return tuple(merged)
    shown = [int(f.printed, 16) for f in merged if f.printed and _is_hex(f.printed, 8)]
    if not _look_like_code(shown):
        return tuple(merged)
    return tuple(
        f._replace(address=int(f.printed, 16)) if f.address is None and f.printed and _is_hex(f.printed, 8) else f
        for f in merged
    )


def _printed(match: re.Match[str]) -> str | None:
    found = next(
        (match[name] for name in ("printed", "unpointed", "unboxed", "round", "unmarked") if match[name] is not None),
        None,
    )
    return None if found is None else found.strip().removeprefix("0x")


def _plain_frame(match: re.Match[str]) -> KmemleakFrame:
    printed = _printed(match)
    if match["null"]:
        return END_MARK
    if match["bare"]:
        address = int(match["bare"], 16)
        return END_MARK if address == 0 or address in _ALL_ONES else KmemleakFrame(address, printed=printed)
    rest = match["rest"]
    return KmemleakFrame(
        _clear_address(printed),
        match["symbol"],
        int(match["offset"], 16),
        int(match["size"], 16),
        _module(rest) if rest else None,
        _sources(rest) if rest else None,
        "[inline]" in rest,
        printed,
    )


def _decoded_frame(match: re.Match[str]) -> KmemleakFrame | None:
    """Read a frame whose offset the decoder replaced by its source; prose that looks like one is refused."""
    rest = match["rest"]
    printed = _printed(match)
    marked = printed is not None or match["inlined"] or match["at"] or match["open"]
    if not marked and not _DECODED_TAIL.fullmatch(rest):
        return None
    more = _SOURCES.findall(rest) if match["open"] else []
    return KmemleakFrame(
        _clear_address(printed),
        match["symbol"],
        module=_module(f"({match['source']}{rest}" if match["open"] else rest),
        source=" ".join([match["source"], *more]),
        inline="[inline]" in rest or bool(match["inlined"]),
        printed=printed,
    )


def _sources(rest: str) -> str | None:
    """The places in the source behind a frame: `file:line`, or several in brackets, where inlined code came along."""
    first = _IN_BRACKETS.search(rest)
    if first and first[1].startswith("??"):  # what addr2line says where it knows nothing
        return None
    if first:
        return " ".join([first[1], *_SOURCES.findall(rest, first.end())])
    return " ".join(_SOURCES.findall(rest)) or None


def _module(rest: str) -> str | None:
    """The module named behind a frame: `[mod]`, or after source lines the last word (scripts/decode_stacktrace.sh)."""
    found = _MODULE.search(rest) or _MODULE_BEHIND.match(rest)
    return found[1] if found else None


def _is_hex(text: str, digits: int) -> bool:
    return len(text) == digits and all(c in "0123456789abcdef" for c in text)


def _clear_address(printed: str | None) -> int | None:
    """Return the address in `[<...>]` if it is in the clear for certain.

    Sixteen digits with a zero upper half are a hash (lib/vsprintf.c, `ptr_to_id`, keeps 32 bits); eight
    digits may be either, see `settle`.
    """
    if printed is None:
        return None
    printed = printed.strip()
    if not _is_hex(printed, 16) or printed.startswith("00000000"):
        return None
    return int(printed, 16)


def _look_like_code(addresses: Iterable[int]) -> bool:
    """Tell 32-bit code addresses from hashes: code lies together in the upper half, hashes lie anywhere."""
    values = [a for a in addresses if a]
    if len(values) < 3 or min(values) < 0x80000000:
        return False
    by_top_byte = Counter(a >> 24 for a in values)
    return 2 * by_top_byte.most_common(1)[0][1] >= len(values)


def _with_notes(frames: Sequence[KmemleakFrame], notes: Sequence[tuple[int, KmemleakFrame]]) -> list[KmemleakFrame]:
    below: dict[int, list[KmemleakFrame]] = {}
    for index, note in notes:
        below.setdefault(index, []).append(note)
    merged: list[KmemleakFrame] = []
    for index, frame in enumerate(frames):
        chain = below.get(index, [])
        merged += [note._replace(inline=True) for note in chain[:-1]]
        merged.append(frame._replace(source=chain[-1].source) if chain else frame)
    return merged
