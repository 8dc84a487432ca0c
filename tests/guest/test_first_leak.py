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
LEAKY, MENDED = (one for one in shown(PROJECT / "docs" / "first-leak.md") if one.needs_root)


def mended_source() -> Path:
    """The driver, with the patch applied as the page says."""
    source = BUILD / "first-leak-mended"
    shutil.copytree(DRIVER, source, dirs_exist_ok=True)
    with (DRIVER / "mend.patch").open() as patch:
        subprocess.run(["patch", "--strip=3", "--quiet"], cwd=source, stdin=patch, check=True)
    return source


def walk(options: Sequence[str], one: Shown, directory: Path) -> int:
    """Do what the page shows with the driver in a directory; the exit status."""
    sudo, tool, module, _, *command = shlex.split(one.command)
    assert [sudo, tool, module] == ["sudo", "tools/guest", "--module"]
    done = run_tool(*options, "--keep-files", "--timeout=900", module, str(directory), *command, timeout_s=960)
    assert difference(normalised(one.output), normalised(done.stdout.splitlines())) == "", done.stdout + done.stderr
    return done.status


def test_the_leak_is_caught_and_understood(kernel_tree: Path, guest_options: list[str]) -> None:
    assert walk(guest_options, LEAKY, DRIVER) == 1


def test_the_mended_driver_is_clean(kernel_tree: Path, guest_options: list[str]) -> None:
    assert walk(guest_options, MENDED, mended_source()) == 0


def test_every_message_of_kmemleak_is_explained(kernel_tree: Path) -> None:
    """Of those that are no part of its list; what is put into them differs."""
    page = " ".join((PROJECT / "docs" / "kmemleak.md").read_text().split())
    source = (kernel_tree / "mm" / "kmemleak.c").read_text()
    messages = re.findall(r"\b(?:pr_(?:info|warn|warn_once)|kmemleak_(?:warn|stop))\(\s*\"(.+)\\n\"", source)
    assert len(messages) > 15
    for message in messages:
        words = re.split(r"\s*%\w+|\\", message)
        assert max(words, key=len).strip() in page, message
