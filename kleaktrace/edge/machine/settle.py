# SPDX-License-Identifier: GPL-2.0-or-later
"""Waits until frees that are on their way have arrived: by RCU callbacks, kfree_rcu, and delayed work."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path

from kleaktrace.core.machine.settling import Level, Settled, is_settled, settled
from kleaktrace.edge.machine.system_call import system_call

RCU_BARRIER = Path("/sys/module/rcutree/parameters/do_rcu_barrier")
"""Waits for the callbacks queued by now (kernel/rcu/tree.c, param_set_do_rcu_barrier)."""

_LOOK_S = 0.5
_MEMBARRIER = {"x86_64": 324, "aarch64": 283}
_MEMBARRIER_CMD_GLOBAL = 1  # include/uapi/linux/membarrier.h: a grace period


def settle(
    left: Callable[[], int],
    sleep: Callable[[float], None],
    *,
    clock: Callable[[], float] = time.monotonic,
    barrier: Callable[[], None] | None = None,
) -> Settled:
    """Wait as `is_settled` says; with nothing left, not at all.

    left: how many allocations are outstanding that would count as left behind, asked twice a second. sleep: for so many
    seconds; what it raises ends the wait. barrier: hurries what waits for RCU.
    """
    looks = [Level(clock(), left())]
    while not is_settled(looks):
        (barrier or rcu_barrier)()
        sleep(_LOOK_S)
        looks.append(Level(clock(), left()))
    return settled(looks)


def rcu_barrier(file: Path = RCU_BARRIER) -> None:
    """Have RCU callbacks run now; where the kernel can't be asked for that, wait for a grace period."""
    try:
        file.write_text("1")
    except OSError:
        _grace_period()


def _grace_period() -> None:
    """Return after all code that was reading under RCU has ended; at once where the kernel has no such call."""
    with contextlib.suppress(OSError):
        system_call(_MEMBARRIER, _MEMBARRIER_CMD_GLOBAL, 0, 0)
