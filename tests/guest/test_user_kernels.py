# SPDX-License-Identifier: GPL-2.0-or-later
"""Kernels and drivers that the user brings: --tree and --module, --no-panic, --shell."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import subprocess
from pathlib import Path

import pytest
from guest_tool import PROJECT, TOOL, run_tool

pytestmark = pytest.mark.guest

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def user_tree(kernel_tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Our own kernel as somebody's who built it elsewhere: links to all that lies in it, but for its configuration."""
    tree = tmp_path_factory.mktemp("home") / "linux"
    tree.mkdir()
    for path in kernel_tree.iterdir():
        if path.name not in (".config", ".virtme_mods"):
            (tree / path.name).symlink_to(path)
    shutil.copy2(kernel_tree / ".config", tree)
    return tree


def driver(name: str, home: Path) -> Path:
    return Path(shutil.copytree(HERE / name, home / name))


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


def test_a_driver_is_built_for_a_tree_run_on_it_and_judged(user_tree: Path, tmp_path: Path) -> None:
    source = driver("leaky_driver", tmp_path)
    before = names(source), names(user_tree)
    done = run_tool(
        *("--tree", str(user_tree), "--module", str(source), "--keep-files", "--cpus=1", "--timeout=600", "--"),
        *("kleaktrace", "run", "--repeat", "3", "--", "./test.sh"),
        timeout_s=660,
    )
    assert done.status == 1, done.stdout + done.stderr
    leak = next(line for line in done.stdout.splitlines() if line.startswith("LEAK"))
    assert leak.startswith("LEAK leaky_driver: begin_session: 9 objects"), done.stdout
    assert f"guest: building {source}" in done.stderr
    assert (names(source), names(user_tree)) == before, "written to what is the user's"


def test_our_own_kernel_lacks_nothing(kernel_tree: Path) -> None:
    done = run_tool("--tree", str(kernel_tree), "--print-config", timeout_s=60)
    assert (done.status, done.stdout) == (
        0,
        f"# {kernel_tree.resolve()} lacks nothing that tools/guest and kleaktrace need.\n",
    )


def test_a_tree_that_cannot_boot_is_refused_before_it_is_tried(user_tree: Path, tmp_path: Path) -> None:
    tree = tmp_path / "linux"
    tree.mkdir()
    for path in user_tree.iterdir():
        if path.name != ".config":
            (tree / path.name).symlink_to(path)
    without = re.sub("^CONFIG_(9P_FS|DEBUG_KMEMLEAK)=y$", "", (user_tree / ".config").read_text(), flags=re.MULTILINE)
    (tree / ".config").write_text(without)
    done = run_tool("--tree", str(tree), "--", "true", timeout_s=60)
    assert done.status == 3
    assert "  CONFIG_9P_FS is not set: the root file system, which is this machine's\n" in done.stderr
    assert "guest: kleaktrace sees less: CONFIG_DEBUG_KMEMLEAK is not set" in done.stderr
    printed = run_tool("--tree", str(tree), "--print-config", timeout_s=60)
    assert [line for line in printed.stdout.splitlines() if line.startswith("CONFIG")] == [
        "CONFIG_9P_FS=y",
        "CONFIG_DEBUG_KMEMLEAK=y",
    ]


def test_a_driver_that_does_not_build_is_shown_as_the_compiler_has_it(user_tree: Path, tmp_path: Path) -> None:
    source = driver("oops_driver", tmp_path)
    (source / "oops_driver.c").write_text("this is no C\n")
    done = run_tool("--tree", str(user_tree), "--module", str(source), "--", "true", timeout_s=120)
    assert done.status == 2
    assert f"{source} does not build:" in done.stderr
    assert "oops_driver.c:1:1: error: unknown type name" in done.stderr
    assert "guest: to do: make it build: make -C" in done.stderr


def test_an_oops_ends_the_guest_or_only_the_task(guest_options: list[str], tmp_path: Path, kernel_tree: Path) -> None:
    module = ["--module", str(driver("oops_driver", tmp_path))]
    script = "pwd; insmod ./oops_driver.ko || echo insmod: $?; dmesg | grep -o 'BUG: kernel NULL pointer dereference'"
    lives, dies = (
        run_tool(
            *guest_options,
            *module,
            *more,
            "--keep-files",
            "--cpus=1",
            "--timeout=600",
            "--",
            "sh",
            "-c",
            script,
            timeout_s=660,
        )
        for more in (["--no-panic"], [])
    )
    assert lives.status == 0, lives.stderr
    assert lives.stdout.splitlines() == [
        f"{tmp_path}/oops_driver",
        "insmod: 137",
        "BUG: kernel NULL pointer dereference",
    ]
    assert dies.status == 255
    assert "Kernel panic - not syncing: Fatal exception" in dies.stderr


def test_a_shell_on_a_terminal_ends_with_its_status(kernel_tree: Path, guest_options: list[str]) -> None:
    terminal, of_tool = pty.openpty()
    tool = subprocess.Popen(
        [str(TOOL), *guest_options, "--keep-files", "--timeout=600", "--shell"],
        stdin=of_tool,
        stdout=of_tool,
        stderr=of_tool,
        start_new_session=True,
    )
    os.close(of_tool)
    try:
        said = read_until(terminal, rb"guest \S+# ")
        os.write(terminal, b"echo $((6 * 7)) $(tty)\n")
        said += read_until(terminal, rb"42 /dev/tty[^#]+guest \S+# ")
        os.write(terminal, b"exit 7\n")
        said += read_until(terminal, rb"never said")
        assert tool.wait(timeout=60) == 7, said.decode(errors="replace")
    finally:
        tool.terminate()
        tool.wait(timeout=60)
        os.close(terminal)
    home = Path("/root")  # for which the shell says ~
    where = f"~/{PROJECT.relative_to(home)}" if PROJECT.is_relative_to(home) else str(PROJECT)
    assert f"guest {where}#".encode() in said


def read_until(terminal: int, pattern: bytes) -> bytes:
    """Return what comes from a terminal up to a pattern, or until nobody holds it any more."""
    said = b""
    while not re.search(pattern, said):
        assert select.select([terminal], [], [], 300)[0], said.decode(errors="replace")
        try:
            said += os.read(terminal, 4096)
        except OSError:  # EIO: the other side is closed
            break
    return said


def test_a_shell_without_a_terminal_is_refused() -> None:
    done = run_tool("--shell", timeout_s=60)
    assert (done.status, done.stdout) == (2, "")
    assert "--shell: standard input and output are no terminal" in done.stderr
