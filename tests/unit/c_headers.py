# SPDX-License-Identifier: GPL-2.0-or-later
"""What the C sources of bpf/ say, as the C compiler understands them."""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

from kleaktrace.edge.bpf import program_cache

BPF = Path(__file__).resolve().parents[2] / "bpf"

_PRELUDE = """
#include <stddef.h>
#include <stdio.h>
#include <string.h>
typedef unsigned char u8; typedef unsigned short u16; typedef unsigned int u32; typedef unsigned long long u64;
typedef signed short s16; typedef signed int s32; typedef signed long long s64;
#define MODULE_NAME_OFFSET 0
#define bpf_probe_read_kernel_str(to, size, from) strncpy((char *)(to), (from), (size) - 1)
"""


@cache
def program_names() -> frozenset[str]:
    """What the functions are called that the kernel is given to run: bcc names those of KFUNC_PROBE and KRETFUNC_PROBE.

    Where a macro stands for the kernel's function, so it does in the name.
    """
    text = "\n".join(source.read_text() for source in sorted(BPF.glob("*.[ch]")))
    text = re.sub(r"^#define.*?(?<!\\)$", "", text, flags=re.DOTALL | re.MULTILINE)
    found = set(re.findall(r"^int (\w+)\((?:struct \w+|unsigned long long|void) \*ctx\)$", text, re.MULTILINE))
    for probe, name in re.findall(r"^RECORD_FREE_ONCE\((KFUNC|KRETFUNC)_PROBE, (\w+)", text, re.MULTILINE):
        found |= {f"{probe.lower()}__{name}", f"second_{name}"}
    found |= {f"kfunc__{name}" for name in re.findall(r"^KFUNC_PROBE\((\w+)", text, re.MULTILINE)}
    by_return = r"^(?:KRETFUNC_PROBE|ON_(?:BULK_|BULK_PAGES_)?RETURN)\((\w+)"
    found |= {f"kretfunc__{name}" for name in re.findall(by_return, text, re.MULTILINE)}
    for event in re.findall(r"^RECORD_ONCE\((\w+)", text, re.MULTILINE):
        found |= {f"first_{event}", f"second_{event}"}
    return frozenset(found)


@dataclass(frozen=True)
class Structure:
    """The members of a structure, by name: (offset, size); and its own size."""

    members: dict[str, tuple[int, int]]
    size: int


@dataclass(frozen=True)
class CSide:
    """Sources that are compiled as one."""

    sources: tuple[str, ...]

    @cached_property
    def text(self) -> str:
        """All of them, without comments."""
        return "\n".join(re.sub(r"/\*.*?\*/", "", (BPF / name).read_text(), flags=re.DOTALL) for name in self.sources)

    @cached_property
    def structures(self) -> dict[str, str]:
        """The text of every structure, by name."""
        return self._blocks("struct")

    @cached_property
    def enums(self) -> dict[str, str]:
        """The text of every enum, by name."""
        return self._blocks("enum")

    def _blocks(self, kind: str) -> dict[str, str]:
        found = re.finditer(rf"^{kind} (\w+) \{{(?:[^\n]*\}}|.*?^\}});", self.text, re.DOTALL | re.MULTILINE)
        return {one[1]: one[0] for one in found}

    def enumerators(self, name: str) -> list[str]:
        """The names in an enum, in order."""
        body = self.enums[name].partition("{")[2].rpartition("}")[0]
        return [item.split("=")[0].strip() for item in body.split(",") if item.strip()]

    def members(self, structure: str) -> list[str]:
        """The names of a structure's members, those of structures without a name among them."""
        body = self.structures[structure].partition("{")[2].rpartition("}")[0]
        body = re.sub(r"struct \{|union \{|\};", "", body)
        declared = re.findall(r"\b(?:struct \w+|char|[us]\d+)\s+([\w,\s\[\]+*/]+);", body)
        return [name.partition("[")[0].strip() for names in declared for name in names.split(",")]

    def constants(self) -> str:
        """Every constant that is a number, or made of numbers."""
        return "\n".join(re.findall(r"^#define [A-Z_]+ [(\d][\w() <+*-]*$", self._trimmed, re.MULTILINE))

    @property
    def _trimmed(self) -> str:
        return re.sub(r"\s+$", "", self.text, flags=re.MULTILINE)

    def function(self, name: str) -> str:
        """The text of an inline function."""
        found = re.search(rf"^INLINE [^\n]*\b{name}\(.*?^\}}", self.text, re.DOTALL | re.MULTILINE)
        assert found, f"there is no function {name}"
        return found[0]

    def values(self, *expressions: str, functions: Sequence[str] = ()) -> list[int]:
        """What C expressions are, of 64 bits; they may call `functions`."""
        prints = [f'printf("%llu\\n", (unsigned long long)({one}));' for one in expressions]
        return [int(line) for line in self._run([*map(self.function, functions)], prints)]

    def layouts(self, structures: Sequence[str]) -> dict[str, Structure]:
        """How structures lie in memory. Those that they are made of come before them."""
        prints = []
        for name in structures:
            of = f"struct {name}"
            prints.append(f'printf("[\\"{name}\\", \\"\\", 0, %zu]\\n", sizeof({of}));')
            prints += [
                f'printf("[\\"{name}\\", \\"{member}\\", %zu, %zu]\\n", offsetof({of}, {member}), '
                f"sizeof((({of} *)0)->{member}));"
                for member in self.members(name)
            ]
        told = [json.loads(line) for line in self._run([self.structures[name] for name in structures], prints)]
        return {
            name: Structure({member: (at, size) for of, member, at, size in told if of == name and member}, whole)
            for name, empty, _, whole in told
            if not empty
        }

    def _run(self, parts: Sequence[str], statements: Sequence[str]) -> list[str]:
        """What a program with these statements prints, which knows all constants and enums."""
        head = [_PRELUDE, (BPF / "base.h").read_text(), self.constants(), *self.enums.values()]
        source = "\n".join([*head, *parts, "int main(void) {", *statements, "return 0; }"])
        with tempfile.TemporaryDirectory() as directory:
            program = Path(directory, "says")
            subprocess.run(["cc", "-w", "-x", "c", "-o", program, "-"], input=source, text=True, check=True)
            return subprocess.run([program], capture_output=True, text=True, check=True).stdout.splitlines()


TRACING = CSide(program_cache.TRACER)
INJECTION = CSide(program_cache.INJECTION)
