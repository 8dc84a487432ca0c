# SPDX-License-Identifier: GPL-2.0-or-later
"""Decides why kmemleak can or cannot be used, from what the edge has read; `doctor` and `kmemleak status` say it.

Messages are those of mm/kmemleak.c; older kernels' are kept, for logs that people bring along.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum


class State(Enum):
    """What the probe of /sys/kernel/debug/kmemleak found."""

    ON = "on"
    OFF = "off"
    ABSENT = "absent"  # debugfs is there, the file is not
    NO_DEBUGFS = "debugfs not mounted"
    NO_PERMISSION = "no permission"


class Reason(Enum):
    """Why kmemleak cannot be used."""

    NO_CONFIG = "no_config"
    DEFAULT_OFF = "default_off"
    BOOT_OFF = "boot_off"
    POOL_TOO_SMALL = "pool_too_small"
    EARLY_LOG_EXCEEDED = "early_log_exceeded"
    DISABLED_AT_RUN_TIME = "disabled_at_run_time"
    DEBUGFS_NOT_MOUNTED = "debugfs_not_mounted"
    NO_PERMISSION = "no_permission"
    LOCKDOWN = "lockdown"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class KmemleakHealth:
    """State and, unless on, its reason: `what` in one line, the `evidence` line it rests on, the `fix` to type."""

    state: State
    reason: Reason | None
    what: str
    evidence: str = ""
    fix: str = ""


@dataclass(frozen=True, slots=True)
class KernelEnvironment:
    """What the edge read: the kernel's command line, its config and log (None: not readable), its lockdown mode, and
    whether we are root.
    """

    cmdline: str = ""
    config: str | None = None
    log: Sequence[str] | None = None
    lockdown: str = "none"
    privileged: bool = True


_PRINTK_TIME = re.compile(r"\s*(?:<\d+>)?\[\s*(\d{1,10}\.\d{1,9})\]")
_GUEST = "tools/guest -- CMD boots one under QEMU"
_REBOOT_ON = (
    "add kmemleak=on to the kernel's command line (GRUB_CMDLINE_LINUX in /etc/default/grub, update-grub) and reboot"
)
_LOG_REASONS: tuple[tuple[re.Pattern[str], Reason, str, str], ...] = (
    (
        re.compile(r"Early log buffer exceeded"),
        Reason.EARLY_LOG_EXCEEDED,
        "kmemleak gave up at boot: its early log was too small",
        "build the kernel with a larger CONFIG_DEBUG_KMEMLEAK_EARLY_LOG_SIZE",
    ),
    (
        re.compile(r"Memory pool empty|kmemleak_late_init.*(?:-12\b|failed|ENOMEM)"),
        Reason.POOL_TOO_SMALL,
        "kmemleak gave up: its memory pool was too small (-12)",
        "build the kernel with a larger CONFIG_DEBUG_KMEMLEAK_MEM_POOL_SIZE (16000 is common, 40000 is plenty)",
    ),
    (
        re.compile(r"Cannot allocate a kmemleak_object structure"),
        Reason.DISABLED_AT_RUN_TIME,
        "kmemleak disabled itself: no memory for its own records",
        "give the machine more memory, then reboot: kmemleak cannot be switched on again",
    ),
    (
        re.compile(r"Cannot insert .*into the object search tree"),
        Reason.DISABLED_AT_RUN_TIME,
        "kmemleak disabled itself: two allocations overlap, which is a bug of the kernel or of a module",
        "report the stack below that line to its authors; reboot to have kmemleak again",
    ),
    (
        re.compile(r"Kernel memory leak detector disabled|Kmemleak disabled without freeing"),
        Reason.DISABLED_AT_RUN_TIME,
        "kmemleak was disabled at run time",
        "reboot: kmemleak cannot be switched on again",
    ),
)
_POOL_EMPTY = re.compile(r"Memory pool empty")
_DETECTOR_DISABLED = re.compile(r"Kernel memory leak detector disabled")
_BOOT_S = 60.0
"""Until then the kernel boots; the memory pool is for the time before its allocators work."""
_START_S = 5.0
"""Before that, nobody can have switched kmemleak off but the kernel's configuration or command line."""


def read_message(line: str, time_s: float | None = None) -> tuple[Reason, str, str] | None:
    """Return reason, what and fix if a line of the kernel log says why kmemleak is off.

    time_s: seconds since boot; None if they are not known, or stand in the line.
    """
    if time_s is None:
        printed = _PRINTK_TIME.match(line)
        time_s = float(printed[1]) if printed else None
    if time_s is not None and time_s > _BOOT_S and _POOL_EMPTY.search(line):
        return (
            Reason.DISABLED_AT_RUN_TIME,
            "kmemleak disabled itself: the machine had no memory for its records, and the pool for that was used up",
            "give the machine more memory, or find what uses it up (`kleaktrace rates`); reboot to have kmemleak again",
        )
    if time_s is not None and time_s < _START_S and _DETECTOR_DISABLED.search(line):
        return (
            Reason.DEFAULT_OFF,
            "kmemleak was off from the start: configured so (CONFIG_DEBUG_KMEMLEAK_DEFAULT_OFF), or told so",
            _REBOOT_ON,
        )
    for pattern, reason, what, fix in _LOG_REASONS:
        if pattern.search(line):
            return reason, what, fix
    return None


