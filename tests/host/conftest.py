# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests on the running kernel, whichever it is: real events, through the real ring."""

from __future__ import annotations

import importlib.util
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from host_tools import Holder


@pytest.fixture(autouse=True, scope="session")
def _live_kernel() -> None:
    if os.geteuid() != 0:
        pytest.skip("not root: run them with sudo tools/test tests/host")
    if not Path("/sys/kernel/btf/vmlinux").exists():
        pytest.skip("this kernel has no BTF (CONFIG_DEBUG_INFO_BTF)")
    if importlib.util.find_spec("bcc") is None:
        pytest.skip("python3-bpfcc is not installed")


@pytest.fixture(scope="session")
def load(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compile the load generator."""
    program = tmp_path_factory.mktemp("load") / "load"
    source = Path(__file__).with_name("load.c")
    subprocess.run(["gcc", "-O2", "-Wall", "-Werror", "-o", str(program), str(source)], check=True)
    return program


@pytest.fixture
def holder(load: Path) -> Iterator[Callable[[str], Holder]]:
    """Give a function that starts a process of a given name, which holds files when told to."""
    started: list[Holder] = []

    def start(name: str) -> Holder:
        started.append(Holder(load, name))
        return started[-1]

    yield start
    for process in started:
        process.close()
