# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs inside the guest: leaks through the kernel's own sample module and reports what the client saw, as JSON.

kmemleak_scenario.py BUILD_DIR RESULT
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from kleaktrace.commands.kmemleak import kmemleak
from kleaktrace.core.kmemleak.report_parser import parse
from kleaktrace.edge.kmemleak.client import KMEMLEAK, KmemleakClient, scan_protocol
from kleaktrace.edge.kmemleak.diagnosis import diagnose
from kleaktrace.errors import KleaktraceError

HOSTILE = b'a", pid\n\x1b\xff"b'
FINIT_MODULE = 313 if os.uname().machine == "x86_64" else 273
PR_SET_NAME = 15


def insmod_as(comm: bytes, module: Path) -> None:
    """Load a module from a task that calls itself `comm`."""
    pid = os.fork()
    if pid == 0:
        libc = ctypes.CDLL(None)
        fd = os.open(module, os.O_RDONLY)
        libc.prctl(PR_SET_NAME, comm, 0, 0, 0)
        os._exit(1 if libc.syscall(FINIT_MODULE, fd, b"", 0) else 0)
    assert os.waitpid(pid, 0)[1] == 0


@contextlib.contextmanager
def signal_storm() -> Iterator[None]:
    """Send this process a signal every 5 ms."""
    signal.signal(signal.SIGALRM, lambda number, frame: None)
    signal.setitimer(signal.ITIMER_REAL, 0.005, 0.005)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def naive_scan() -> None:
    """What `echo scan > /sys/kernel/debug/kmemleak` does."""
    fd = os.open(KMEMLEAK, os.O_WRONLY)
    os.write(fd, b"scan")
    os.close(fd)


def states_of_debugfs() -> dict[str, str]:
    client = KmemleakClient()
    found = {"mounted": client.state().value}
    os.seteuid(65534)
    found["nobody"] = diagnose(client).state.value
    os.seteuid(0)
    subprocess.run(["umount", "/sys/kernel/debug"], check=True)
    health = diagnose(client)
    found["unmounted"] = health.state.value
    subprocess.run(health.fix.split(), check=True)  # the fix to type must work as typed
    found["after fix"] = client.state().value
    return found


def refusal(call: Any) -> dict[str, str]:
    try:
        call()
    except KleaktraceError as error:
        return {"kind": type(error).__name__, "what": error.what, "fix": error.fix}
    return {}


def commands(address: str) -> dict[str, Any]:
    """Run each command as a user would; `off` comes last, there is no way back."""
    lines = (
        "status", "scan", "show", "show --json", f"dump {address}", "dump 1000", "stack on", "scan off", "on",
        "clear", "show", "off", "off --yes", "status", "on",
    )  # fmt: skip
    results, listed = [], []
    for line in lines:
        listed.append(addresses_listed())
        done = CliRunner().invoke(kmemleak, line.split())
        results.append([line, done.exit_code, done.output or repr(done.exception)])
    shown = lines.index("show --json")
    return {"results": results, "before_show": listed[shown], "after_show": listed[shown + 1]}


def addresses_listed() -> list[str]:
    return [f"0x{one.address:08x}" for one in KmemleakClient().read().objects]


def scenario(build_dir: Path) -> dict[str, Any]:
    result: dict[str, Any] = {"states": states_of_debugfs()}
    client = KmemleakClient()
    Path("/sys/module/kmemleak/parameters/verbose").write_text("Y")
    client.command("scan=off")
    client.command("stack=on")
    insmod_as(HOSTILE, build_dir / "samples/kmemleak/kmemleak-test.ko")
    subprocess.run(["rmmod", "kmemleak-test"], check=True)
    time.sleep(6)

    with signal_storm():
        for _ in range(3):
            naive_scan()
    result["naive"] = len(client.read().objects)
    with signal_storm():
        readings = scan_protocol(client, client.needed_scans())
    result["listed"] = [len(r.objects) for r in readings]
    result["ordered"] = all(a.after_ns <= b.before_ns for a, b in itertools.pairwise(readings))

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    try:
        client.scan()
        result["interrupted"] = False
    except KeyboardInterrupt:
        result["interrupted"] = True

    raw = client.read_text()
    text = parse(raw)  # and not read once more: the list may have changed
    ours = [s for s in text.objects if s.comm.startswith('a", pid')]
    result["headers"] = raw.count("unreferenced object ")
    result["problems"] = [list(p) for p in text.problems]
    result["objects"] = len(text.objects)
    result["comms"] = sorted({s.comm for s in ours})
    result["kinds"] = sorted({s.kind for s in ours})
    result["gone"] = sum(not f.resolved for f in ours[0].frames)
    log = subprocess.run(["dmesg"], capture_output=True, check=True).stdout.decode(errors="backslashreplace")
    logged = parse(log)
    result["log"] = {
        "missing": sorted({hex(s.address) for s in ours} - {hex(s.address) for s in logged.objects}),
        "problems": [list(p) for p in logged.problems],
    }

    first = next(s for s in ours if s.kind == "slab")
    answer = client.dump(first.address)
    result["dump"] = {
        "tracked": answer.tracked,
        "size": answer.dump and answer.dump.size == first.size,
        "comm": answer.dump and answer.dump.comm,
        "min_count": answer.dump and answer.dump.min_count,
        "frames": answer.dump and [f.text for f in answer.dump.frames] == [f.text for f in first.frames],
    }
    result["unknown"] = client.dump(0x1000).tracked
    result["commands"] = commands(f"0x{first.address:x}")
    health = diagnose(client)
    result["off"] = {"state": health.state.value, "reason": health.reason and health.reason.value}
    result["refused"] = refusal(client.scan)
    result["raw"], result["dmesg"] = raw, log
    return result


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(json.dumps(scenario(Path(sys.argv[1]))))
