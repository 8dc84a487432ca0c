# SPDX-License-Identifier: GPL-2.0-or-later
"""The guest: a booted kernel with kmemleak, and the modules that leak in it.

A boot takes five to ten seconds, so a test asks for one boot that does several things where it can.
"""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import pytest
from guest_tool import (
    PROJECT,
    WITHOUT_SOURCE_LINES,
    Guest,
    GuestResult,
    build_module,
    built_tree,
    run_tool,
)

LONGEST_FIRST = (
    *("test_ground_truth", "test_museum", "test_linux_6_1", "test_inject", "test_verdict_matrix", "test_loss"),
    *("test_repetition", "test_rates", "test_distribution_kernels", "test_pages", "test_machine_memory", "test_diff"),
    *("test_arm64", "test_crowd", "test_user_kernels", "test_screen", "test_real_kmemleak", "test_first_leak"),
)
"""A long file that comes last would be run while other workers have nothing to do."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let all of this run on another kernel: --guest-options="--kernel 6.1", as of tools/guest."""
    parser.addoption("--guest-options", default="", metavar="OPTIONS", help="boot what these of tools/guest say")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files that take longest first; the others stay in their order, and other kinds of tests before them."""
    rank = {name: number for number, name in enumerate(LONGEST_FIRST)}
    here = Path(__file__).parent
    items.sort(key=lambda item: rank.get(item.path.stem, len(rank)) if item.path.parent == here else -1)


@pytest.fixture(scope="session")
def guest_options(request: pytest.FixtureRequest) -> list[str]:
    """Give the options of tools/guest that say which kernel is tested."""
    return shlex.split(request.config.getoption("--guest-options"))


@pytest.fixture(scope="session")
def kernel_tree(guest_options: list[str]) -> Path:
    """Give the build tree of the guest's kernel, which is built now if it has not been."""
    if os.geteuid() != 0:
        pytest.skip("guest tests need root: run them with sudo tools/test tests/guest")
    return built_tree(guest_options)


@pytest.fixture(scope="session")
def traces_functions(kernel_tree: Path) -> bool:
    """Whether programs can be attached to functions: only so are bulk allocations and frees seen."""
    return "\nCONFIG_KPROBES=y\n" in (kernel_tree / ".config").read_text()


@pytest.fixture(scope="session")
def guest(kernel_tree: Path, guest_options: list[str]) -> Guest:
    """Give a function that runs a command in a newly booted guest: guest("uname", "-r", rwdirs=[DIR]).

    cpus: with one, everything takes a sixth less; where two processors see more than one does, there are two.
    """

    def run(
        *command: str,
        rwdirs: list[Path] | None = None,
        append: list[str] | None = None,
        timeout_s: float = 300,
        cpus: int = 2,
    ) -> GuestResult:
        # What is read of the project does not change while a test boots it.
        options = [*guest_options, "--keep-files", f"--timeout={timeout_s}", f"--cpus={cpus}"]
        options += [f"--rwdir={path}" for path in rwdirs or []]
        options += [f"--append={parameter}" for parameter in append or []]
        # The tool keeps time by itself; ours is only for a tool that hangs.
        return run_tool(*options, "--", *WITHOUT_SOURCE_LINES, *command, timeout_s=timeout_s + 60)

    return run


@pytest.fixture(scope="session")
def lab_module(kernel_tree: Path) -> Path:
    """Give the lab, built: insmod it in the guest, and see the table in tests/lab/lab_main.c for what it does."""
    return build_module(PROJECT / "tests" / "lab", kernel_tree) / "kleaktrace_lab.ko"


@pytest.fixture(scope="session")
def kmemleak_test_module(kernel_tree: Path) -> Path:
    """Give the kernel's own sample of leaks."""
    path = kernel_tree / "samples" / "kmemleak" / "kmemleak-test.ko"
    assert path.exists(), f"{path} was not built: see tools/guest.config"
    return path
