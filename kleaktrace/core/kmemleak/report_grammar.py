# SPDX-License-Identifier: GPL-2.0-or-later
"""The parts of kmemleak's report (mm/kmemleak.c, `print_unreferenced`), each read from its own line.

Blanks may be of any kind and number, and what follows a part on its line is handed back: people write there.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from kleaktrace.core.kmemleak.frames import NO_ADDRESS, KmemleakFrame, frame_and_rest
from kleaktrace.core.kmemleak.suspect_kind import SuspectKind
from kleaktrace.core.kmemleak.text_lines import MAX_LINE

MOST_COMM = 64
"""A comm has at most 15 bytes (TASK_COMM_LEN); logs write some of them with several characters."""

_WORD = r"(?:unreferenced|(?<![A-Za-z])[A-Za-z]{0,4}ferenced)"
_KIND = r"(?:\((?P<kind>\w{1,16})\)\s*)?"
HEADER = (
    rf"{_WORD}\s+object\s+{_KIND}(?:0x)?(?P<address>(?<=0x)[0-9a-fA-F]{{1,16}}|[0-9a-fA-F]{{8,16}})"
    r"\s*\(\s*size\s+(?P<size>\d{1,20})\s*\)\s?:?"
)
_HEADER = re.compile(HEADER)
_HEADER_SO_FAR = re.compile(
    rf"{_WORD}(?:\s+object(?:\s+(?:\(\w{{1,16}}\)\s*)?(?:(?:0x)?[0-9a-fA-F]{{0,16}}(?:\s*\(\s*(?:s(?:i(?:z(?:e(?:\s+\d{{0,20}})?)?)?)?)?)?)?)?)?\s*$"
)
_CLAIMS_HEADER = re.compile(
    rf"{_WORD}\s+object\s*(?:0x|\((?:percpu|phys|size)|[0-9a-f]{{8}})|^{_WORD}\s+object\s*:?\s*$"
)
_CUT_HEADER = re.compile(rf"{_WORD}\s+object\s*\(?\w{{0,16}}$")

_AGE = r"(?:\s+\(\s*age\s+(?P<age>-?\d{1,12}\.\d{3})\s?s\s*\))?"
COMM_TAIL = rf"\s+pid\s+(?P<pid>-?\d{{1,10}}),?\s+jiffies\s+(?P<jiffies>\d{{1,20}}){_AGE}"
_COMM_START = re.compile(r"comm:?\s+[\"“”„]?")
_COMM = re.compile(rf'comm "(?P<comm>.*)",{COMM_TAIL}\s*$', re.DOTALL)
_QUOTES = "\"'`“”„‟«»‘’\u2033"
COMM = (
    rf"comm:?\s+(?:[{_QUOTES}]+(?P<comm>[^\n]{{0,{MOST_COMM}}}?)[{_QUOTES}]+|(?P<bare>[^\s,&\\][^\n,&\\]{{0,{MOST_COMM}}}?)|(?P<none>))"
    rf"\s*,?{COMM_TAIL}"
)
_LOOSE_COMM = re.compile(COMM)
# A plain quote is closed by one: any other may be of a comm that goes on in the next line.
_COMM_ONLY = re.compile(
    rf"comm:?\s+(?:(?P<plain>\")|[{_QUOTES[1:]}])(?P<comm>[^\n]{{0,{MOST_COMM}}}?)(?(plain)\"|[{_QUOTES}])"
    r"(?:,?\s*pid\s+(?P<pid>\d{1,10}))?(?P<rest>.*)$"
)
_COMM_LAST_PART = re.compile(rf'(?P<comm>.*)",{COMM_TAIL}\s*$')

HEX_HEAD = r"hex\s+dump\s+\(first\s+(?P<bytes>\d{1,9})\s+bytes?(?P<cpu>,?\s+(?:on\s+)?cpu\s+\d{1,9})?\)\s?:"
_HEX_HEAD = re.compile(HEX_HEAD)
_HEX_ROW = re.compile(r"[0-9a-f]{2}(?: [0-9a-f]{2}){0,31}(?=\s|$)")
BACKTRACE = r"backtrace(?:\s+\(crc\s+(?P<crc>[0-9a-fA-F]{1,8})\))?\s?:"
_BACKTRACE = re.compile(BACKTRACE)
MORE = r"\.\.\.\s+and\s+(?P<more>\d{1,10})\s+more\s+object\(s\)\s+with\s+the\s+same\s+backtrace"
_MORE = re.compile(MORE)
_CUT_BY_AUTHOR = re.compile(
    r"(?:\.\.\.|…|\[\s?(?:\.\.\.|…|snip|cut|trimmed|truncated)\s?\]|<snip>|\(\.\.\.\)|-+\s?8<\s?-+)"
    r"(?:\W{0,40}|\s*\d*\s*(?:more|frames|lines|omitted|snip|skipped|removed|etc)\b.{0,40})$",
    re.IGNORECASE,
)
_TAIL = re.compile(
    rf"(?:\s*(?:\[inline\]|\[{NO_ADDRESS}[\w.-]{{1,64}}(?: [0-9a-f]{{8,64}})?\](?:\(\w{{1,8}}\))?|\(discriminator \d+\)"
    r"|\([^\n]{1,1000}:[\d?]{1,9}[^\n]{0,200}\)(?:\s+[A-Za-z_][\w-]{0,63})?|[^\s()\[\]:]{1,512}:(?:\d{1,9}|\?)"
    r"|-{2,}|\\|[}\"',;]+))*\s*$"
)
_REMARK = re.compile(r"\s*(?:<[-=]|[-=]+>|#|//|/\*|\(\*|\[\s*\d{1,10}\.\d{1,9}\]|←|\\n$)")
_GLUED = re.compile(r"(?<=\S)(?:\[\s*\d{1,10}\.\d{1,9}\](?:\s*\[\s*[TC]\d+\])?\s|<\d>\[\s*\d{1,10}\.\d{1,9}\]).*$")


class Header(NamedTuple):
    """The first line of an object: `at` is where it begins on its line, and `rest` what follows it there."""

    at: int
    kind: str | None
    address: int
    size: int
    rest: str


class Comm(NamedTuple):
    """The line that names the task. pid, jiffies and age are None where the line does not tell them."""

    comm: str
    pid: int | None
    jiffies: int | None
    age_s: float | None
    rest: str


class HexHead(NamedTuple):
    """How many bytes the hex dump promises, and whether they are of one processor's copy."""

    promised: int
    on_cpu: bool


