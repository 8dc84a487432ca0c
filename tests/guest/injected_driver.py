# SPDX-License-Identifier: GPL-2.0-or-later
"""The driver of which inject walks the error paths, inject_module/inject_paths.c: which leak, and how it is walked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from guest_tool import PROJECT, WITHOUT_SOURCE_LINES, build_module, built_tree, run_tool

_GUEST = PROJECT / "tests" / "guest"

LEAKING = {
    "alloc_name": {"alloc_ctx"},
    "alloc_table": {"alloc_name"},
    "alloc_shadow": {"alloc_counters"},
    "alloc_large": {"alloc_table"},
    "alloc_map": {"alloc_ring", "alloc_shadow"},
}
"""What it leaks, by the function in which an allocation fails."""

CLEAN = {"alloc_ctx", "alloc_object", "alloc_ring", "alloc_copy", "alloc_free_pages", "alloc_label"}


def walk(guest_options: Sequence[str], scenario: str, out: Path, timeout_s: int) -> None:
    """Run a scenario, with the directory `out` and the driver, on a kernel whose allocations can be made to fail."""
    options = list(guest_options)
    driver = build_module(_GUEST / "inject_module", built_tree(options)) / "inject_paths.ko"
    options += ["--keep-files", "--cpus=1", f"--timeout={timeout_s}", f"--rwdir={out}"]
    command = (*WITHOUT_SOURCE_LINES, "sh", str(_GUEST / scenario), str(out), str(driver))
    done = run_tool(*options, "--", *command, timeout_s=timeout_s + 100)
    assert done.status == 0, done.stdout + done.stderr


def caller(stack: Sequence[str]) -> str:
    """The driver's innermost function; empty: none of it."""
    return next((frame.partition("+")[0] for frame in stack if frame.endswith("[inject_paths]")), "")


def outcomes(report: Any) -> dict[str, set[str]]:
    """What became of the runs, by the driver's function in which the allocation failed."""
    found: dict[str, set[str]] = {}
    for path in report["error_paths"]:
        found.setdefault(caller(path["failed"]["stack"]), set()).add(path["outcome"])
    return found


def leaked(report: Any) -> dict[str, set[str]]:
    """Who had asked for what is confirmed, by the driver's function in which the allocation failed."""
    found: dict[str, set[str]] = {}
    for run in report["injections"]:
        for suspect in run["suspects"]:
            if suspect["verdict"] == "confirmed":
                found.setdefault(caller(run["failed"]["stack"]), set()).add(caller(suspect["stack"]))
    return found
