# SPDX-License-Identifier: GPL-2.0-or-later
"""Part `rings`: what one ring for all processors costs, and what a ring for each would."""

from __future__ import annotations

import os
import threading
import time
import unittest.mock
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench_lib.bench import Bench
from bench_lib.figures import Figure, Part, differences
from bench_lib.tracers import SHIM
from kleaktrace.core.events.records import FREE, UNIT
from kleaktrace.edge.bpf import libbpf
from kleaktrace.edge.bpf.compiled_programs import MapSpec
from kleaktrace.edge.tracing.ring import EventRing

_RING = 32 << 20
_RINGBUF = 27  # BPF_MAP_TYPE_RINGBUF (include/uapi/linux/bpf.h)
_RUNS = {"one ring": "one_ring", "a ring each": "ring_each"}
_MERGED = (2, 16, 64)
_BATCH = 1 << 16

_HOW = (
    "Kernel: programs that reserve, fill in the time, and submit records of 64 bytes, run on one processor or on all "
    "{cpus} at once with nothing else to do: the worst there can be; less the same without a ring. User space: what it "
    "takes to put batches of {batch:,} events, from several rings, in the order of their times."
)

_PROGRAM = r"""
BPF_RINGBUF_OUTPUT(ring, PAGES);
BPF_RINGBUF_OUTPUT(inner, PAGES);
BPF_ARRAY_OF_MAPS(rings, "inner", CPUS);
struct sum {
	u64 ns, records, refused;
};
BPF_PERCPU_ARRAY(sums, struct sum, 1);

#define RECORDS 256
#define RECORD 56 /* and a header of 8 */
#define INLINE static inline __attribute__((always_inline))

INLINE void add(u64 begun, u64 refused)
{
	u32 zero = 0;
	struct sum *sum = sums.lookup(&zero);

	if (!sum)
		return;
	sum->ns += bpf_ktime_get_ns() - begun;
	sum->records += RECORDS;
	sum->refused += refused;
}

INLINE void fill(u64 *record, u64 number)
{
	record[0] = number;
	record[1] = bpf_ktime_get_ns();
}

int no_ring(struct bpf_raw_tracepoint_args *ctx)
{
	u64 begun = bpf_ktime_get_ns(), record[2];

	for (int i = 0; i < RECORDS; i++) {
		fill(record, i);
		asm volatile("" : : "r"(record) : "memory");
	}
	add(begun, 0);
	return 0;
}

int one_ring(struct bpf_raw_tracepoint_args *ctx)
{
	u64 begun = bpf_ktime_get_ns(), refused = 0;

	for (int i = 0; i < RECORDS; i++) {
		u64 *record = ring.ringbuf_reserve(RECORD);

		if (record) {
			fill(record, i);
			ring.ringbuf_submit(record, BPF_RB_NO_WAKEUP);
		} else {
			refused++;
		}
	}
	add(begun, refused);
	return 0;
}

int ring_each(struct bpf_raw_tracepoint_args *ctx)
{
	u64 begun = bpf_ktime_get_ns(), refused = 0;

	for (int i = 0; i < RECORDS; i++) {
		int cpu = bpf_get_smp_processor_id();
		void *own = rings.lookup(&cpu);

		if (!own)
			return 1;

		u64 *record = bpf_ringbuf_reserve(own, RECORD, 0);

		if (record) {
			fill(record, i);
			bpf_ringbuf_submit(record, BPF_RB_NO_WAKEUP);
		} else {
			refused++;
		}
	}
	add(begun, refused);
	return 0;
}
"""


class _Ring(EventRing):
    """One that nobody reads."""

    def empty(self) -> None:
        """Let go of everything written so far."""
        self._advance(self.pending)


@dataclass(frozen=True, slots=True)
class _Programs:
    """Loaded, with the rings that they write to."""

    fds: dict[str, int]
    rings: Sequence[_Ring]
    sums: Any

    def total(self) -> tuple[int, int, int]:
        """ns, records and refused ones, of all processors."""
        sums = self.sums[self.sums.Key(0)]
        return sum(s.ns for s in sums), sum(s.records for s in sums), sum(s.refused for s in sums)


