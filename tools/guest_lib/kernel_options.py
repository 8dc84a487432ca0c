# SPDX-License-Identifier: GPL-2.0-or-later
"""What a kernel must be configured with to boot here, and for kleaktrace to have something to go by in it.

`OPTIONS` is for kernels that somebody else has configured; our own are built from tools/guest.config, which has more.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum

from guest_lib.architectures import ARM64, X86_64, Architecture
from guest_lib.kernel_config import NOT_SET, KernelConfig


class Need(Enum):
    """Who cannot do without an option."""

    BOOT = "the guest does not boot"
    MODULE = "no module can be loaded"
    KLEAKTRACE = "kleaktrace does not run"
    EVIDENCE = "kleaktrace sees less"
    GUEST = "the guest can do less"


@dataclass(frozen=True)
class KernelOption:
    """An option that a kernel needs, or one that it must not have: then `value` is `n`."""

    name: str
    need: Need
    purpose: str
    """In words: what the option is for, or what it does where it must not be set."""
    value: str = "y"
    as_module: bool = False
    """Whether a module (=m) does, too: virtme-ng loads what mounting the root takes from an initramfs."""
    opened_by: tuple[str, ...] = ()
    """Options without which kconfig does not let it be chosen. They are not asked for where it is set already."""
    of: Architecture | None = None
    """The only architecture that has it; None: every one."""


def _programs(*names: str) -> Iterator[KernelOption]:
    """Every kernel has these that was not made very small."""
    for name in names:
        yield KernelOption(name, Need.BOOT, "system calls and files that every distribution's programs use")


OPTIONS: tuple[KernelOption, ...] = (
    # -- To boot: the root is this machine's file system over 9p, the console a serial line.
    KernelOption("64BIT", Need.BOOT, "64 bits, as this machine's programs have", of=X86_64),
    KernelOption("PCI", Need.BOOT, "the bus of all devices of the guest", of=X86_64),
    KernelOption("VIRTIO_PCI", Need.BOOT, "virtio devices", as_module=True, opened_by=("VIRTIO_MENU",), of=X86_64),
    KernelOption("VIRTIO_MMIO", Need.BOOT, "virtio devices", opened_by=("VIRTIO_MENU",), of=ARM64),
    KernelOption("TTY", Need.BOOT, "the console"),
    KernelOption("SERIAL_8250", Need.BOOT, "the serial line of the console", of=X86_64),
    KernelOption("SERIAL_8250_CONSOLE", Need.BOOT, "the console on it", of=X86_64),
    KernelOption("SERIAL_AMBA_PL011", Need.BOOT, "the serial line of the console", of=ARM64),
    KernelOption("SERIAL_AMBA_PL011_CONSOLE", Need.BOOT, "the console on it", of=ARM64),
    KernelOption("PRINTK", Need.GUEST, "the kernel's messages, which say why a guest died"),
    KernelOption("VIRTIO_CONSOLE", Need.GUEST, "a console of its own for the kernel's messages", as_module=True),
    KernelOption("NET", Need.BOOT, "what 9p is built on"),
    KernelOption("UNIX", Need.BOOT, "sockets of the guest's init and of udev", as_module=True),
    KernelOption("NET_9P", Need.BOOT, "the protocol of shared directories", as_module=True),
    KernelOption("NET_9P_VIRTIO", Need.BOOT, "shared directories over virtio", as_module=True),
    KernelOption(
        "9P_FS",
        Need.BOOT,
        "the root file system, which is this machine's",
        as_module=True,
        opened_by=("INET", "NETWORK_FILESYSTEMS"),
    ),
    KernelOption("DEVTMPFS", Need.BOOT, "device files"),
    KernelOption("SHMEM", Need.BOOT, "what tmpfs is built on"),
    KernelOption("TMPFS", Need.BOOT, "what the guest may write to: /tmp, /run, and the directory of --module"),
    KernelOption("OVERLAY_FS", Need.GUEST, "to write to /etc, /home, /lib, /opt, /usr, /var", as_module=True),
    KernelOption("PROC_FS", Need.BOOT, "/proc"),
    KernelOption("SYSFS", Need.BOOT, "/sys"),
    KernelOption("BINFMT_ELF", Need.BOOT, "to run programs"),
    KernelOption("BINFMT_SCRIPT", Need.BOOT, "to run scripts"),
    *_programs("MULTIUSER", "FUTEX", "EPOLL", "EVENTFD", "SIGNALFD", "TIMERFD", "POSIX_TIMERS", "FILE_LOCKING"),
    *_programs("INOTIFY_USER", "FHANDLE", "ADVISE_SYSCALLS", "UNIX98_PTYS"),
    KernelOption("CMDLINE_OVERRIDE", Need.BOOT, "ignores the parameters that the guest is booted with", "n", of=X86_64),
    KernelOption("CMDLINE_FORCE", Need.BOOT, "ignores the parameters that the guest is booted with", "n", of=ARM64),
    # -- For modules.
    KernelOption("MODULES", Need.MODULE, "to load modules"),
    KernelOption("MODULE_SIG_FORCE", Need.MODULE, "refuses modules that were not signed with the kernel", "n"),
    KernelOption("MODULE_UNLOAD", Need.EVIDENCE, "to unload modules: what one leaves behind then is a leak"),
    # -- For kleaktrace: its programs are BPF, and BTF tells them this kernel's types.
    KernelOption("BPF_SYSCALL", Need.KLEAKTRACE, "BPF programs, which see allocations and frees"),
    KernelOption("PERF_EVENTS", Need.KLEAKTRACE, "stacks for BPF programs"),
    KernelOption(
        "BPF_EVENTS",
        Need.KLEAKTRACE,
        "BPF programs at tracepoints",
        opened_by=("FTRACE", "KPROBES", "KPROBE_EVENTS", "UPROBE_EVENTS"),
    ),
    KernelOption("DEBUG_INFO", Need.KLEAKTRACE, "what BTF is made from", opened_by=("DEBUG_KERNEL",)),
    KernelOption("DEBUG_INFO_REDUCED", Need.KLEAKTRACE, "leaves out what BTF is made from", "n"),
    KernelOption("DEBUG_INFO_SPLIT", Need.KLEAKTRACE, "puts what BTF is made from elsewhere", "n"),
    KernelOption("GCC_PLUGIN_RANDSTRUCT", Need.KLEAKTRACE, "shuffles structures, and BTF is not made then", "n"),
    KernelOption(
        "DEBUG_INFO_BTF",
        Need.KLEAKTRACE,
        "BTF, this kernel's types; the build needs pahole (package dwarves)",
    ),
    KernelOption("KALLSYMS", Need.KLEAKTRACE, "names of functions"),
    KernelOption(
        "LOCK_DOWN_KERNEL_FORCE_CONFIDENTIALITY", Need.KLEAKTRACE, "lets nobody, not even BPF, read its memory", "n"
    ),
    # -- What makes kleaktrace see more.
    KernelOption("LOCK_DOWN_KERNEL_FORCE_INTEGRITY", Need.EVIDENCE, "refuses kprobes, fentry and kmemleak's file", "n"),
    KernelOption("KALLSYMS_ALL", Need.EVIDENCE, "where variables are: what context an allocation comes from"),
    KernelOption("BPF_JIT", Need.EVIDENCE, "fast BPF programs, and fentry"),
    KernelOption(
        "FUNCTION_TRACER", Need.EVIDENCE, "fentry, which sees bulk frees, kfree_rcu and vmalloc", opened_by=("FTRACE",)
    ),
    KernelOption("DYNAMIC_FTRACE", Need.EVIDENCE, "fentry that costs nothing while nobody traces"),
    KernelOption(
        "KPROBES",
        Need.EVIDENCE,
        "kprobes, which see the same where fentry is refused",
        opened_by=("FTRACE", "KPROBE_EVENTS"),
    ),
    KernelOption("DEBUG_INFO_BTF_MODULES", Need.EVIDENCE, "BTF of modules, for what they bring of their own"),
    KernelOption("UNWINDER_GUESS", Need.EVIDENCE, "guesses stacks", "n", of=X86_64),
    # -- For kmemleak.
    KernelOption("DEBUG_FS", Need.EVIDENCE, "kmemleak's file"),
    KernelOption(
        "DEBUG_KMEMLEAK",
        Need.EVIDENCE,
        "kmemleak, without which only repetition and unloaded modules convict",
        opened_by=("DEBUG_KERNEL", "DEBUG_FS"),
    ),
    KernelOption("SLUB", Need.EVIDENCE, "the allocator that kleaktrace is tested with"),
    KernelOption("SLUB_TINY", Need.EVIDENCE, "leaves out what hides free lists from kmemleak", "n"),
    KernelOption("SLAB_FREELIST_HARDENED", Need.EVIDENCE, "free lists that kmemleak does not take for references"),
)

INITRD = KernelOption("BLK_DEV_INITRD", Need.BOOT, "the initramfs, which loads those modules that mount the root")
"""Needed if one of the others is a module."""

# What an option is set by, where that is not one line: DEBUG_INFO is a choice since v5.18 (commit f9b3cd245784), and
# the unwinders are one. pahole of Debian 12 reads DWARF 4 best.
_SET_BY = {
    "DEBUG_INFO": (*("# CONFIG_DEBUG_INFO_NONE is not set", "CONFIG_DEBUG_INFO=y", "CONFIG_DEBUG_INFO_DWARF4=y"),),
    "UNWINDER_GUESS": ("CONFIG_UNWINDER_ORC=y",),
    "CMDLINE_FORCE": ("CONFIG_CMDLINE_FROM_BOOTLOADER=y",),
}


def options_for(architecture: Architecture) -> list[KernelOption]:
    """Return the options that a kernel for this architecture needs."""
    return [option for option in OPTIONS if option.of in (None, architecture)]


def missing_options(config: KernelConfig, architecture: Architecture) -> list[KernelOption]:
    """Return those that a configuration lacks, or has and must not have."""
    options = options_for(architecture)
    if any(option.as_module and config.value(option.name) == "m" for option in options):
        options.append(INITRD)
    return [option for option in options if not _is_met(option, config, architecture)]


def _is_met(option: KernelOption, config: KernelConfig, architecture: Architecture) -> bool:
    value = config.value(option.name)
    # Where the guest has programs of its own virtme-ng loads no modules for it.
    return value == option.value or (value == "m" and option.as_module and architecture is X86_64)


def setting(option: KernelOption) -> str:
    """Return the line of a configuration that sets an option as it is needed."""
    return f"# CONFIG_{option.name} is not set" if option.value == NOT_SET else f"CONFIG_{option.name}=y"


def _reason(option: KernelOption) -> str:
    if option.value == NOT_SET:
        return f"CONFIG_{option.name} {option.purpose}; with it, {option.need.value}"
    return f"{option.purpose}; without, {option.need.value}"


def fragment(options: Iterable[KernelOption], config: KernelConfig | None = None) -> str:
    """Return what to merge into a configuration to set these options; each with its purpose.

    config: what is set already, of which the options that open others are not asked for again.
    """
    written: set[str] = set()
    text = reason = ""
    for option in options:
        opening = [name for name in option.opened_by if config is None or config.value(name) != "y"]
        lines = [f"CONFIG_{name}=y" for name in opening] + list(_SET_BY.get(option.name, (setting(option),)))
        new = [line for line in lines if line not in written]
        written.update(new)
        if new and reason != _reason(option):
            reason = _reason(option)
            text += f"# {reason}\n"
        text += "".join(f"{line}\n" for line in new)
    return text
