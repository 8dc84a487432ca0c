# SPDX-License-Identifier: GPL-2.0-or-later
"""Run tools/guest, and build modules for the kernel it boots."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))

from guest_lib import external_module

PROJECT = Path(__file__).resolve().parents[2]
TOOL = PROJECT / "tools" / "guest"
# Not below /tmp, which is the guest's own: what lies here is seen in the guest under the same path.
BUILD = PROJECT / "build"
_HIDE = (
    'vmlinux=/lib/modules/$(uname -r)/build/vmlinux; [ ! -f $vmlinux ] || mount --bind /dev/null $vmlinux; exec "$@"'
)
WITHOUT_SOURCE_LINES = ("sh", "-c", _HIDE, "sh")
"""Before a command in the guest: reading the kernel's debug information takes an emulated machine six seconds a report.
The verdict matrix looks at source lines where it reads captures again."""


@dataclass(frozen=True)
class GuestResult:
    """What a command did in the guest: its exit status (255: the guest died) and its output."""

    status: int
    stdout: str
    stderr: str


Guest = Callable[..., GuestResult]


def run_tool(*arguments: str, timeout_s: float) -> GuestResult:
    """Run tools/guest."""
    done = subprocess.run(
        [str(TOOL), *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=timeout_s,
        check=False,
    )
    return GuestResult(done.returncode, done.stdout, done.stderr)


def result_of(guest: Guest, scenario: str, out: Path, *arguments: object) -> Any:
    """What a Python scenario of this directory, run in the guest, wrote as JSON to its first argument, below `out`."""
    python, script = PROJECT / ".venv" / "bin" / "python", Path(__file__).with_name(scenario)
    file = out / "result.json"
    done = guest(str(python), str(script), str(file), *map(str, arguments), rwdirs=[out], timeout_s=600)
    assert done.status == 0, done.stdout + done.stderr
    return json.loads(file.read_text())


def built_tree(options: Sequence[str] = ()) -> Path:
    """The build tree of the kernel that these options of tools/guest ask for, which is built now if it has not been."""
    built = run_tool(*options, "--build-dir", timeout_s=3600)
    assert built.status == 0, f"tools/guest --build-dir failed:\n{built.stderr}"
    return Path(built.stdout.strip())


def build_module(source: Path, kernel_tree: Path) -> Path:
    """Build an out-of-tree module in a copy of its source, and return the directory it lies in."""
    target = BUILD / "modules" / kernel_tree.parent.name / source.name
    external_module.build_module(source, kernel_tree, target)
    return target
