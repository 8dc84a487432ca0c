"""Part `compile`: how much longer it takes to compile a C project while the kernel is traced."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import time
from pathlib import Path

from bench_lib import processes
from bench_lib.bench import Bench
from bench_lib.figures import Figure, Part, Target, quotients
from bench_lib.tracers import NONE, kleaktrace, memleak, tracing, tried

_HEADERS = ("arpa/inet.h", "errno.h", "fcntl.h", "math.h", "pthread.h", "signal.h", "stdio.h", "stdlib.h", "string.h")
_FUNCTION = """
int f{file}_{number}(const char *text, double x)
{{
	char line[256];
	int sum = 0;

	for (size_t i = 0; i < strlen(text); i++)
		sum += (int)(text[i] * pow(x, {number})) ^ {file};
	snprintf(line, sizeof(line), "%d %s", sum, strerror(errno));
	return sum + (int)strlen(line);
}}
"""
_HOW = (
    "make -j{jobs} of {files} generated C files with system headers (gcc -O2), after one under the same tracer that is "
    "not counted: the tracer is meant to be always on. More time: by the clock, and processor time of all compilers, "
    "round by round against the round's run without a tracer. What keeps one of the processors busy besides makes the "
    "clock's figure bad and leaves the other as it is. Nothing recorded: a filter that lets nothing through, so that "
    "all there is of an event is that our programs are run and look at it."
)
_FUNCTIONS = 40
"""In each file. So a processor makes some 25,000 allocations a second."""


def measure(bench: Bench) -> Part:
    """Run the part."""
    files = 4 if bench.short else 100
    jobs = os.cpu_count() or 1
    place = _generate(bench.directory / "project", files)
    ours, nothing = kleaktrace(), kleaktrace("--min-size", "1G", name="nothing recorded")
    tracers = [NONE, ours, nothing, tried(memleak(), bench.directory)]
    wall: dict[str, list[float]] = {}
    cpu: dict[str, list[float]] = {}
    allocations: list[float] = []
    front_end: list[float] = []
    for tracer in bench.alternate("compile", [tracer for tracer in tracers if not tracer.missing]):
        with tracing(tracer, bench.directory) as running:
            _make(place, jobs)
            before_s = processes.cpu_s(running.pid) if tracer == ours else 0.0
            wall_s, cpu_s = _make(place, jobs)
            if tracer == ours:
                front_end.append(100 * (processes.cpu_s(running.pid) - before_s) / wall_s)
                running.end()
                document = running.document()
                allocations.append(document["totals"]["allocations"] / document["window"]["seconds"])
        wall.setdefault(tracer.name, []).append(wall_s)
        cpu.setdefault(tracer.name, []).append(cpu_s)
    shutil.rmtree(place)
    found = [Figure("no tracer", "s", wall["none"]), Figure("no tracer, processor", "s", cpu["none"])]
    found.append(Figure("kleaktrace: allocations seen", "/s", allocations))
    found.append(Figure("kleaktrace: front end", "% of a core", front_end))
    for name in list(wall)[1:]:
        target = Target(1.5) if name == ours.name else None
        found.append(Figure(f"{name}: more time", "%", _more(wall[name], wall["none"]), target))
        found.append(Figure(f"{name}: more processor time", "%", _more(cpu[name], cpu["none"])))
    found += [Figure(t.name, "%", (), note=f"not available: {t.missing}") for t in tracers if t.missing]
    return Part("compile", _HOW.format(jobs=jobs, files=files), found, {"wall_s": wall, "cpu_s": cpu})


def _more(of: list[float], than: list[float]) -> list[float]:
    """In per cent."""
    return [100 * (quotient - 1) for quotient in quotients(of, than)]


def _generate(place: Path, files: int) -> Path:
    place.mkdir()
    includes = "".join(f"#include <{header}>\n" for header in _HEADERS)
    for file in range(files):
        functions = (_FUNCTION.format(file=file, number=number) for number in range(_FUNCTIONS))
        (place / f"f{file}.c").write_text(includes + "".join(functions))
    objects = " ".join(f"f{file}.o" for file in range(files))
    (place / "Makefile").write_text(f"all: {objects}\n%.o: %.c\n\tgcc -O2 -c $<\nclean:\n\trm -f *.o\n")
    return place


def _make(place: Path, jobs: int) -> tuple[float, float]:
    """Compile all of it; seconds by the clock, and of processor time."""
    subprocess.run(["make", "-s", "clean"], cwd=place, check=True)
    before, begun = _children_cpu_s(), time.monotonic()
    subprocess.run(["make", "-s", f"-j{jobs}"], cwd=place, check=True)
    return time.monotonic() - begun, _children_cpu_s() - before


def _children_cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
