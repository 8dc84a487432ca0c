# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

from dataclasses import replace

from kleaktrace.core.doctor_checks import Check, Health, first_step


def test_a_check_needs_no_fix_and_its_health_reads_as_a_word() -> None:
    check = Check("BTF", Health.OK, "/sys/kernel/btf/vmlinux")
    assert check.fix == ""
    assert [str(health) for health in Health] == ["ok", "missing", "broken"]


def check(name: str, health: Health, fix: str = "do it") -> Check:
    return Check(name, health, "found", fix)


def test_what_to_do_first() -> None:
    good, tracefs, kmemleak = (
        check("BTF", Health.OK),
        check("tracefs", Health.MISSING),
        check("kmemleak", Health.MISSING),
    )
    debugfs, lockdown = check("debugfs", Health.MISSING), check("lockdown", Health.BROKEN)
    assert first_step([good, tracefs, debugfs, kmemleak, lockdown]) is lockdown
    assert first_step([good, tracefs, debugfs, kmemleak]) is debugfs
    assert first_step([good, tracefs, kmemleak]) is kmemleak
    assert first_step([good, tracefs]) is tracefs
    built_without = replace(kmemleak, needs_boot=True)
    assert first_step([good, debugfs, built_without]) is built_without, "a mount gains nothing there"
    assert first_step([good, tracefs, lockdown, built_without]) is lockdown
    assert first_step([good, check("context", Health.MISSING, fix="")]) is None