def diagnosis_of(state: State, around: KernelEnvironment) -> KmemleakHealth:
    """Find the reason for `state`. What no repair could help (no support in the kernel) is said first."""
    if state is State.ON:
        return KmemleakHealth(state, None, "kmemleak is on")
    configured = _configured(around.config, "CONFIG_DEBUG_KMEMLEAK")
    if configured is False:
        return KmemleakHealth(
            state,
            Reason.NO_CONFIG,
            "this kernel was built without kmemleak",
            "# CONFIG_DEBUG_KMEMLEAK is not set",
            f"boot a kernel with CONFIG_DEBUG_KMEMLEAK=y; {_GUEST}",
        )
    if state is State.NO_DEBUGFS:
        return _no_debugfs(around)
    if state is State.NO_PERMISSION:
        return _no_permission(around)
    if state is State.ABSENT and not configured:
        return KmemleakHealth(
            state,
            Reason.NO_CONFIG,
            "this kernel has no kmemleak",
            "no file kmemleak in debugfs",
            f"boot a kernel with CONFIG_DEBUG_KMEMLEAK=y; {_GUEST}",
        )
    return _off(state, around)


def clears_new_memory(around: KernelEnvironment) -> bool | None:
    """Whether the kernel clears memory before it hands it out (`init_on_alloc`, mm/mm_init.c); None: it does not tell.

    Where it does not, words that are left in live objects, pointers of the allocator's own free lists among them, are
    references for kmemleak, and hide leaks from it.
    """
    asked = [word.partition("=")[2] for word in around.cmdline.split() if word.startswith("init_on_alloc=")]
    if asked:
        return asked[-1].lower() in ("1", "y", "yes", "t", "true", "on")  # lib/kstrtox.c, kstrtobool
    return _configured(around.config, "CONFIG_INIT_ON_ALLOC_DEFAULT_ON")


def _no_debugfs(around: KernelEnvironment) -> KmemleakHealth:
    words = around.cmdline.split()
    if "debugfs=off" in words or "debugfs=no-mount" in words:
        word = "debugfs=off" if "debugfs=off" in words else "debugfs=no-mount"
        return KmemleakHealth(
            State.NO_DEBUGFS,
            Reason.DEBUGFS_NOT_MOUNTED,
            "debugfs was switched off at boot",
            word,
            f"take {word} off the kernel's command line and reboot",
        )
    return KmemleakHealth(
        State.NO_DEBUGFS,
        Reason.DEBUGFS_NOT_MOUNTED,
        "debugfs is not mounted",
        "no debugfs in /proc/mounts",
        "mount -t debugfs none /sys/kernel/debug",
    )


def _no_permission(around: KernelEnvironment) -> KmemleakHealth:
    if around.privileged and around.lockdown != "none":
        return KmemleakHealth(
            State.NO_PERMISSION,
            Reason.LOCKDOWN,
            f"the kernel is locked down ({around.lockdown}), which closes debugfs",
            f"lockdown={around.lockdown}",
            "switch off Secure Boot or take lockdown= off the kernel's command line, and reboot",
        )
    return KmemleakHealth(
        State.NO_PERMISSION,
        Reason.NO_PERMISSION,
        "kmemleak's file may only be used by root",
        "",
        "run this with sudo",
    )


def _off(state: State, around: KernelEnvironment) -> KmemleakHealth:
    words = around.cmdline.split()
    if "kmemleak=off" in words:
        return KmemleakHealth(
            state,
            Reason.BOOT_OFF,
            "kmemleak was switched off at boot",
            "kmemleak=off",
            "replace kmemleak=off by kmemleak=on in the kernel's command line and reboot",
        )
    default_off = _configured(around.config, "CONFIG_DEBUG_KMEMLEAK_DEFAULT_OFF")
    if default_off and "kmemleak=on" not in words:
        return KmemleakHealth(
            state,
            Reason.DEFAULT_OFF,
            "this kernel's kmemleak is off unless asked for at boot",
            "CONFIG_DEBUG_KMEMLEAK_DEFAULT_OFF=y",
            _REBOOT_ON,
        )
    for pattern, *_ in _LOG_REASONS:  # a cause says more than that it is disabled, and comes before it in the table
        for line in around.log or ():
            meaning = read_message(line) if pattern.search(line) else None
            if meaning:
                reason, what, fix = meaning
                return KmemleakHealth(state, reason, what, line.strip(), fix)
    unread = "the kernel log cannot be read" if around.log is None else "the kernel log does not say why"
    return KmemleakHealth(state, Reason.UNKNOWN, "kmemleak is off", unread, _REBOOT_ON)


def _configured(config: str | None, option: str) -> bool | None:
    """Return whether an option is set; None if there is no config to look at."""
    if config is None:
        return None
    return re.search(rf"^{option}=y$", config, re.MULTILINE) is not None
