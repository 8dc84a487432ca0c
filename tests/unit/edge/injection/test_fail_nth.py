# SPDX-License-Identifier: GPL-2.0-or-later
"""Failures by number: settings, who gets the number, and what the kernel's log tells of it."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from kleaktrace.core.evidence.injected_runs import Asked
from kleaktrace.core.injection.aim import Aim
from kleaktrace.edge.injection import fail_nth
from kleaktrace.edge.injection.fail_nth import FailNthInjector, forced_failure
from kleaktrace.errors import EnvironmentRefusal

# Linux 6.12, x86-64.
LOG = """\
FAULT_INJECTION: forcing a failure.
name failslab, interval 1, probability 0, space 0, times 0
CPU: 1 UID: 0 PID: 77 Comm: insmod Tainted: G           O       6.12.117-kleaktrace #1
Call Trace:
 <TASK>
 dump_stack_lvl+0x53/0x70
 should_fail_ex+0x10d/0x120
 should_failslab+0x4a/0x60
 ? init_once+0x10/0x20
 __kmalloc_cache_noprof+0x51/0x2b0
 alloc_ctx+0x31/0x40 [inject_paths]
 inject_paths_init+0xf/0xff0 [inject_paths]
 do_one_initcall+0x53/0x1c0
 </TASK>
 not_of_it+0x1/0x2
""".splitlines()


class NoLog:
    def __init__(self, from_end: bool = False) -> None:
        """Nothing is said."""

    def __enter__(self) -> NoLog:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is open."""

    def lines(self) -> list[str]:
        return []


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("proc/self/fail-nth", "proc/77/fail-nth", "debug/failslab/ignore-gfp-wait"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text("Y\n" if "debug" in name else "0\n")
    monkeypatch.setattr(fail_nth, "KernelLog", NoLog)
    return tmp_path


def test_the_log_tells_which_call_failed() -> None:
    failed = forced_failure(["something before", *LOG])
    assert failed is not None
    assert failed.stack == (
        "alloc_ctx+0x31/0x40 [inject_paths]",
        "inject_paths_init+0xf/0xff0 [inject_paths]",
        "do_one_initcall+0x53/0x1c0",
    )
    assert failed.asked is Asked.SLAB
    assert forced_failure(LOG[1:]) is None


def test_a_module_s_build_id_is_no_part_of_its_name() -> None:
    log = [line.replace("]", f" {'0123456789' * 4}]") for line in LOG]
    assert any("0123456789" in line for line in log)
    told, plain = forced_failure(log), forced_failure(LOG)
    assert told is not None
    assert plain is not None
    assert told.stack == plain.stack


def test_settings_are_put_back(machine: Path) -> None:
    setting = machine / "debug/failslab/ignore-gfp-wait"
    injector = FailNthInjector(machine / "proc", machine / "debug")
    assert setting.read_text() == "N"
    injector.close()
    assert setting.read_text() == "Y\n"


def test_the_command_gets_the_number_and_becomes_what_it_is(machine: Path) -> None:
    injector = FailNthInjector(machine / "proc", machine / "debug")
    injector.begin(0, Aim.NOTHING)
    assert injector.command(["insmod", "x.ko"]) == ["insmod", "x.ko"]
    injector.begin(1, Aim.NUMBER, 12)
    assert injector.command(["insmod", "x.ko"])[2:] == (
        'echo 12 > /proc/self/fail-nth && exec "$@"',
        *("sh", "insmod", "x.ko"),
    )


def test_a_failure_without_a_word_is_known_by_the_count(machine: Path) -> None:
    injector = FailNthInjector(machine / "proc", machine / "debug")
    injector.begin(1, Aim.NUMBER, 12)
    injector.exited(77)
    assert injector.end(lambda stacks: []).failed is not None
    (machine / "proc/77/fail-nth").write_text("3\n")
    injector.begin(2, Aim.NUMBER, 13)
    injector.exited(77)
    assert injector.end(lambda stacks: []).failed is None


def test_settings_that_lockdown_keeps_are_a_refusal_and_the_others_as_they_were(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {file: file.read_text() for file in (machine / "debug").rglob("*") if file.is_file()}
    read_text = Path.read_text

    def locked(file: Path) -> str:
        if file.parent.name == "fail_page_alloc":
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
        return read_text(file)

    monkeypatch.setattr(Path, "read_text", locked)
    with pytest.raises(EnvironmentRefusal, match="Operation not permitted"):
        FailNthInjector(machine / "proc", machine / "debug")
    monkeypatch.undo()
    assert {file: file.read_text() for file in before} == before


def test_a_kernel_without_it_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentRefusal, match="fail-nth"):
        FailNthInjector(tmp_path, tmp_path)
