# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs one kernel: what it offers, what tracing costs there, the lab's verdicts, and tests of the suite."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from matrix_lib.kernels import Kernel
from matrix_lib.results import Result, SuiteTests, Verdicts

PROJECT = Path(__file__).resolve().parents[2]
GUEST = PROJECT / "tools" / "guest"
LAB = PROJECT / "tests" / "guest" / "verdict_matrix.py"
TESTS = {"rates": "test_rates.py", "loss": "test_loss.py", "pages": "test_pages.py"}
"""Files of tests/guest, by what they are about: rates of each context, verdicts where events get lost, leaked pages."""
_TIMEOUT_S = 900


class KernelFailed(Exception):
    """A kernel did not build, or its guest died: what it said."""


def measure(kernel: Kernel, say: Callable[[str], None]) -> Result:
    """Build the kernel if need be, and run it twice. Raises `KernelFailed`."""
    say(f"{kernel.name}: building, if it is not yet built")
    _run([str(GUEST), *kernel.options, "--build-dir"], None)
    (PROJECT / "build").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="matrix-", dir=PROJECT / "build") as name:
        directory = Path(name)
        say(f"{kernel.name}: what it offers")
        offered = _offered(kernel, directory)
        verdicts: dict[str, Verdicts] = {}
        tests: dict[str, SuiteTests] = {}
        if "refused" not in offered and kernel.has_lab:
            say(f"{kernel.name}: the lab")
            verdicts = _verdicts(kernel, directory)
            for subject, file in TESTS.items():
                say(f"{kernel.name}: {subject}")
                tests[subject] = _tests(kernel, file, directory)
    return _result(kernel, offered, verdicts, tests)


def _run(command: list[str], timeout_s: float | None) -> str:
    done = subprocess.run(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True, check=False, timeout=timeout_s)
    if done.returncode:
        raise KernelFailed(f"{' '.join(command[:6])} … ended with {done.returncode}: {done.stdout.strip()[-500:]}")
    return done.stdout


def _offered(kernel: Kernel, directory: Path) -> dict[str, Any]:
    file = directory / "offered.json"
    worker = ["env", "PYTHONPATH=tools", ".venv/bin/python", "-m", "matrix_lib.worker", str(file)]
    guest = [str(GUEST), *kernel.options, "--keep-files", f"--timeout={_TIMEOUT_S}", f"--rwdir={directory}"]
    _run([*guest, "--", *worker], _TIMEOUT_S + 60)
    found: dict[str, Any] = json.loads(file.read_text())
    return found


def _verdicts(kernel: Kernel, directory: Path) -> dict[str, Verdicts]:
    file = directory / "verdicts.json"
    # It ends with 1 where a verdict is wrong: that is a result, too.
    subprocess.run(
        [sys.executable, str(LAB), "--json", str(file), *kernel.options],
        cwd=PROJECT,
        stdout=subprocess.DEVNULL,
        check=False,
        timeout=2 * _TIMEOUT_S,
    )
    if not file.exists():
        raise KernelFailed("the lab did not run to its end")
    return {name: Verdicts(**one) for name, one in json.loads(file.read_text()).items()}


def _tests(kernel: Kernel, file: str, directory: Path) -> SuiteTests:
    report = directory / f"{file}.xml"
    options = [f"--guest-options={shlex.join(kernel.options)}", f"--junitxml={report}", "-q", "-m", "not long"]
    subprocess.run(
        [sys.executable, "-m", "pytest", f"tests/guest/{file}", *options],
        cwd=PROJECT,
        stdout=subprocess.DEVNULL,
        check=False,
        timeout=2 * _TIMEOUT_S,
    )
    if not report.exists():
        raise KernelFailed(f"{file} did not run to its end")
    return read_tests(report)


def read_tests(report: Path) -> SuiteTests:
    """What pytest's report in the form of JUnit says."""
    cases = list(xml.etree.ElementTree.parse(report).iter("testcase"))
    failed = [case for case in cases if case.find("failure") is not None or case.find("error") is not None]
    return SuiteTests(len(cases), [case.get("name", "") for case in failed])


def refusals(checks: Iterable[Mapping[str, str]]) -> list[str]:
    """What `kleaktrace doctor` says of probes that were refused: each a line of its own."""
    lines = [line for check in checks for line in (check.get("found") or "").splitlines()]
    return [line.removeprefix("refused: ") for line in lines if line.startswith("refused: ")]


def _commit() -> str:
    """What was run. Rows that were written before it are no change."""
    changed = _run(["git", "status", "--porcelain", "--untracked-files=no", "--", ".", ":!docs"], 60).strip()
    return _run(["git", "rev-parse", "--short", "HEAD"], 60).strip() + ("-dirty" if changed else "")


def _result(
    kernel: Kernel, offered: dict[str, Any], verdicts: dict[str, Verdicts], tests: dict[str, SuiteTests]
) -> Result:
    checks = {check["name"]: check for check in offered["doctor"]["checks"]}
    trace = offered.get("trace", {})
    stacks = trace.get("stack_check", {})
    allocations = trace.get("totals", {}).get("allocations", 0)
    return Result(
        kernel=kernel.name,
        release=offered["release"],
        machine=offered["machine"],
        commit=_commit(),
        date=time.strftime("%Y-%m-%d"),
        refused=" ".join(offered.get("refused", "").split()),
        sources={one["kind"]: one["source"] for one in trace.get("coverage", [])},
        refusals=refusals(checks.values()),
        context=checks.get("probe: context", {}).get("found", ""),
        plain_loads="bpf_rdonly_cast)" in checks.get("probe: reading", {}).get("found", ""),
        recognised=max(1 - stacks["unwound"] / allocations, 0.0) if allocations else 0.0,
        wrong_stacks=stacks.get("wrong", 0),
        cost=offered.get("cost", 0.0),
        verdicts=verdicts,
        tests=tests,
    )