def header_in(text: str, start: int = 0) -> Header | None:
    """Find the first line of an object in a line."""
    if "ferenced" not in text:
        return None
    found = _HEADER.search(text, start)
    if found is None:
        return None
    return Header(
        found.start(),
        found["kind"],
        int(found["address"], 16),
        int(found["size"]),
        text[found.end() : found.end() + MAX_LINE].strip(),
    )


def begun_header(text: str) -> int | None:
    """Where the first line of an object begins of which the end of this line holds the first part only."""
    found = _HEADER_SO_FAR.search(text) if "ferenced" in text else None
    return found.start() if found else None


def claims_header(text: str) -> bool:
    """Whether a line looks like the first one of an object, though it cannot be read."""
    return "ferenced" in text and bool(_CLAIMS_HEADER.search(text))


def is_cut_header(text: str) -> bool:
    """Whether a text ends in what may be the first line of an object."""
    return bool(_CUT_HEADER.search(text))


def starts_comm(body: str) -> bool:
    """Whether a line is one that names the task, or its first part."""
    return bool(_COMM_START.match(body))


def comm_of(body: str) -> Comm | None:
    """Read the line that names the task."""
    found = _COMM.match(body)
    if found:
        return _comm(found["comm"], found, "")
    loose = _LOOSE_COMM.match(body)
    if loose:
        comm = loose["comm"] if loose["comm"] is not None else loose["bare"] or ""
        return _comm(comm, loose, body[loose.end() :].strip())
    alone = _COMM_ONLY.match(body)
    if alone:
        return Comm(alone["comm"], int(alone["pid"]) if alone["pid"] else None, None, None, alone["rest"].strip(" ,"))
    return None


def last_part_of_comm(text: str) -> Comm | None:
    """Read the last line of a comm that holds newlines: `comm` is the part of it on this line."""
    found = _COMM_LAST_PART.match(text)
    return _comm(found["comm"], found, "") if found else None


def _comm(comm: str, found: re.Match[str], rest: str) -> Comm:
    return Comm(comm, int(found["pid"]), int(found["jiffies"]), float(found["age"]) if found["age"] else None, rest)


def hex_head_of(body: str) -> HexHead | None:
    """Read the line above a hex dump."""
    found = _HEX_HEAD.match(body)
    return HexHead(int(found["bytes"]), bool(found["cpu"])) if found else None


def hex_row_of(body: str) -> bytes | None:
    """Read the bytes of a row of a hex dump."""
    found = _HEX_ROW.match(body)
    return bytes.fromhex(found[0]) if found else None


def backtrace_of(body: str) -> tuple[int | None, str] | None:
    """Read the line above a backtrace: its checksum, if it has one, and what follows on the line."""
    found = _BACKTRACE.match(body)
    if found is None:
        return None
    return int(found["crc"], 16) if found["crc"] else None, body[found.end() :].strip()


def more_of(body: str) -> int | None:
    """Read the line that counts further objects."""
    found = _MORE.match(body)
    return int(found["more"]) if found else None


def is_cut(body: str) -> bool:
    """Whether an author has left out what follows, and says so."""
    return bool(_CUT_BY_AUTHOR.match(body))


def frame_of(body: str) -> KmemleakFrame | None:
    """Read a line of a backtrace; None if it is no frame, or there is more on the line than belongs to one."""
    found = frame_and_rest(body)
    if found is None:
        return None
    frame, rest = found
    return frame if not rest or _TAIL.match(rest) or is_remark(rest) else None


def is_remark(rest: str) -> bool:
    """Whether what stands behind a line is somebody's remark, or a message of the kernel that came between."""
    return bool(_REMARK.match(rest))


def without_glued(text: str) -> tuple[str, str]:
    """Part a line from a message of the kernel that begins in its middle; "" if there is none."""
    found = _GLUED.search(text) if "." in text else None
    return (text[: found.start()], found[0]) if found else (text, "")


def kind_from(printed: str | None, on_cpu: bool) -> SuspectKind | None:
    """By the header's own word, else by whether the hex dump is of one processor; None if the word is not known."""
    if printed is None:
        return SuspectKind.PERCPU if on_cpu else SuspectKind.SLAB
    return SuspectKind(printed) if printed in list(SuspectKind) else None
