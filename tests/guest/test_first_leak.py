# SPDX-License-Identifier: GPL-2.0-or-later
"""The walk of docs/first-leak.md, from `make` to "clean": the guest prints what the page shows."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from docs_lib.normalised import normalised
from docs_lib.shown_output import Shown, difference, shown
from guest_tool import BUILD, PROJECT, run_tool

pytestmark = pytest.mark.guest

DRIVER = PROJECT / "docs" / "first-leak"
LEAKY, MENDED, ERROR_PATH = (one for one in shown(PROJECT / "docs" / "first-leak.md") if one.needs_root)


def mended(*patches: str) -> Path:
    """A copy of the driver, with patches applied as the page says."""
    source = BUILD / "-".join(["first-leak", *(Path(patch).stem for patch in patches)])
    shutil.copytree(DRIVER, source, dirs_exist_ok=True)
    for patch in patches:
        subprocess.run(["patch", "--strip=3", "--quiet", f"--input={patch}"], cwd=source, check=True)
    return source


def walk(options: Sequence[str], one: Shown, directory: Path) -> int:
    """Do what the page shows with the driver in a directory; the exit status."""
    sudo, tool, *shown_options, module, where, dashes = shlex.split(one.command.partition(" -- ")[0] + " --")
    assert [sudo, tool, module, where, dashes] == ["sudo", "tools/guest", "--module", "docs/first-leak", "--"]
    command = shlex.split(one.command.partition(" -- ")[2])
    chosen = [*options, *shown_options, "--keep-files", "--cpus=1", "--timeout=900", module, str(directory)]
    done = run_tool(*chosen, "--", *command, timeout_s=960)
    assert difference(normalised(one.output), normalised(done.stdout.splitlines())) == "", done.stdout + done.stderr
    return done.status


def test_the_leak_is_caught_and_understood(kernel_tree: Path, guest_options: list[str]) -> None:
    assert walk(guest_options, LEAKY, DRIVER) == 1


@pytest.mark.long
def test_the_mended_driver_is_clean(kernel_tree: Path, guest_options: list[str]) -> None:
    assert walk(guest_options, MENDED, mended("mend.patch")) == 0


@pytest.mark.long
def test_the_leak_on_the_error_path_is_caught(kernel_tree: Path, guest_options: list[str]) -> None:
    assert walk(guest_options, ERROR_PATH, mended("mend.patch")) == 1


def test_every_message_of_kmemleak_is_explained(kernel_tree: Path) -> None:
    """Of those that are no part of its list; what is put into them differs."""
    page = " ".join((PROJECT / "docs" / "kmemleak.md").read_text().split())
    source = (kernel_tree / "mm" / "kmemleak.c").read_text()
    messages = re.findall(r"\b(?:pr_(?:info|warn|warn_once)|kmemleak_(?:warn|stop))\(\s*\"(.+)\\n\"", source)
    assert len(messages) > 15
    for message in messages:
        words = re.split(r"\s*%\w+|\\", message)
        assert max(words, key=len).strip() in page, message
