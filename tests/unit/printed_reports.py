# SPDX-License-Identifier: GPL-2.0-or-later
"""Made-up suspects, and how each generation of kernels prints them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from hypothesis import strategies as st

from kleaktrace.core.kmemleak.frames import KmemleakFrame
from kleaktrace.core.kmemleak.kmemleak_text import Suspect


@dataclass(frozen=True)
class Generation:
    """What one range of kernels prints (mm/kmemleak.c, `print_unreferenced`)."""

    age: bool = False
    hex_dump: bool = True
    crc: bool = False
    bracket: str = ""  # raw, hashed, ptrval, zeros or nothing
    percpu_tag: bool = False
    percpu_cpu: bool = False


GENERATIONS = {
    "2.6.31": Generation(hex_dump=False, bracket="raw"),
    "4.14": Generation(age=True, bracket="raw"),
    "4.15": Generation(age=True, bracket="ptrval"),
    "6.1": Generation(age=True, bracket="hashed"),
    "6.2": Generation(age=True, bracket="zeros"),
    "6.8": Generation(crc=True, bracket="hashed"),
    "6.13": Generation(crc=True, percpu_cpu=True),
    "6.15": Generation(crc=True, percpu_tag=True, percpu_cpu=True),
}


def render(suspect: Suspect, generation: Generation) -> str:
    tag = f"({suspect.kind}) " if suspect.kind != "slab" and generation.percpu_tag else ""
    age = f" (age {suspect.age_s:.3f}s)" if generation.age else ""
    lines = [
        f"unreferenced object {tag}0x{suspect.address:08x} (size {suspect.size}):",
        f'  comm "{suspect.comm}", pid {suspect.pid}, jiffies {suspect.jiffies}{age}',
    ]
    if generation.hex_dump and suspect.kind != "phys":
        shown = min(suspect.size, 32)
        cpu = " on cpu 1" if suspect.kind == "percpu" else ""
        lines.append(f"  hex dump (first {shown} bytes{cpu}):")
        for start in range(0, shown, 16):
            row = min(16, shown - start)
            lines.append(f"    {' '.join(['62'] * row):<47}  {'b' * row}")
    lines.append(f"  backtrace (crc {suspect.crc:x}):" if generation.crc else "  backtrace:")
    for frame in suspect.frames:
        bracket = {
            "raw": f"[<{0xFFFFFFFF81000000 + (frame.offset or 0):016x}>] ",
            "hashed": "[<00000000abcdef01>] ",
            "ptrval": "[<(____ptrval____)>] ",
            "zeros": "[<0000000000000000>] ",
            "": "",
        }[generation.bracket]
        lines.append(f"    {bracket}{frame.text}")
    return "".join(line + "\n" for line in lines)


def as_printed(suspect: Suspect, generation: Generation) -> Suspect:
    """What can be known of the object from that generation's text."""
    return Suspect(
        suspect.address,
        suspect.size,
        suspect.kind,
        suspect.comm,
        suspect.pid,
        suspect.jiffies,
        suspect.age_s if generation.age else None,
        suspect.crc if generation.crc else None,
        suspect.frames,
    )


def facts(suspect: Suspect) -> tuple[object, ...]:
    frames = tuple((f.symbol, f.offset, f.size, f.module, f.text) for f in suspect.frames)
    return (
        suspect.address,
        suspect.size,
        suspect.kind,
        suspect.comm,
        suspect.pid,
        suspect.jiffies,
        suspect.age_s,
        suspect.crc,
        frames,
    )


# A module whose name is eight hexadecimal digits reads like an address, which some tools print in such brackets.
NO_MODULE = re.compile(r"inline|[0-9a-f]{8}")
module_names = st.from_regex(r"[a-z][a-z0-9_]{0,10}", fullmatch=True).filter(lambda name: not NO_MODULE.fullmatch(name))
names = st.from_regex(r"[a-z_][a-z0-9_.]{0,20}", fullmatch=True)
frames = st.one_of(
    st.builds(
        lambda symbol, offset, extra, module: KmemleakFrame(None, symbol, offset, offset + extra, module),
        names,
        st.integers(0, 0xFFFF),
        st.integers(1, 0xFFFF),
        st.none()
        | st.from_regex(r"[a-z][a-z0-9_]{0,10}", fullmatch=True).filter(lambda name: not NO_MODULE.fullmatch(name)),
    ),
    st.integers(0xFFFFFFFFC0000000, 0xFFFFFFFFC0FFFFFF).map(KmemleakFrame),
)
comms = st.text(
    st.characters(min_codepoint=1, max_codepoint=126), max_size=15
)  # a task names itself: quotes, newlines and escapes included


@st.composite
def suspects(draw: st.DrawFn) -> Suspect:
    return Suspect(
        draw(st.integers(0xFFFF888000000000, 0xFFFFFFFFFFFF0000)),
        draw(st.integers(1, 1 << 20)),
        "slab",
        draw(comms),
        draw(st.integers(0, 1 << 22)),
        draw(st.integers(0, (1 << 64) - 1)),
        draw(st.integers(0, 10**9)) / 1000,
        draw(st.integers(0, (1 << 32) - 1)),
        tuple(draw(st.lists(frames, max_size=16))),
    )
