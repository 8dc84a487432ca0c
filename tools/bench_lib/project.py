# SPDX-License-Identifier: GPL-2.0-or-later
"""Part `compile`: how much longer it takes to compile a C project while the kernel is traced."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from bench_lib import processes
from bench_lib.bench import Bench
from bench_lib.figures import Figure, Part, Target
from bench_lib.tracers import Tracer, kleaktrace, memleak, tracing, tried

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
    "each against the mean of the makes without a tracer right before and after it, as the speed of a machine drifts. "
    "What keeps one of the processors busy besides makes the clock's figure bad and leaves the other "
    "as it is. Nothing recorded: a filter that lets nothing through, so that all there is of an event is that our "
    "programs are run and look at it."
)
_FUNCTIONS = 40
"""In each file. So a processor makes some 25,000 allocations a second."""


def measure(bench: Bench) -> Part:
    """Run the part."""
    project = _Project.generated(bench.directory / "project", 4 if bench.short else 25)
    ours, nothing = kleaktrace(), kleaktrace("--min-size", "1G", name="nothing recorded")
    theirs = tried(memleak(), bench.directory)
    tracers = [tracer for tracer in (ours, nothing, ours, theirs, ours) if not tracer.missing]
    made: dict[str, list[_Made]] = {}
    without = [project.make()]
    for tracer in bench.alternate("compile", tracers):
        under = _under(tracer, project, bench.directory)
        without.append(project.make())
        made.setdefault(tracer.name, []).append(_Made(without[-2], under, without[-1]))
    shutil.rmtree(project.place)
    found = [
        Figure("no tracer", "s", [each.wall_s for each in without]),
        Figure("no tracer, processor", "s", [each.cpu_s for each in without]),
        Figure(f"{ours.name}: allocations", "/s", [each.under.allocations_per_s for each in made[ours.name]]),
        Figure(f"{ours.name}: front end", "% of a core", [each.under.front_end for each in made[ours.name]]),
    ]
    for name, makes in made.items():
        target = Target(1.5) if name == ours.name else None
        found.append(Figure(f"{name}: more time", "%", [each.more_wall for each in makes], target))
        found.append(Figure(f"{name}: more processor time", "%", [each.more_cpu for each in makes]))
    if theirs.missing:
        found.append(Figure(theirs.name, "%", (), note=f"not available: {theirs.missing}"))
    raw = {name: [asdict(each) for each in makes] for name, makes in made.items()}
    return Part("compile", _HOW.format(jobs=project.jobs, files=project.files), found, raw)


@dataclass(frozen=True, slots=True)
class _Times:
    """Of one make: by the clock, and of the compilers' processor time."""

    wall_s: float
    cpu_s: float


@dataclass(frozen=True, slots=True)
class _Traced:
    """A make under a tracer, and what that did meanwhile."""

    times: _Times
    front_end: float
    """In per cent of a core."""
    allocations_per_s: float


@dataclass(frozen=True, slots=True)
class _Made:
    """A make under a tracer, and those without one before and after it."""

    before: _Times
    under: _Traced
    after: _Times

    @property
    def more_wall(self) -> float:
        """In per cent."""
        return _more(self.under.times.wall_s, self.before.wall_s, self.after.wall_s)

    @property
    def more_cpu(self) -> float:
        """In per cent."""
        return _more(self.under.times.cpu_s, self.before.cpu_s, self.after.cpu_s)


def _more(under: float, before: float, after: float) -> float:
    return 100 * (2 * under / (before + after) - 1)


def _under(tracer: Tracer, project: _Project, directory: Path) -> _Traced:
    with tracing(tracer, directory) as running:
        project.make()
        begun_s = processes.exact_cpu_s(running.pid)
        times = project.make()
        share = 100 * (processes.exact_cpu_s(running.pid) - begun_s) / times.wall_s
        running.end()
        allocations = 0.0
        if (running.directory / "trace.json").exists():
            document = running.document()
            allocations = document["totals"]["allocations"] / document["window"]["seconds"]
    return _Traced(times, share, allocations)


@dataclass(frozen=True, slots=True)
class _Project:
    """So many C files, to be compiled by so many jobs."""

    place: Path
    files: int
    jobs: int

    @classmethod
    def generated(cls, place: Path, files: int) -> _Project:
        place.mkdir()
        includes = "".join(f"#include <{header}>\n" for header in _HEADERS)
        for file in range(files):
            functions = (_FUNCTION.format(file=file, number=number) for number in range(_FUNCTIONS))
            (place / f"f{file}.c").write_text(includes + "".join(functions))
        objects = " ".join(f"f{file}.o" for file in range(files))
        (place / "Makefile").write_text(f"all: {objects}\n%.o: %.c\n\tgcc -O2 -c $<\nclean:\n\trm -f *.o\n")
        return cls(place, files, os.cpu_count() or 1)

    def make(self) -> _Times:
        """Compile all of it."""
        subprocess.run(["make", "-s", "clean"], cwd=self.place, check=True)
        before, begun = _children_cpu_s(), time.monotonic()
        subprocess.run(["make", "-s", f"-j{self.jobs}"], cwd=self.place, check=True)
        return _Times(time.monotonic() - begun, _children_cpu_s() - before)


def _children_cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
