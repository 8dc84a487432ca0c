# SPDX-License-Identifier: GPL-2.0-or-later
"""The benchmark's arithmetic and its table; what it measures it can only measure on a running kernel."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "tools"))

from bench_lib import bpf_programs, cost, pages, processes, table, tracers, workers
from bench_lib.bench import Bench
from bench_lib.bpf_programs import Program
from bench_lib.figures import Figure, Part, Target, differences, quotients
from bench_lib.loads import LOADS, Loads, Turns
from bench_lib.pair_counter import PerTurn
from bench_lib.seen import is_far
from bench_lib.tracers import Tracer, TracerFailed
from reports import console, printed

from kleaktrace.core.kmemleak.report_parser import parse


def test_a_figure_is_the_median_with_its_deviation() -> None:
    figure = Figure("x", "ns", (10, 30, 11, 9, 12), Target(12))
    assert (figure.median, figure.deviation, figure.met) == (11, 1, True)


@pytest.mark.parametrize(
    ("rounds", "met"),
    [((0.2, 0.21, 0.22), True), ((0.2, 0.24, 0.28), None), ((0.3, 0.31, 0.32), False), ((-9, -8, -7), None)],
)
def test_noise_hides_whether_a_target_is_met(rounds: tuple[float, ...], met: bool | None) -> None:
    assert Figure("x", "×", rounds, Target(0.25)).met is met


def test_beside_other_tracers_nothing_is_said_about_targets() -> None:
    screen = console()
    part = Part("part", "So.", [Figure("cost", "×", (0.2,), Target(0.25))], others=["memleak_probe"])
    table.show(screen, part)
    assert "≤ 0.25 unclear" in printed(screen)
    assert "others traced as well, with 1 programs (memleak_probe, …)" in printed(screen)
    assert part.document()["figures"][0]["met"] is None


def test_no_rounds_no_figure() -> None:
    figure = Figure("x", "ns", (), Target(11), "not available")
    assert (figure.median, figure.deviation, figure.met) == (None, None, None)


@pytest.mark.parametrize(("at_least", "value", "met"), [(False, 0.26, False), (False, 0.25, True), (True, 0.2, False)])
def test_target(at_least: bool, value: float, met: bool) -> None:
    assert Target(0.25, at_least).met(value) is met


def test_quotients_leave_out_rounds_without_a_divisor() -> None:
    assert quotients([1, 2, 3], [2, 0, -1]) == [0.5]


def test_differences() -> None:
    assert differences([10, 20], [4, 6], divisor=2) == [3, 7]


def test_rounds_alternate(tmp_path: Path) -> None:
    said: list[str] = []
    bench = Bench(Loads(tmp_path), tmp_path, 2, False, said.append)
    assert list(bench.alternate("cost", ["a", "b"])) == ["a", "b", "a", "b"]
    assert said[-1] == "cost: round 2 of 2, b"


def test_what_pages_cost_is_told_beside_what_tracing_costs_without_them() -> None:
    times = {tracers.NONE.name: (100, 100), pages.WITHOUT: (120, 110), pages.WITH: (144, 121)}
    samples = {(name, "memory"): [Turns(1, each, each) for each in of] for name, of in times.items()}
    found = {figure.what: figure for figure in pages.of_load("memory", samples)}
    assert found["memory: kleaktrace --pages"].rounds == pytest.approx([1.44, 1.21])
    assert found["memory: with --pages by without"].rounds == pytest.approx([1.2, 1.1])


def test_cost_is_what_a_tracer_adds_to_a_pair() -> None:
    def turns(*ns: int) -> list[Turns]:
        return [Turns(turns=10, wall_ns=0, cpu_ns=10 * each) for each in ns]

    samples = {
        ("none", "sockets"): turns(4000, 5000),
        ("kleaktrace", "sockets"): turns(6000, 8000),
        ("memleak", "sockets"): turns(12000, 17000),
        ("kleaktrace", "forks"): turns(1, 1),
    }
    found = {f.what: f for f in cost.of_load("sockets", samples, PerTurn(pairs=5, pages=0))}
    assert found["sockets: no tracer"].rounds == [4000, 5000]
    assert found["sockets: kleaktrace adds"].rounds == [400, 600]
    assert found["sockets: memleak adds"].rounds == [1600, 2400]
    assert found["sockets: kleaktrace by memleak"].rounds == [0.25, 0.25]
    assert found["sockets: kleaktrace by memleak"].met


@pytest.fixture(scope="session")
def loads(tmp_path_factory: pytest.TempPathFactory) -> Loads:
    return Loads.compiled(tmp_path_factory.mktemp("bench"))


@pytest.mark.parametrize("kind", LOADS)
def test_every_load_runs(kind: str, loads: Loads) -> None:
    done = loads.run(kind, 0.05, warm_up_s=0)
    assert done.turns > 0
    assert done.cpu_ns > 0
    assert done.wall_ns >= 50_000_000
    assert [path.name for path in loads.program.parent.iterdir()] == ["kt-bench"], "it clears up"


def test_programs_are_told_apart(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    symbols = tmp_path / "kallsyms"
    symbols.write_text(
        "ffffffffc0000100 t bpf_prog_0123456789abcdef_free_event_whole\t[bpf]\n"
        "ffffffffc0000200 t bpf_prog_0123456789abcdef\t[bpf]\n"
        "ffffffffc0000300 t another\t[module]\n"
    )
    monkeypatch.setattr(bpf_programs, "_KALLSYMS", symbols)
    before = {1: Program("free_event_whol", 17, 0xFFFFFFFFC0000100, 10, 1000, 1)}
    now = {
        1: Program("free_event_whol", 17, 0xFFFFFFFFC0000100, 30, 5000, 2),
        2: Program("cut", 17, 0xFFFFFFFFC0000200, 4, 40, 0),
        3: Program("cut", 17, 0xFFFFFFFFC0000300, 5, 50, 0),
    }
    found = bpf_programs.named(bpf_programs.since(before, now))
    assert [(program.name, program.runs, program.time_ns, program.skipped) for program in found] == [
        ("free_event_whole", 20, 4000, 1),
        ("cut", 4, 40, 0),
        ("cut #2", 5, 50, 0),
    ]


def test_a_tracer_that_does_not_start_says_why(tmp_path: Path) -> None:
    tracer = Tracer("peer", ("sh", "-c", "echo no such thing; exit 1"), lambda _: False)
    with pytest.raises(TracerFailed, match="peer ended early: no such thing"), tracers.tracing(tracer, tmp_path):
        pass
    assert tracers.tried(tracer, tmp_path).missing == "peer ended early: no such thing"
    assert list(tmp_path.iterdir()) == []


def test_a_tracer_is_gone_afterwards(tmp_path: Path) -> None:
    """Also where Ctrl-C is ignored, as in a background job."""
    heeded = signal.signal(signal.SIGINT, signal.SIG_IGN)
    tracer = Tracer("peer", ("sleep", "100"), lambda run: Path(f"/proc/{run.pid}/comm").read_text() == "sleep\n")
    try:
        with tracers.tracing(tracer, tmp_path) as running:
            assert Path(f"/proc/{running.pid}").exists()
    finally:
        signal.signal(signal.SIGINT, heeded)
    assert running.process is not None
    assert running.process.returncode == -signal.SIGINT
    assert not Path(f"/proc/{running.pid}").exists()


def test_a_tracer_is_gone_when_measuring_fails(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), tracers.tracing(Tracer("peer", ("sleep", "100")), tmp_path) as running:
        raise ZeroDivisionError
    assert not Path(f"/proc/{running.pid}").exists()
    assert list(tmp_path.iterdir()) == []


def test_resting_is_told_from_working() -> None:
    assert processes.resting_after_s(os.getpid()) is None
    with subprocess.Popen(["sleep", "100"]) as sleeper:
        while processes.resting_after_s(sleeper.pid) is None:
            time.sleep(0.01)
        sleeper.kill()
    assert processes.resting_after_s(sleeper.pid) is None


@pytest.mark.parametrize(("unique", "stacks"), [(False, 50), (True, 200)])
def test_made_up_reports_are_read_whole(unique: bool, stacks: int) -> None:
    parsed = parse(workers.report(200, unique))
    assert (len(parsed.objects), parsed.problems) == (200, ())
    assert len({suspect.frames for suspect in parsed.objects}) == stacks
    assert len({suspect.address for suspect in parsed.objects}) == 200


def test_ledger_worker_keeps_so_many_outstanding() -> None:
    done = workers.ledger(outstanding=20_000, batches=2)
    # but for short lives that the last batch cut
    assert 20_000 <= done["outstanding"] < 20_100
    assert len(done["events_per_s"]) == 2


def test_judging_worker_judges_every_kind() -> None:
    # the older ones are named as their rows are, which are there, but were not allocated then
    assert workers.judging(100, 2000)["verdicts"] == {"confirmed": 80, "dismissed": 10, "undecided": 10}


def test_table() -> None:
    screen = console()
    figures = [
        Figure("cost", "×", (0.2, 0.301, 0.45), Target(0.15)),
        Figure("speed", "M/s", (12.34,), Target(10, at_least=True)),
        Figure("peer", "ns", (), note="not available: [why]"),
    ]
    table.show(screen, Part("part", "So measured.", figures))
    assert [line.rstrip() for line in printed(screen).splitlines()] == [
        "part",
        "",
        " what    median       ±       min … max   unit   target",
        " ─────────────────────────────────────────────────────────────",
        " cost     0.301   0.101   0.200 … 0.450   ×      ≤ 0.15 missed",
        " speed     12.3                           M/s    ≥ 10 met",
        " peer         –                           ns",
        "",
        "peer: not available: [why]",
        "So measured.",
        "",
    ]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (12, "12"), (1234567.8, "1,234,568"), (12.34, "12.3"), (1.234, "1.23"), (0.1234, "0.123")],
)
def test_numbers_have_three_digits(value: float, text: str) -> None:
    assert table.number(value) == text


@pytest.mark.parametrize(("median", "far"), [(0.05, True), (0.17, False), (0.25, False), (0.30, False), (0.6, True)])
def test_a_figure_far_from_what_was_seen_on_other_machines_says_so(median: float, far: bool) -> None:
    figure = Figure("sockets: kleaktrace by memleak", "×", [median])
    assert bool(is_far(figure)) is far
    screen = console()
    table.show(screen, Part("cost", "how", [figure]))
    assert ("far from what was seen so far" in printed(screen)) is far


def test_a_figure_of_which_nothing_was_seen_is_far_from_nothing() -> None:
    assert is_far(Figure("other", "×", [99.0])) == ""