def measure(bench: Bench) -> Part:
    """Run the part."""
    seconds = bench.seconds(1.0, 0.1)
    everyone = sorted(os.sched_getaffinity(0))
    settings = {"one processor": everyone[-1:], f"all {len(everyone)}": everyone}
    costs: dict[tuple[str, str], list[float]] = {}
    with _loaded(everyone) as programs:
        for name in bench.alternate("rings", ("no_ring", *_RUNS.values())):
            for where, cpus in settings.items():
                costs.setdefault((name, where), []).append(_ns_each(programs, name, cpus, seconds))
    found = [
        Figure(f"{title}, {where}", "ns/record", differences(costs[name, where], costs["no_ring", where]))
        for title, name in _RUNS.items()
        for where in settings
    ]
    for rings in _MERGED:
        merged = [_merging_ns(rings) for _ in bench.alternate("merging", [f"{rings} rings"])]
        found.append(Figure(f"merging {rings} rings by time", "ns/event", merged))
    return Part("rings", _HOW.format(cpus=len(everyone), batch=_BATCH), found)


@contextmanager
def _loaded(cpus: Sequence[int]) -> Iterator[_Programs]:
    from bcc import BPF  # type: ignore[import-untyped]

    most = libbpf.possible_cpus()
    with ExitStack() as stack:
        with unittest.mock.patch.dict(os.environ, BCC_KERNEL_SOURCE=str(SHIM)):
            flags = ["-w", f"-DCPUS={most}", f"-DPAGES={_RING // os.sysconf('SC_PAGE_SIZE')}"]
            bpf = BPF(text=_PROGRAM, cflags=flags)
        stack.callback(bpf.cleanup)
        fds = [bpf["ring"].map_fd]
        for cpu in cpus:
            fds.append(libbpf.create_map(MapSpec("ring", _RINGBUF, 0, 0, _RING, 0)))
            stack.callback(os.close, fds[-1])
            libbpf.update(bpf["rings"].map_fd, cpu.to_bytes(4, "little"), fds[-1].to_bytes(4, "little"))
        rings = [_Ring(fd, _RING) for fd in fds]
        for ring in rings:
            stack.callback(ring.close)
        names = ("no_ring", *_RUNS.values())
        loaded = {name: bpf.load_func(name.encode(), BPF.RAW_TRACEPOINT).fd for name in names}
        yield _Programs(loaded, rings, bpf["sums"])


def _ns_each(programs: _Programs, name: str, cpus: Sequence[int], seconds: float) -> float:
    """ns for each record, with this program running on these processors and somebody emptying the rings."""
    end = time.monotonic() + seconds
    before = programs.total()

    def run(cpu: int) -> None:
        os.sched_setaffinity(0, {cpu})
        libbpf.run(programs.fds[name], [0])
        while time.monotonic() < end:
            libbpf.run(programs.fds[name], [0])

    _all_at_once([lambda cpu=cpu: run(cpu) for cpu in cpus], programs.rings)  # type: ignore[misc]
    ns, records, refused = (b - a for a, b in zip(before, programs.total(), strict=True))
    if refused:
        raise RuntimeError(f"{refused} records were refused: the ring was full")
    return ns / records


def _all_at_once(work: Sequence[Callable[[], None]], rings: Sequence[_Ring]) -> None:
    threads = [threading.Thread(target=one) for one in work]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        for ring in rings:
            ring.empty()
        time.sleep(0.002)
    for thread in threads:
        thread.join()


def _merging_ns(rings: int) -> float:
    """ns of processor time for each event, to bring batches of several rings into one order."""
    random = np.random.default_rng(rings)
    times = np.sort(random.integers(0, 1 << 40, _BATCH)).astype(np.uint64)
    batch = np.zeros(_BATCH, FREE)
    batch["time_ns"] = times
    of_ring = random.integers(0, rings, _BATCH)
    parts = [batch[of_ring == ring] for ring in range(rings)]
    begun = time.process_time_ns()
    for _ in range(20):
        joined = np.concatenate(parts)
        order = np.argsort(joined["time_ns"], kind="stable")
        joined.view(np.uint8).reshape(_BATCH, UNIT).take(order, axis=0)
    return (time.process_time_ns() - begun) / 20 / _BATCH
