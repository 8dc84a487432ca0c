# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

from reports import EVIL, console, printed

from kleaktrace.core.doctor_checks import Check, Health, Mount
from kleaktrace.views.documents.doctor import document
from kleaktrace.views.terminal.doctor import show

CHECKS = [
    Check("BTF", Health.OK, "/sys/kernel/btf/vmlinux"),
    Check("probe: vmalloc", Health.MISSING, "these are not seen\nfexit: refused", "boot with lockdown=none"),
]


def shown(checks: list[Check], width: int = 100) -> str:
    screen = console(width)
    show(screen, checks)
    return printed(screen)


def test_findings_stand_in_columns_with_their_fixes_below() -> None:
    assert shown(CHECKS) == (
        "ok      BTF             /sys/kernel/btf/vmlinux\n"
        "missing probe: vmalloc  these are not seen\n"
        "                        fexit: refused\n"
        "                        fix: boot with lockdown=none\n"
        "\n"
        "Tracing works here. Missing: vmalloc.\n"
        "To do first, for vmalloc: boot with lockdown=none\n"
    )
    assert shown(CHECKS, width=20) == shown(CHECKS), "nothing is cut"


def test_what_is_broken_comes_last_in_words_and_what_to_do_first() -> None:
    checks = [*CHECKS, Check("privilege", Health.BROKEN, "not root", "run it with sudo")]
    end = "\nTracing does not work here: privilege.\nTo do first, for privilege: run it with sudo\n"
    assert shown(checks).endswith(end)


def test_what_can_be_done_at_once_is_said() -> None:
    mount = Mount("debugfs", "/sys/kernel/debug")
    checks = [*CHECKS, Check("debugfs", Health.MISSING, "not mounted", mount.command, mount)]
    first = "mount -t debugfs none /sys/kernel/debug (kleaktrace doctor --fix does it)"
    assert shown(checks).endswith(f"\nTo do first, for debugfs: {first}\n")


def test_nothing_missing() -> None:
    assert shown(CHECKS[:1]).endswith("\nEverything works here.\n")


def test_findings_from_the_kernel_are_made_safe() -> None:
    text = shown([Check("BTF", Health.MISSING, f"{EVIL}\n{EVIL}", EVIL)])
    assert text.count("\\x1b[2J\\x1b]0;owned\\x07") == 4
    assert all(line.isprintable() for line in text.split("\n"))


def test_the_document_says_whether_tracing_works() -> None:
    assert document(CHECKS) == {
        "checks": [
            {"name": "BTF", "health": "ok", "found": "/sys/kernel/btf/vmlinux", "fix": ""},
            {
                "name": "probe: vmalloc",
                "health": "missing",
                "found": "these are not seen\nfexit: refused",
                "fix": "boot with lockdown=none",
            },
        ],
        "first": {"name": "probe: vmalloc", "fix": "boot with lockdown=none"},
        "tracing": True,
    }
    assert document(CHECKS[:1])["first"] is None
    assert document([Check("x", Health.BROKEN, "")])["tracing"] is False
