# SPDX-License-Identifier: GPL-2.0-or-later
"""Says why kmemleak is on, off or absent here."""

from __future__ import annotations

from kleaktrace.core.kmemleak.diagnosis import KernelEnvironment, KmemleakHealth, State, diagnosis_of
from kleaktrace.edge.kmemleak.client import KmemleakClient
from kleaktrace.edge.kmemleak.kernel_environment import kernel_environment


def diagnose(client: KmemleakClient | None = None) -> KmemleakHealth:
    """Probe kmemleak and find the reason if it cannot be used."""
    state = (client or KmemleakClient()).state()
    return diagnosis_of(state, KernelEnvironment() if state is State.ON else kernel_environment())
