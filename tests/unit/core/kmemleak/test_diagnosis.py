# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import pytest

from kleaktrace.core.kmemleak.diagnosis import (
    KernelEnvironment,
    KmemleakHealth,
    Reason,
    State,
    clears_new_memory,
    diagnosis_of,
    read_message,
)

BUILT = "CONFIG_DEBUG_FS=y\nCONFIG_DEBUG_KMEMLEAK=y\nCONFIG_DEBUG_KMEMLEAK_MEM_POOL_SIZE=16000\n"
NOT_BUILT = "CONFIG_DEBUG_FS=y\n# CONFIG_DEBUG_KMEMLEAK is not set\n"
DEFAULT_OFF = BUILT + "CONFIG_DEBUG_KMEMLEAK_DEFAULT_OFF=y\n"


def why(
    state: State,
    cmdline: str = "",
    config: str | None = BUILT,
    log: list[str] | None = None,
    *,
    lockdown: str = "none",
    privileged: bool = True,
) -> KmemleakHealth:
    health = diagnosis_of(state, KernelEnvironment(cmdline, config, log, lockdown, privileged))
    assert health.state is state
    assert health.fix or state is State.ON
    return health


def test_on_needs_no_reason() -> None:
    assert why(State.ON).reason is None


@pytest.mark.parametrize("state", [State.ABSENT, State.NO_DEBUGFS, State.NO_PERMISSION])
def test_a_kernel_without_kmemleak_is_said_before_anything_that_would_not_help(state: State) -> None:
    health = why(state, config=NOT_BUILT, lockdown="integrity")
    assert health.reason is Reason.NO_CONFIG
    assert "tools/guest" in health.fix


def test_no_file_and_no_config_to_read() -> None:
    assert why(State.ABSENT, config=None).reason is Reason.NO_CONFIG


@pytest.mark.parametrize("config", [BUILT, None])
def test_debugfs_not_mounted(config: str | None) -> None:
    health = why(State.NO_DEBUGFS, config=config)
    assert health.reason is Reason.DEBUGFS_NOT_MOUNTED
    assert health.fix == "mount -t debugfs none /sys/kernel/debug"


def test_debugfs_switched_off_at_boot_cannot_be_mounted() -> None:
    assert "take debugfs=off" in why(State.NO_DEBUGFS, "quiet debugfs=off").fix


def test_permission_and_lockdown() -> None:
    assert why(State.NO_PERMISSION, privileged=False, lockdown="integrity").reason is Reason.NO_PERMISSION
    assert why(State.NO_PERMISSION, lockdown="integrity").reason is Reason.LOCKDOWN
    assert why(State.NO_PERMISSION).reason is Reason.NO_PERMISSION


DISABLED = "kmemleak: Kernel memory leak detector disabled"


@pytest.mark.parametrize(
    ("cmdline", "config", "log", "reason", "evidence"),
    [
        ("quiet kmemleak=off", BUILT, [DISABLED], Reason.BOOT_OFF, "kmemleak=off"),
        ("quiet kmemleak=off", DEFAULT_OFF, [], Reason.BOOT_OFF, "kmemleak=off"),
        ("quiet", DEFAULT_OFF, [DISABLED], Reason.DEFAULT_OFF, "CONFIG_DEBUG_KMEMLEAK_DEFAULT_OFF=y"),
        (
            "",
            BUILT,
            ["kmemleak: Memory pool empty, consider increasing it", "kmemleak: Cannot allocate a …", DISABLED],
            Reason.POOL_TOO_SMALL,
            "kmemleak: Memory pool empty, consider increasing it",
        ),
        (
            "",
            BUILT,
            ["initcall kmemleak_late_init+0x0/0xd0 returned -12 after 7 usecs", DISABLED],
            Reason.POOL_TOO_SMALL,
            "initcall kmemleak_late_init+0x0/0xd0 returned -12 after 7 usecs",
        ),
        (
            "",
            BUILT,
            ["kmemleak: Early log buffer exceeded (1714), please increase DEBUG_KMEMLEAK_EARLY_LOG_SIZE"],
            Reason.EARLY_LOG_EXCEEDED,
            "kmemleak: Early log buffer exceeded (1714), please increase DEBUG_KMEMLEAK_EARLY_LOG_SIZE",
        ),
        (
            "kmemleak=on",
            DEFAULT_OFF,
            [DISABLED, "kmemleak: Cannot allocate a kmemleak_object structure"],
            Reason.DISABLED_AT_RUN_TIME,
            "kmemleak: Cannot allocate a kmemleak_object structure",
        ),
        (
            "",
            BUILT,
            ["kmemleak: Cannot insert 0xffff8882 into the object search tree (overlaps existing)", DISABLED],
            Reason.DISABLED_AT_RUN_TIME,
            "kmemleak: Cannot insert 0xffff8882 into the object search tree (overlaps existing)",
        ),
        ("", BUILT, ["usb 1-1: new device", DISABLED], Reason.DISABLED_AT_RUN_TIME, DISABLED),
        ("", BUILT, ["usb 1-1: new device"], Reason.UNKNOWN, "the kernel log does not say why"),
        ("", None, None, Reason.UNKNOWN, "the kernel log cannot be read"),
    ],
)
def test_why_it_is_off(cmdline: str, config: str | None, log: list[str] | None, reason: Reason, evidence: str) -> None:
    health = why(State.OFF, cmdline, config, log)
    assert (health.reason, health.evidence) == (reason, evidence)


def test_no_file_although_built_in_means_that_it_gave_up_at_boot() -> None:
    assert why(State.ABSENT, log=["kmemleak: Early log buffer exceeded (9)"]).reason is Reason.EARLY_LOG_EXCEEDED


CLEARS = "CONFIG_INIT_ON_ALLOC_DEFAULT_ON=y\n"


@pytest.mark.parametrize(
    ("cmdline", "config", "cleared"),
    [
        ("quiet", CLEARS, True),
        ("quiet", "# CONFIG_INIT_ON_ALLOC_DEFAULT_ON is not set\n", False),
        ("quiet", None, None),
        ("init_on_alloc=1", BUILT, True),
        ("init_on_alloc=off quiet", CLEARS, False),
        ("init_on_alloc=0 init_on_alloc=on", None, True),
    ],
)
def test_whether_new_memory_is_cleared(cmdline: str, config: str | None, cleared: bool | None) -> None:
    assert clears_new_memory(KernelEnvironment(cmdline, config)) is cleared


def test_an_empty_pool_means_another_thing_long_after_boot() -> None:
    line = "kmemleak: Memory pool empty, consider increasing CONFIG_DEBUG_KMEMLEAK_MEM_POOL_SIZE"
    early, late = read_message(f"[    0.5] {line}"), read_message(line, 4000.0)
    assert early is not None
    assert late is not None
    assert (early[0], late[0]) == (Reason.POOL_TOO_SMALL, Reason.DISABLED_AT_RUN_TIME)
    assert "no memory" in late[1]


def test_disabled_before_anybody_could_is_off_from_the_start() -> None:
    found = read_message("[    0.056279] kmemleak: Kernel memory leak detector disabled")
    assert found is not None
    assert found[0] is Reason.DEFAULT_OFF
