# SPDX-License-Identifier: GPL-2.0-or-later
"""What works on this machine, found out by trying it."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from kleaktrace.core.doctor_checks import Check, Health, Mount
from kleaktrace.core.events.coverage import Coverage
from kleaktrace.core.kmemleak.diagnosis import Reason, State, clears_new_memory
from kleaktrace.edge.kmemleak.diagnosis import diagnose
from kleaktrace.edge.kmemleak.kernel_environment import kernel_environment
from kleaktrace.edge.kmemleak.sheaf_scrub import caches_with_sheaves
from kleaktrace.errors import EnvironmentRefusal, KleaktraceError


def examine() -> list[Check]:
    """Look at everything kleaktrace needs or can use. Attaches every probe for a moment when run as root."""
    checks = [check() for check in (_privilege, _lockdown, _btf, _tracefs, _bcc, _programs, _symbols)]
    if all(check.health is not Health.BROKEN for check in checks):
        checks += _probes()
    kmemleak = _kmemleak()
    checks += [_debugfs(), kmemleak]
    checks += [_new_memory(), *_sheaves()] if kmemleak.health is Health.OK else []
    return [*checks, _injection()]


def unmounted() -> list[Check]:
    """The findings that a mount would mend."""
    return [check for check in (_tracefs(), _debugfs()) if check.mount is not None]


def mounted(checks: Sequence[Check]) -> list[Mount]:
    """Do those of the fixes that only mount something; what was mounted.

    Raises `EnvironmentRefusal` where the kernel refuses.
    """
    wanted = [check.mount for check in checks if check.mount is not None]
    for mount in wanted:
        done = subprocess.run(mount.command.split(), capture_output=True, text=True, check=False)
        if done.returncode:
            said = done.stderr.strip().replace("\n", " ")
            raise EnvironmentRefusal(f"{mount.command}: {said}", "run it as root, outside of containers")
    return wanted


def _privilege() -> Check:
    if os.geteuid() == 0:
        return Check("privilege", Health.OK, "root")
    return Check("privilege", Health.BROKEN, "not root: the kernel lets only root trace it", "run it with sudo")


def _lockdown() -> Check:
    try:
        text = Path("/sys/kernel/security/lockdown").read_text()
    except FileNotFoundError:
        return Check("lockdown", Health.OK, "not shown here (securityfs is not mounted, or the kernel has no lockdown)")
    except OSError as error:
        return Check("lockdown", Health.MISSING, f"not readable: {error.strerror}", "run it with sudo")
    chosen = re.search(r"\[(\w+)\]", text)
    mode = chosen[1] if chosen else "none"
    if mode == "confidentiality":
        fix = "boot with lockdown=integrity or less; Secure Boot may force it on"
        return Check("lockdown", Health.BROKEN, "confidentiality: BPF may not read kernel memory", fix)
    return Check("lockdown", Health.OK, mode)


def _tried(name: str, attempt: Callable[[], str]) -> Check:
    """A check that is fine if it does not raise."""
    try:
        return Check(name, Health.OK, attempt())
    except KleaktraceError as error:
        return Check(name, Health.BROKEN, error.what, error.fix)


def _btf() -> Check:
    def load() -> str:
        from kleaktrace.edge.bpf.btf import VMLINUX, kernel_btf

        kernel_btf()
        return str(VMLINUX)

    return _tried("BTF", load)


def _tracefs() -> Check:
    """Only kprobes need it (bcc attaches them through perf, and looks them up in tracefs)."""
    for path in ("/sys/kernel/tracing", "/sys/kernel/debug/tracing"):
        with contextlib.suppress(OSError):  # who is not root may see that the first is mounted, and no more
            if Path(path).is_mount() or Path(path, "events").is_dir():
                return Check("tracefs", Health.OK, path)
    found = "not mounted: kprobes, the fallback where fentry is refused, can't be checked"
    return _unmounted("tracefs", found, Mount("tracefs", "/sys/kernel/tracing"))


def _unmounted(name: str, found: str, mount: Mount) -> Check:
    return Check(name, Health.MISSING, found, mount.command, mount)


def _bcc() -> Check:
    def load() -> str:
        from kleaktrace.edge.bpf.bcc_library import version

        return f"version {version()}"

    return _tried("bcc", load)


def _programs() -> Check:
    from kleaktrace.edge.bpf.program_cache import cache_directory, trouble

    why_not = trouble()
    if not why_not:
        return Check("compiled programs", Health.OK, f"kept in {cache_directory()}")
    found = f"compiled at each start: they can't be kept in {cache_directory()}: {why_not}"
    return Check("compiled programs", Health.MISSING, found, "set XDG_CACHE_HOME to a directory of root's")


def _symbols() -> Check:
    def read() -> str:
        from kleaktrace.edge.tracing.tracer import read_kallsyms

        return f"{read_kallsyms().starts.size:,} functions in /proc/kallsyms"

    return _tried("symbols", read)


def _probes() -> list[Check]:
    """Start a tracer, and say what it attached."""
    from kleaktrace.edge.tracing.tracer import Tracer

    try:
        with Tracer(pages=True) as tracer:
            checks = [_probe(coverage, tracer.refusals) for coverage in (*tracer.coverage, tracer.reads_objects)]
            context = tracer.plan.context_source
            checks.append(_reading(tracer.has_plain_loads))
    except KleaktraceError as error:
        return [Check("probes", Health.BROKEN, error.what, error.fix)]
    exact = "frames" not in context
    note = "" if exact else " (this kernel's symbols do not show preempt_count)"
    return [*checks, Check("probe: context", Health.OK if exact else Health.MISSING, f"{context}{note}")]


def _probe(coverage: Coverage, refusals: dict[str, list[str]]) -> Check:
    name = f"probe: {coverage.kind}"
    note = f" ({coverage.note})" if coverage.note else ""
    refused = "".join(f"\nrefused: {reason}" for reason in refusals.get(coverage.kind, []))
    if coverage.source is None:
        return Check(name, Health.MISSING, f"not covered: {coverage.note}{refused}")
    return Check(name, Health.OK, f"{coverage.source}{note}{refused}")


def _reading(has_plain_loads: bool) -> Check:
    name = "probe: reading"
    if has_plain_loads:
        return Check(name, Health.OK, "kernel memory by plain loads (bpf_rdonly_cast)")
    found = (
        "kernel memory in pieces that are copied: this kernel refuses bpf_rdonly_cast, and tracing costs a fifth more"
    )
    return Check(name, Health.MISSING, found)


def _debugfs() -> Check:
    if any(line.split()[2] == "debugfs" for line in Path("/proc/self/mounts").read_text().splitlines()):
        return Check("debugfs", Health.OK, "mounted")
    return _unmounted("debugfs", "not mounted: kmemleak can't be reached", Mount("debugfs", "/sys/kernel/debug"))


def _kmemleak() -> Check:
    health = diagnose()
    if health.state is State.ON:
        return Check("kmemleak", Health.OK, "on")
    found = f"{health.what} ({health.evidence})" if health.evidence else health.what
    at_once = (Reason.DEBUGFS_NOT_MOUNTED, Reason.NO_PERMISSION, Reason.UNKNOWN)
    return Check("kmemleak", Health.MISSING, found, health.fix, needs_boot=health.reason not in at_once)


def _new_memory() -> Check:
    """What kmemleak does not list for a word that was left by chance has no verdict."""
    cleared = clears_new_memory(kernel_environment())
    if cleared:
        return Check("new memory", Health.OK, "cleared: no words are left in it that kmemleak takes for references")
    found = "not cleared" if cleared is False else "this kernel does not tell whether it is cleared"
    return Check(
        "new memory",
        Health.MISSING,
        f"{found}: kmemleak takes words that are left in it for references, and does not list what they point to",
        "add init_on_alloc=1 to the kernel's command line and reboot",
    )


def _sheaves() -> list[Check]:
    """What kmemleak overlooks for them has no verdict either; there is nothing to say where there are none."""
    try:
        caches = len(list(caches_with_sheaves()))
    except (OSError, ValueError):
        return []
    if not caches:
        return []
    found = (
        f"{caches} slab caches have some, whose old pointers kmemleak takes for references: those of kmallocs and skbs "
        "are cleared away before it scans, and what others may hide is told of (slab_debug=F at boot: there are none)"
    )
    return [Check("sheaves", Health.OK, found)]


def _injection() -> Check:
    """Only `inject` needs it."""
    from kleaktrace.edge.injection.choose import FIX, choose

    if os.geteuid() != 0:
        return Check("injection", Health.MISSING, "not tried: only root can let allocations fail", "run it with sudo")
    try:
        chosen = choose(None)
    except KleaktraceError as error:
        return Check("injection", Health.MISSING, error.what, error.fix)
    chosen.injector.close()
    if chosen.refused:
        found = f"{chosen.injector.means}: BPF can't override ({chosen.refused})"
        return Check("injection", Health.MISSING, found, FIX)
    return Check("injection", Health.OK, chosen.injector.means)
