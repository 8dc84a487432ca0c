# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs kleaktrace in the guest on a lab that leaks and frees, and has events get lost meanwhile.

loss_scenario.py OUT LAB.KO

Leaves in OUT, for each STEP: STEP.json, STEP.txt (what was printed), STEP.status, and STEP.objects (the lab's own
account); and for a reader that stood still, STEP.stalled: from when until when (s since boot). And page_size (bytes).
"""

from __future__ import annotations

import functools
import mmap
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import bcc  # type: ignore[import-untyped]  # noqa: F401 - so that every step finds it loaded: that takes seconds here

from kleaktrace import cli
from kleaktrace.edge.tracing import filters, tracer
from kleaktrace.session import drain, live

OUT, MODULE = Path(sys.argv[1]), sys.argv[2]
TINY_RING, SMALL_RING = max(1 << 14, mmap.PAGESIZE), 1 << 20
CAUGHT_UP = Path("/tmp/caught_up")
LAB = Path("/sys/kernel/debug/kleaktrace_lab")

# What the steps are said in. Their shell is the tracer's child. flood: more events than any ring here holds. go_on: the
# tracer's first batch takes seconds here, most of it to fetch numpy's code; the loss goes on until the tracer says
# that it has ended, for the ring is as full as before.
WORDS = f"""
each() {{ for name; do echo $name > {LAB}/do || exit 9; done; }}
load() {{ insmod {MODULE} late_ms=4000 || exit 9; }}
books() {{ cp {LAB}/objects {OUT}/$1.objects; }}
leak() {{ each leak_kzalloc_1520 leak_slab_object leak_vmalloc_5k leak_hardirq_129; }}
mixed() {{ each leak_error_path leak_conditional_size leak_refcount; }}
innocent() {{
	each freed_at_once freed_late reuse reuse_at_speed freed_on_other_cpu freed_in_hardirq kfree_rcu_single \\
		kfree_rcu_thousand kfree_bulk freed_by_kfree freed_vmalloc freed_krealloc
}}
kept() {{ each referenced list_grows unload_forgets; }}
flood() {{ n=0; while [ $n -lt 40 ]; do /bin/true; n=$((n + 1)); done; }}
now() {{ cut -d' ' -f1 /proc/uptime >> {OUT}/$1.stalled; }}
stall() {{ now $1; kill -STOP $PPID; }}
go_on() {{ flood; kill -CONT $PPID; until [ -e {CAUGHT_UP} ]; do sleep 0.5; done; now $1; }}
"""


def ring(size: int) -> None:
    """Have the session trace with an event ring of so many bytes."""
    vars(live)["Tracer"] = functools.partial(tracer.Tracer, event_ring=size)


def stalling_ring() -> None:
    """A small ring, and a file when a whole reading of the loss counters later nothing more was lost."""
    ring(SMALL_RING)
    CAUGHT_UP.unlink(missing_ok=True)
    check = drain.Drain._check_loss

    def check_and_say(draining: drain.Drain) -> None:
        before = draining.loss.events
        check(draining)
        if 0 < draining.loss.events == before:
            CAUGHT_UP.touch()

    drain.Drain._check_loss = check_and_say  # type: ignore[method-assign]


def few_caches() -> None:
    """Leave room for so few caches that most are never known."""
    tracer._MACROS["KNOWN_CACHES"] = 4


def few_wanted() -> None:
    """Leave room for so few objects that pass a filter at a time."""
    filters._WANTED_OBJECTS = 8


def shell(name: str, script: str) -> list[str]:
    """Return the command that runs a script of the above words."""
    file = Path(f"/tmp/{name}.sh")
    file.write_text(WORDS + script)
    return ["sh", str(file)]


def begin(name: str, prepare: Callable[[], None], *arguments: str) -> int:
    """Begin to run kleaktrace in a process of its own, and return its PID."""
    (OUT / f"{name}.txt").touch()
    pid = os.fork()
    if pid:
        return pid
    try:
        printed = os.open(OUT / f"{name}.txt", os.O_WRONLY | os.O_APPEND)
        os.dup2(printed, 1)
        os.dup2(printed, 2)
        prepare()
        sys.argv = ["kleaktrace", *arguments]
        os._exit(cli._run())
    except BaseException:
        traceback.print_exc()
        os._exit(99)


def end(name: str, pid: int) -> None:
    """Wait for its end, and keep its status."""
    _, status = os.waitpid(pid, 0)
    (OUT / f"{name}.status").write_text(f"{os.waitstatus_to_exitcode(status)}\n")
    print(f"{time.monotonic():.0f} s: {name} has ended", flush=True)


def run(name: str, prepare: Callable[[], None], script: str, *options: str) -> None:
    """Bracket a script with `kleaktrace run`."""
    end(name, begin(name, prepare, "run", *options, "--json", f"{OUT}/{name}.json", "--", *shell(name, script)))


def then(name: str, script: str) -> None:
    """Run a script after the step, or meanwhile."""
    subprocess.run(shell(f"{name}.then", script), check=True)


def wait_for_table(name: str) -> None:
    """Return when it has printed something: until it traces nothing can be lost."""
    while not (OUT / f"{name}.txt").stat().st_size:
        time.sleep(0.2)


def main() -> None:
    (OUT / "page_size").write_text(f"{mmap.PAGESIZE}\n")
    run(
        "unloaded",
        stalling_ring,
        # The ring is full before the module frees what it has kept.
        "load; leak; innocent; kept; stall unloaded; leak; innocent; sleep 5; books unloaded; flood; "
        "rmmod kleaktrace_lab; go_on unloaded",
        "--no-kmemleak",
    )
    run(
        "nameless",
        few_caches,
        "load; leak; innocent; kept; sleep 5; books nameless; rmmod kleaktrace_lab",
        "--no-kmemleak",
    )
    then("table", "load")
    pid = begin("table", few_wanted, "trace", "--module", "kleaktrace_lab", "--json", f"{OUT}/table.json")
    wait_for_table("table")
    then("table", "leak; innocent; leak; sleep 5; books table")
    os.kill(pid, signal.SIGINT)
    end("table", pid)
    then("table", "rmmod kleaktrace_lab")
    run(
        "overflowing",
        lambda: ring(TINY_RING),
        "load; leak; mixed; innocent; kept; flood; leak; mixed; innocent; flood; sleep 5",
    )
    then("overflowing", "books overflowing; rmmod kleaktrace_lab")
    run(
        "stalled",
        stalling_ring,
        "load; leak; mixed; innocent; kept; stall stalled; leak; mixed; innocent; sleep 5; go_on stalled; "
        "leak; innocent; sleep 5",
    )
    then("stalled", "books stalled")


main()
