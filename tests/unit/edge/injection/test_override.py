# SPDX-License-Identifier: GPL-2.0-or-later
"""What bpf/inject.c and its user space agree on, as the C compiler has it."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from kleaktrace.core.evidence.injected_runs import Asked
from kleaktrace.core.injection.aim import Aim
from kleaktrace.core.symbols.symbol_table import parse_kallsyms
from kleaktrace.edge.injection import override
from kleaktrace.edge.tracing.abi import Layout

BPF = Path(__file__).resolve().parents[4] / "bpf"

_PRELUDE = """
#include <stddef.h>
#include <stdio.h>
#include <string.h>
typedef unsigned char u8; typedef unsigned int u32; typedef unsigned long long u64; typedef signed long long s64;
"""

_HASH = """
static u64 name_hash_of(const char *text)
{
	u64 name[NAME_WORDS] = {}, hash = 0;

	strncpy((char *)name, text, sizeof(name) - 1);
	for (u32 i = 0; i < NAME_WORDS; i++)
		hash = mix(hash ^ name[i]);
	return hash | 2;
}
"""


def c_says(directory: Path, *expressions: str) -> list[int]:
    """What expressions are, with the structures, enums, constants and helpers of the C side."""
    text = (BPF / "inject.c").read_text()
    defines = "\n".join(re.findall(r"^#define [A-Z_]+ [^\\\n]+$", text, re.MULTILINE))
    blocks = re.findall(r"^(?:struct|enum) \w+ \{[^}]*\};", text, re.MULTILINE)
    prints = "\n".join(f'printf("%llu\\n", (unsigned long long)({one}));' for one in expressions)
    source = directory / "says.c"
    source.write_text(
        "\n".join([_PRELUDE, (BPF / "base.h").read_text(), defines, *blocks, _HASH, f"int main(void) {{ {prints} }}"])
    )
    subprocess.run(["gcc", "-w", "-o", directory / "says", source], check=True)
    told = subprocess.run([directory / "says"], check=True, capture_output=True, text=True).stdout
    return [int(line) for line in told.splitlines()]


def test_a_failure_lies_as_the_programs_write_it(tmp_path: Path) -> None:
    members = [*override.FAILURE.members, "frames"]
    found = c_says(tmp_path, *(f"offsetof(struct injected_failure, {name})" for name in members))
    ours = [
        Layout("", **dict(list(override.FAILURE.members.items())[:number])).size
        for number in range(len(override.FAILURE.members) + 1)
    ]
    assert found == ours
    assert c_says(tmp_path, "sizeof(struct injected_failure)") == [override.FAILURE.size + 8 * override.DEPTH]


def test_constants_and_enums_are_the_same(tmp_path: Path) -> None:
    assert c_says(tmp_path, "MOST_STACKS", "INIT", "KERNEL", "FUNCTIONS", "MACHINERY", "SLAB", "PAGES") == [
        *(override.MOST_STACKS, override._INIT, override._KERNEL, override._RANGES, override._MACHINERY_RANGES),
        *(list(Asked).index(Asked.SLAB), list(Asked).index(Asked.PAGES)),
    ]
    assert c_says(tmp_path, "COUNT", "NEXT", "CHOSEN", "NTH", "PASSED", "NOTED", "LOADED") == [
        *(override._MODES[aim] for aim in (Aim.NOTHING, Aim.NEXT, Aim.CHOSEN, Aim.NUMBER)),
        *(override._PASSED, override._NOTED, override._LOADED),
    ]


def test_an_order_has_as_many_words_as_are_written(tmp_path: Path) -> None:
    assert c_says(tmp_path, "sizeof(struct injection_order) / 8") == [override.ORDER_WORDS]


@pytest.mark.parametrize("name", ["vkms", "inject_paths", "a" * 55])
def test_modules_have_the_same_hash_on_both_sides(name: str, tmp_path: Path) -> None:
    assert c_says(tmp_path, f'name_hash_of("{name}")') == [override.name_hash(name)]


def test_a_kernel_without_what_is_to_be_overridden_is_known(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    listed = tmp_path / "list"
    listed.write_text("should_failslab\tERRNO\n__x64_sys_open\tERRNO\n")
    monkeypatch.setattr(override, "INJECTABLE", listed)
    assert override.injectable() == {"should_failslab", "__x64_sys_open"}


def test_modules_that_are_loaded_already_are_known_by_their_text(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    modules = tmp_path / "modules"
    modules.write_text("vkms 40960 1 - Live 0xffffffffc0300000\ndrm 700000 2 vkms, Live 0x0000000000000000 (E)\n")
    monkeypatch.setattr(override, "MODULES", modules)
    assert override.loaded_modules() == [("vkms", 0xFFFFFFFFC0300000), ("drm", 0)]
    table = parse_kallsyms(b"ffffffffc0300100 t a\t[vkms]\nffffffffc0302000 t b\t[vkms]\nffffffff81000000 T c\n")
    assert override._module_text(table) == {"vkms": (0xFFFFFFFFC0300100, 0xFFFFFFFFC0302000)}
