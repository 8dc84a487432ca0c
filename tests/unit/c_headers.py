# SPDX-License-Identifier: GPL-2.0-or-later
"""What the C headers of bpf/ say, as the C compiler understands them."""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path

BPF = Path(__file__).resolve().parents[2] / "bpf"
SOURCES = ("records.h", "maps.h", "stack_paths.h", "objects.c", "modules.c", "slab.c", "events.h", "pages.c")

_PRELUDE = """
#include <stddef.h>
#include <stdio.h>
typedef unsigned char u8; typedef unsigned short u16; typedef unsigned int u32; typedef unsigned long long u64;
typedef signed short s16; typedef signed int s32; typedef signed long long s64;
"""


@cache
def definitions() -> tuple[dict[str, str], dict[str, str]]:
    """The text of every structure and of every enum, by name."""
    text = "\n".join(re.sub(r"/\*.*?\*/", "", (BPF / name).read_text(), flags=re.DOTALL) for name in SOURCES)
    structures = {m[1]: m[0] for m in re.finditer(r"^struct (\w+) \{.*?^\};", text, re.DOTALL | re.MULTILINE)}
    enums = {m[1]: m[0] for m in re.finditer(r"^enum (\w+) \{.*?\};", text, re.DOTALL | re.MULTILINE)}
    return structures, enums


@cache
def program_names() -> frozenset[str]:
    """What the functions are called that the kernel is given to run: bcc names those of KFUNC_PROBE and KRETFUNC_PROBE.

    Where a macro stands for the kernel's function, so it does in the name.
    """
    text = "\n".join(source.read_text() for source in sorted(BPF.glob("*.[ch]")))
    text = re.sub(r"^#define.*?(?<!\\)$", "", text, flags=re.DOTALL | re.MULTILINE)
    found = set(re.findall(r"^int (\w+)\((?:struct \w+|void) \*ctx\)$", text, re.MULTILINE))
    found |= {f"kfunc__{name}" for name in re.findall(r"^KFUNC_PROBE\((\w+)", text, re.MULTILINE)}
    by_return = r"^(?:KRETFUNC_PROBE|ON_(?:BULK_|BULK_PAGES_)?RETURN)\((\w+)"
    found |= {f"kretfunc__{name}" for name in re.findall(by_return, text, re.MULTILINE)}
    for event in re.findall(r"^RECORD_ONCE\((\w+)", text, re.MULTILINE):
        found |= {f"first_{event}", f"second_{event}"}
    return frozenset(found)


def constants() -> str:
    """Every constant that is a plain number."""
    text = "\n".join((BPF / name).read_text() for name in SOURCES)
    return "\n".join(re.findall(r"^#define [A-Z_]+ \(?(?:0x)?[0-9a-fA-F]+(?:ULL)?\)?(?= |$)", text, re.MULTILINE))


def enumerators(name: str) -> list[str]:
    """The names in an enum, in order."""
    body = definitions()[1][name].partition("{")[2].rpartition("}")[0]
    return [item.split("=")[0].strip() for item in body.split(",") if item.strip()]


def compiled(
    structures: Mapping[str, Iterable[str]], expressions: Sequence[str], shared: Sequence[str]
) -> tuple[dict[str, dict[str, tuple[int, int]]], dict[str, int], dict[str, int]]:
    """(offset, size) of the members asked for, the values of expressions, and the sizes of the structures."""
    known, enums = definitions()
    prints = [
        f'printf("{{\\"of\\": \\"{structure}.{member}\\", \\"offset\\": %zu, \\"size\\": %zu}}\\n", '
        f"offsetof(struct {structure}, {member}), sizeof(((struct {structure} *)0)->{member}));"
        for structure, members in structures.items()
        for member in members
    ]
    prints += [f'printf("{{\\"value\\": \\"{one}\\", \\"is\\": %lld}}\\n", (long long)({one}));' for one in expressions]
    prints += [
        f'printf("{{\\"struct\\": \\"{one}\\", \\"size\\": %zu}}\\n", sizeof(struct {one}));' for one in structures
    ]
    parts = [_PRELUDE, constants(), *enums.values(), *(known[name] for name in shared)]
    source = "\n".join([*parts, "int main(void) {", *prints, "return 0; }"])
    with tempfile.TemporaryDirectory() as directory:
        program = Path(directory, "layouts")
        subprocess.run(["cc", "-x", "c", "-o", program, "-"], input=source, text=True, check=True)
        lines = subprocess.run([program], capture_output=True, text=True, check=True).stdout.splitlines()
    told = [json.loads(line) for line in lines]
    members: dict[str, dict[str, tuple[int, int]]] = {name: {} for name in structures}
    for one in told:
        if "of" in one:
            structure, member = one["of"].split(".")
            members[structure][member] = (one["offset"], one["size"])
    values = {one["value"]: one["is"] for one in told if "value" in one}
    return members, values, {one["struct"]: one["size"] for one in told if "struct" in one}
