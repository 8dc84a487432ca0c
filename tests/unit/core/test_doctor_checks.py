# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

from kleaktrace.core.doctor_checks import Check, Health


def test_a_check_needs_no_fix_and_its_health_reads_as_a_word() -> None:
    check = Check("BTF", Health.OK, "/sys/kernel/btf/vmlinux")
    assert check.fix == ""
    assert [str(health) for health in Health] == ["ok", "missing", "broken"]
