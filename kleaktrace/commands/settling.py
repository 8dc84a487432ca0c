# SPDX-License-Identifier: GPL-2.0-or-later
"""Waits for what is freed late after a command has ended, and hurries it."""

from __future__ import annotations

from collections.abc import Callable

from kleaktrace.commands.signals import DeferredInterrupt
from kleaktrace.core.machine.settling import Settled
from kleaktrace.edge.bpf.btf import kernel_btf
from kleaktrace.edge.machine.settle import settle
from kleaktrace.edge.tracing.removed_entries import KINDS, let_go
from kleaktrace.session.session import Session


def settle_what_is_left(session: Session, ending: DeferredInterrupt, left: Callable[[], int]) -> Settled | None:
    """Wait for RCU and work queues as `settle` does; None: there is no need, or no time.

    Before, the kernel is asked for what it remembers of modules that are gone: see `edge.tracing.removed_entries`.
    """
    try:
        if not left():
            return None
        entries = session.left_behind_by({kind.made_by for kind in KINDS})
        if entries:
            let_go(entries, kernel_btf(), session.read_memory)
        return settle(left, ending.sleep)
    except KeyboardInterrupt:
        return None
