# SPDX-License-Identifier: GPL-2.0-or-later
"""What BPF overrides: names of modules as bpf/inject.c has them, and what is there to be overridden."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

import pytest
from c_headers import INJECTION

from kleaktrace.core.evidence.injected_runs import Asked
from kleaktrace.core.injection.aim import Aim
from kleaktrace.core.symbols.symbol_table import Frame, FunctionPlace, parse_kallsyms
from kleaktrace.edge.injection import override
from kleaktrace.edge.injection.abi import DEPTH, FAILURE, KERNEL, ORDER, PLACE_RANGE, Injected, Mode, State
from kleaktrace.edge.injection.override import OverrideInjector


@pytest.mark.parametrize("name", ["vkms", "inject_paths", "a" * 55])
def test_modules_have_the_same_hash_on_both_sides(name: str) -> None:
    assert INJECTION.values(f'name_hash((u64)"{name}")', functions=["name_hash"]) == [override.name_hash(name)]


def test_every_aim_has_its_mode_and_whatever_is_asked_for_its_name() -> None:
    assert list(override._MODES) == list(Aim)
    assert set(override._ASKED) == set(Injected)
    assert set(override._ASKED.values()) == set(Asked)


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


class MadeUpObject:
    """Keeps elements of arrays, as `BpfObject` does in the kernel."""

    def __init__(self) -> None:
        self.elements: dict[tuple[str, int], bytes] = {}

    def set_element(self, name: str, index: int, value: bytes) -> None:
        self.elements[name, index] = value

    def element(self, name: str, index: int, size: int) -> bytes:
        value = self.elements[name, index]
        assert len(value) == size
        return value

    def set_words(self, name: str, index: int, *words: int) -> None:
        self.set_element(name, index, struct.pack(f"={len(words)}Q", *words))

    def words(self, name: str, index: int, length: int) -> tuple[int, ...]:
        return struct.unpack(f"={length}Q", self.element(name, index, 8 * length))


@pytest.fixture
def injector() -> OverrideInjector:
    """One that is attached to nothing."""
    made = OverrideInjector.__new__(OverrideInjector)
    made._bpf = MadeUpObject()  # type: ignore[assignment]
    made._module, made._kernel_text, made._bases = "drv", 0x1000, {}
    made._functions, made._any_text, made._machinery = [], False, [(0x5000, 0x20)]
    made._run, made._aim = 0, Aim.NOTHING
    return made


def test_an_order_says_what_is_to_fail(injector: OverrideInjector) -> None:
    injector.only_through([FunctionPlace("", 0x1400, 0x80)])
    injector.begin(6, Aim.CHOSEN, 77)
    order = injector._bpf.element("orders", 0, ORDER.size)
    mode, run, wanted, module, any_text, functions, machinery = ORDER.unpack(order)
    assert (mode, run, wanted, module, any_text) == (Mode.CHOSEN, 7, 77, override.name_hash("drv"), 0)
    assert PLACE_RANGE.unpack_from(functions) == (KERNEL, 0x400, 0x80)
    assert not any(functions[PLACE_RANGE.size :])
    assert struct.unpack_from("=2Q", machinery) == (0x5000, 0x20)
    assert [injector._bpf.words("state", place, 1) for place in (State.PASSED, State.NOTED)] == [(0,), (0,)]


def test_what_failed_is_read_as_the_programs_wrote_it(injector: OverrideInjector) -> None:
    injector.begin(1, Aim.NEXT)
    injector._bpf.set_words("state", State.NOTED, 1)
    told = FAILURE.pack(2, 123, 99, 256, 42, 43, Injected.PAGES, 2, b"modprobe\0old")
    frames = struct.pack(f"={DEPTH}Q", 0xA0, 0xB0, *[0xDEAD] * (DEPTH - 2))
    injector._bpf.set_element("failures", 0, told + frames)
    named: list[object] = []

    def name(stacks: Sequence[tuple[int, Sequence[int]]]) -> list[list[Frame]]:
        named.extend((time_ns, list(addresses)) for time_ns, addresses in stacks)
        return [[Frame(0xA0, "drv_probe", 0, 8, "drv")]]

    failed = injector.end(name).failed
    assert named == [(123, [0xA0, 0xB0])]
    assert failed is not None
    assert (failed.time_ns, failed.bytes, failed.asked, failed.key) == (123, 256, Asked.PAGES, 99)
    assert (failed.comm, failed.pid) == ("modprobe", 42)
    assert ORDER.unpack(injector._bpf.element("orders", 0, ORDER.size))[0] == Mode.OFF
