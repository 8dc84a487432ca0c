# SPDX-License-Identifier: GPL-2.0-or-later
"""Loads and unloads a module very many times while a session traces it, in the guest: what its names cost.

churn_scenario.py RESULT.json LAB.KO TIMES
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

from kleaktrace.core.events.records import Batch
from kleaktrace.core.ledger.ledger import Ledger
from kleaktrace.core.symbols.call_stacks import Stack
from kleaktrace.core.symbols.kernel_names import KernelNames
from kleaktrace.edge.tracing.module_symbols import ModuleSymbols
from kleaktrace.edge.tracing.name_records import ModuleLoaded, ModulePage
from kleaktrace.edge.tracing.tracer import Tracer
from kleaktrace.session.session import Session

RESULT, MODULE, TIMES = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
FIRST = 2
"""Rounds after which all has been seen once, the module's memory at another place, too."""

# By system calls, since starting insmod and rmmod takes longer than all that they do. In a process of its own: the
# tracer leaves out what its own does.
ROUNDS = """
import ctypes, os, platform, sys
load, unload = {"x86_64": (313, 176), "aarch64": (273, 106)}[platform.machine()]  # finit_module, delete_module
call = ctypes.CDLL(None, use_errno=True).syscall
for _ in range(int(sys.argv[2])):
    module = os.open(sys.argv[1], os.O_RDONLY | os.O_CLOEXEC)
    assert not call(load, module, b"", 0), os.strerror(ctypes.get_errno())
    os.close(module)
    for case in (b"leak_vmalloc_5k", b"freed_at_once"):
        do = os.open("/sys/kernel/debug/kleaktrace_lab/do", os.O_WRONLY)
        os.write(do, case)
        os.close(do)
    assert not call(unload, b"kleaktrace_lab", 0), os.strerror(ctypes.get_errno())
"""


class Keys:
    """The keys of the stacks that events came with."""

    def __init__(self) -> None:
        self.seen: set[int] = set()

    def begin(self, names: KernelNames) -> None:
        """Keys are enough."""

    def batch(self, batch: Batch) -> None:
        """Take those of a batch."""
        self.seen.update(batch.allocations["stack"].tolist())

    def sample(self, time_ns: int, ledger: Ledger) -> None:
        """Leave the ledger alone."""


def rounds(session: Session, times: int) -> float:
    """Load the module, have it leak, unload it, so many times; how many seconds that took."""
    begun = time.monotonic()
    subprocess.run([sys.executable, "-c", ROUNDS, MODULE, str(times)], check=True)
    session.catch_up()
    return time.monotonic() - begun


def last_round(session: Session, keys: Keys) -> list[Stack]:
    """The stacks through the module, as they are named by then."""
    keys.seen.clear()
    rounds(session, 1)
    stacks = map(session.names.stacks.get, keys.seen)
    return [stack for stack in stacks if "kleaktrace_lab" in stack.modules]


def loads_and_pages() -> tuple[list[int], list[int]]:
    """The identities of modules as they are loaded from now on, and the addresses of their pages as they come."""
    identities: list[int] = []
    pages: list[int] = []
    loaded, page = ModuleSymbols.loaded, ModuleSymbols.page

    def note_loaded(symbols: ModuleSymbols, module: ModuleLoaded) -> None:
        identities.append(module.identity)
        loaded(symbols, module)

    def note_page(symbols: ModuleSymbols, one: ModulePage) -> None:
        pages.append(one.address)
        page(symbols, one)

    ModuleSymbols.loaded, ModuleSymbols.page = note_loaded, note_page  # type: ignore[method-assign]
    return identities, pages


def main() -> None:
    """Trace it."""
    identities, pages = loads_and_pages()
    keys = Keys()
    tracer = Tracer()
    with Session(tracer, keys) as session:
        rounds(session, FIRST)
        told, stacks, sent = tracer._names.produced, len(tracer.names.stacks), len(pages)
        seconds = rounds(session, TIMES)
        told, stacks = tracer._names.produced - told, len(tracer.names.stacks) - stacks
        sent = len(pages) - sent
        of_module = last_round(session, keys)
        session.stop()
        check = tracer.stack_check
        frames = [frame for stack in of_module for frame in stack.frames]
        result = {
            "loads": len(tracer.names.symbols.unloads("kleaktrace_lab")),
            "seconds_each": seconds / TIMES,
            "events": session.counts().totals.allocations,
            "lost": [{lost.cause: lost.events for lost in session.loss.causes}, session.loss.names],
            "bytes_told_each": told / TIMES,
            "new_stacks": stacks,
            "identities": [f"{identity:#x}" for identity in dict.fromkeys(identities)],
            "pages_each": sent / TIMES,
            "stack_check": [check.unwound, check.checked, check.wrong],
            "functions": sorted({f.name for f in frames if f.name and f.module == "kleaktrace_lab"}),
            "nameless": [f"{frame.address:#x}" for frame in frames if frame.name is None],
        }
    RESULT.write_text(json.dumps(result))


main()
