# SPDX-License-Identifier: GPL-2.0-or-later
"""tools/test: its exit status is what CI goes by, and its last line is the sum. The checks are stand-ins here."""

from __future__ import annotations

import platform
import shutil
import subprocess
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[3] / "tools" / "test"


def program(path: Path, script: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def ran(project: Path, *arguments: str, pytest_says: str, status: int = 0) -> subprocess.CompletedProcess[str]:
    (project / "tools").mkdir(exist_ok=True)
    shutil.copy(TOOL, project / "tools" / "test")
    program(project / "tools" / "setup.sh", "echo setup $* >> ran")
    for name in ("ruff", "mypy", "pytest"):
        program(project / ".venv" / "bin" / name, "exit 0")
    program(project / ".venv" / "bin" / "python", f"echo $* >> ran; echo '{pytest_says}'; exit {status}")
    return subprocess.run(["bash", project / "tools" / "test", *arguments], capture_output=True, text=True, check=False)


def run(project: Path, *arguments: str, pytest_says: str, status: int = 0) -> tuple[int, str]:
    done = ran(project, *arguments, pytest_says=pytest_says, status=status)
    return done.returncode, done.stdout.splitlines()[-1]


@pytest.mark.parametrize("how", [["--fast"], ["tests/unit"], ["--beside-load", "tests/unit"], ["--full", "tests/unit"]])
def test_what_passes_ends_with_success(tmp_path: Path, how: list[str]) -> None:
    assert run(tmp_path, *how, pytest_says="7 passed in 1.23s") == (0, "7 passed, 0 failed, 0 skipped")


@pytest.mark.parametrize("how", [["--fast"], ["tests/unit"], ["--beside-load", "tests/unit"], ["--full", "tests/unit"]])
def test_what_fails_does_not(tmp_path: Path, how: list[str]) -> None:
    ended = run(tmp_path, *how, pytest_says="2 failed, 5 passed, 1 skipped in 1.23s", status=1)
    assert ended == (1, "5 passed, 2 failed, 1 skipped")


@pytest.mark.parametrize("fast", [False, True])
def test_what_takes_seconds_is_left_out_of_fast_runs_only(tmp_path: Path, fast: bool) -> None:
    program(tmp_path / "tools" / "guest", f"echo {tmp_path}")
    (tmp_path / "include" / "config").mkdir(parents=True)
    (tmp_path / "include" / "config" / "kernel.release").write_text("6.12")
    run(tmp_path, *(["--fast"] if fast else []), pytest_says="7 passed in 1.23s")
    (unit,) = (line for line in (tmp_path / "ran").read_text().splitlines() if " tests/unit " in line)
    assert ("-m not thorough" in unit) is fast


def test_every_kernel_that_was_tested_is_named(tmp_path: Path) -> None:
    says = """
    case "$*" in
    *--arch*--build-dir) tree=arm64 ;;
    *6.1*--build-dir) tree=6.1 ;;
    *--build-dir) tree=guest ;;
    *"uname -r") printf '%s-deb\\r\\n' "$2"; exit ;;
    *) exit ;;
    esac
    mkdir -p "$tree/include/config" && echo "built-$tree" > "$tree/include/config/kernel.release" && echo "$PWD/$tree"
    """
    program(tmp_path / "tools" / "guest", says)
    done = ran(tmp_path, pytest_says="7 passed in 1.23s")
    (told,) = (line for line in done.stderr.splitlines() if "kernels: host" in line)
    assert told == (
        f"test: kernels: host {platform.release()}, guest built-guest, 6.1 built-6.1, "
        "arm64 built-arm64, debian12 debian12-deb, debian13 debian13-deb"
    )


@pytest.mark.parametrize("full", [False, True])
def test_spark_is_set_up_and_asked_only_by_full(tmp_path: Path, full: bool) -> None:
    how = ["--fast", "--full"] if full else ["--fast"]
    last = run(tmp_path, *how, pytest_says="7 passed in 1.23s")[1]
    ran = (tmp_path / "ran").read_text().splitlines()
    assert ("setup full" in ran, "-m pytest tests/full" in ran) == (full, full)
    assert last == f"{14 if full else 7} passed, 0 failed, 0 skipped"


@pytest.mark.parametrize("failing", ["nothing", "tests/unit", "tests/browser", "tests/host", "tests/guest"])
def test_all_parts_count_also_those_beside_others(tmp_path: Path, failing: str) -> None:
    program(tmp_path / "tools" / "guest", f"echo {tmp_path}")
    (tmp_path / "include" / "config").mkdir(parents=True)
    (tmp_path / "include" / "config" / "kernel.release").write_text("6.12")
    says = f"'; case \"$*\" in *{failing}*) echo '1 failed in 1 s'; exit 1;; esac; echo '7 passed in 1 s"
    ended = run(tmp_path, pytest_says=says)
    assert ended == (
        (0, "28 passed, 0 failed, 0 skipped") if failing == "nothing" else (1, "21 passed, 1 failed, 0 skipped")
    )
