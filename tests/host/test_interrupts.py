# SPDX-License-Identifier: GPL-2.0-or-later
"""What an interrupt allocates has a call stack that begins at the interrupt, whatever it came upon."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from kleaktrace.core.symbols.call_stacks import Stack
from kleaktrace.edge.tracing.filters import Filters
from kleaktrace.edge.tracing.tracer import Tracer

pytestmark = pytest.mark.host

_ENTRY = re.compile(r"asm_(sysvec|common)_|el[01]")

# The interrupt of the timer allocates each SIGALRM (kernel/time/itimer.c, it_real_fn), wherever the kernel is then.
_ALARMED = """
import os, signal, time
signal.signal(signal.SIGALRM, lambda *_: None)
signal.setitimer(signal.ITIMER_REAL, 0.0003, 0.0003)
end = time.monotonic() + 3
while time.monotonic() < end:
    for file in ("/proc/self/stat", "/proc/self/maps", "/etc/passwd"):
        open(file).read()
    os.listdir("/proc")
signal.setitimer(signal.ITIMER_REAL, 0)
"""


def by_timer(stack: Stack) -> bool:
    return any(frame.name == "it_real_fn" for frame in stack.frames)


def skipped(fd: int) -> int:
    """What the kernel says of a program in words."""
    info = Path(f"/proc/self/fdinfo/{fd}").read_text().splitlines()
    return next(int(line.split()[1]) for line in info if line.startswith("recursion_misses:"))


def test_a_timer_has_few_stacks_however_much_it_comes_upon() -> None:
    stacks: Counter[int] = Counter()
    with Tracer(Filters(cache="sigqueue")) as tracer:
        process = subprocess.Popen([sys.executable, "-c", _ALARMED])
        ending = False
        while not ending or tracer.polled < tracer.reported:
            ending = process.poll() is not None
            time.sleep(0.05)
            stacks.update(tracer.poll().allocations["stack"].tolist())
        named = {key: tracer.names.stacks.get(key) for key in stacks}
    assert process.returncode == 0
    timers = {key: stack for key, stack in named.items() if by_timer(stack)}
    outermost = {stack.frames[-1].name or "" for stack in timers.values()}
    signals = sum(stacks[key] for key in timers)
    print(f"{signals} signals by {len(timers)} stacks, from {outermost}")
    assert signals > 1000
    assert len(timers) <= 20
    assert all(_ENTRY.match(name) for name in outermost)


def test_runs_that_the_kernel_skipped_are_known() -> None:
    """A timer that allocates while an allocation is being recorded finds the program at work."""
    with Tracer() as tracer:
        subprocess.run([sys.executable, "-c", _ALARMED], check=True)
        tracer.pause()
        missed = tracer._bpf.missed_runs()
        told = {function: skipped(fd) for function, fd in tracer._bpf._loaded.items()}
    print(missed)
    assert missed == told
    assert any(missed.values())
