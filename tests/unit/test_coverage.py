from __future__ import annotations

import pytest

from kleaktrace.core.coverage import Loss
from kleaktrace.core.events import LossWindow

LOSS = Loss(events=11, windows=(LossWindow(100, 200, 1), LossWindow(200, 300, 10)))


@pytest.mark.parametrize(
    ("from_ns", "to_ns", "events"),
    [
        (0, 99, 0),
        (0, 100, 1),
        (150, 150, 1),
        (0, 1000, 11),
        (200, 200, 11),
        (201, 250, 10),
        (300, 400, 10),
        (301, 400, 0),
    ],
)
def test_loss_counts_in_every_window_that_a_stretch_of_time_touches(from_ns: int, to_ns: int, events: int) -> None:
    assert LOSS.within(from_ns, to_ns) == events
    assert Loss().within(from_ns, to_ns) == 0
