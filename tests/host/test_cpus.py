# SPDX-License-Identifier: GPL-2.0-or-later
"""This process is run on one CPU after the other, and then where it may."""

from __future__ import annotations

import os

import pytest

from kleaktrace.edge.machine.cpus import on_each_cpu

pytestmark = pytest.mark.host


def test_each_cpu_that_we_may_use_has_its_turn() -> None:
    allowed = os.sched_getaffinity(0)
    seen = [(cpu, os.sched_getaffinity(0)) for cpu in on_each_cpu()]
    assert seen == [(cpu, {cpu}) for cpu in sorted(allowed)]
    assert os.sched_getaffinity(0) == allowed


def test_who_breaks_off_may_run_where_he_might() -> None:
    allowed = os.sched_getaffinity(0)
    for _ in on_each_cpu():
        break
    assert os.sched_getaffinity(0) == allowed
    with pytest.raises(ZeroDivisionError):
        _ = [1 // 0 for _ in on_each_cpu()]
    assert os.sched_getaffinity(0) == allowed
