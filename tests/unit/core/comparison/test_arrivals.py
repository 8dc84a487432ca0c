# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from builders import SECOND, START_NS
from streams import Stream, bursts, leak, streamed

from kleaktrace.core.comparison.arrivals import Arrivals, Window, arrivals
from kleaktrace.core.events.loss import Loss, LossWindow
from kleaktrace.core.recording import Recording


def counted(recording: Recording, *owners: int) -> Arrivals:
    keys = np.arange(1, len(owners) + 1, dtype=np.uint64)
    return arrivals(recording, Window(recording), keys, np.array(owners), max(owners) + 1)


def at(*births: float, size: int = 128) -> object:
    return lambda random, seconds: Stream(np.array(births), np.full(len(births), np.inf), size)


def test_a_burst_is_one_event_however_large_it_is() -> None:
    found = counted(streamed({"burst": at(*[30.0] * 50, size=64)}, 1), 0)
    assert found.objects.totals.tolist() == [50]
    assert found.objects.variances.tolist() == [pytest.approx(50**2)]
    assert found.bytes.totals.tolist() == [50 * 64]
    assert found.bytes.variances.tolist() == [pytest.approx((50 * 64) ** 2)]


def test_independent_arrivals_have_about_the_variance_of_poisson() -> None:
    ratios = []
    for seed in range(40):
        found = counted(streamed({"leak": leak(10)}, seed), 0).objects
        ratios.append(float(found.variances[0] / found.totals[0]))
    assert min(ratios) >= 1
    assert np.median(ratios) < 2


def test_what_goes_on_for_longer_than_a_part_is_seen_in_wider_ones() -> None:
    busy = np.concatenate([np.linspace(start, start + 7.4, 60) for start in (0.0, 30.0)])
    found = counted(streamed({"phases": at(*busy)}, 1), 0).objects
    assert found.totals[0] ** 2 / found.variances[0] < 4


def test_stacks_that_are_one_are_counted_together() -> None:
    found = counted(streamed({"a": at(1, 2), "b": at(3), "c": at(4, 5, 6)}, 1), 0, 1, 0)
    assert found.objects.totals.tolist() == [5, 1]


def test_more_stacks_than_are_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    processes = {f"s{number}": leak(number + 1) for number in range(5)}
    whole = counted(streamed(processes, 1), 0, 1, 2, 3, 4)
    monkeypatch.setattr("kleaktrace.core.comparison.arrivals._AT_ONCE", 2)
    parts = counted(streamed(processes, 1), 0, 1, 2, 3, 4)
    assert parts.objects.totals.tolist() == whole.objects.totals.tolist()
    assert parts.bytes.variances.tolist() == whole.bytes.variances.tolist()


def test_time_stands_still_between_the_commands() -> None:
    recording = streamed({"burst": bursts(1, 2)}, 1)
    stretches = [(START_NS + 10 * SECOND, START_NS + 12 * SECOND), (START_NS + 20 * SECOND, START_NS + 26 * SECOND)]
    window = Window(replace(recording, growth_windows=stretches))
    assert window.seconds == 8
    times = [START_NS + round(at_s * SECOND) for at_s in (0, 10.5, 12, 19, 20, 25.99, 50)]
    assert window.parts(np.array(times, np.uint64)).tolist() == [0, 4, 16, 16, 16, 63, 63]


def test_a_window_ends_where_events_were_lost_to_the_end() -> None:
    recording = streamed({"late": at(10, 59.5)}, 1)
    lost = LossWindow(START_NS + 59 * SECOND, START_NS + 60 * SECOND, 1000)
    recording = replace(recording, loss=Loss(1000, windows=(lost,)))
    assert Window(recording).seconds == 59
    assert counted(recording, 0).objects.totals.tolist() == [1]


def test_a_window_of_no_time_is_one() -> None:
    recording = replace(streamed({"a": at(1)}, 1), growth_windows=[(1 << 200, 1 << 201), (-5, -4)])
    assert 0 < Window(recording).seconds < 1e-6
    assert counted(recording, 0).objects.totals.tolist() == [1]
