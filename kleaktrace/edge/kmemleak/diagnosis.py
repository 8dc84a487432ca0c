"""Says why kmemleak is on, off or absent here."""

from __future__ import annotations

from kleaktrace.core.kmemleak.diagnosis import KmemleakHealth, State, Surroundings, judge
from kleaktrace.edge.kmemleak.client import KmemleakClient
from kleaktrace.edge.kmemleak.kernel_environment import surroundings


def diagnose(client: KmemleakClient | None = None) -> KmemleakHealth:
    """Probe kmemleak and find the reason if it cannot be used."""
    state = (client or KmemleakClient()).state()
    return judge(state, Surroundings() if state is State.ON else surroundings())
