# SPDX-License-Identifier: GPL-2.0-or-later
"""The programs of a guest that is another machine than this one: a Debian of its own, unpacked once and kept."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from guest_lib.architectures import Architecture
from guest_lib.cache import cache_directory, made_once
from guest_lib.errors import GuestError, say
from guest_lib.kernel_build import venv_program
from guest_lib.packages import unpack_packages
from guest_lib.programs import run_logged

SUITE = "trixie"
"""The first Debian whose own packages are new enough for all that kleaktrace needs."""
PYTHON = "3.13"
"""The Python of that Debian."""
# What kleaktrace needs, then what the guest's scripts and tests do. They are unpacked, and not set up: that would take
# an emulator, and none of it is needed.
PACKAGES = (
    *("python3-bpfcc", "python3-click", "python3-numpy", "python3-rich"),
    *("bash", "coreutils", "dash", "findutils", "gawk", "grep", "iproute2", "iputils-ping", "kmod", "login"),
    *("mount", "procps", "sed", "util-linux"),
)
WHEELS = ("nanoarrow",)
"""What Debian does not have, from where this machine has its packages of Python."""
VENV = "opt/kleaktrace"
"""Stands for the project's .venv there, which is for this machine."""
ACCOUNTS = {"passwd": "root:x:0:0:root:/root:/bin/bash\n", "group": "root:x:0:\n"}
KLEAKTRACE = """\
#!/bin/sh
exec "$(dirname "$0")/python" -m kleaktrace "$@"
"""


def user_land(architecture: Architecture) -> Path:
    """Return the root directory of the guest's programs, making it first where it is not yet there."""
    key = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:12]
    home = cache_directory() / f"programs-{SUITE}-{architecture.name}-{key}"
    made_once(home, lambda: unpack(architecture, home / "root", home / "unpack.log"))
    return home / "root"


def unpack(architecture: Architecture, root: Path, log: Path) -> None:
    """Fetch the packages from where this machine has its own, and unpack them."""
    if os.geteuid() != 0:
        raise GuestError("not root: a guest of another architecture needs programs of its own", "sudo tools/guest …")
    say(f"unpacking Debian {SUITE} for {architecture.name} to {root}")
    log.write_bytes(b"")
    unpack_packages(SUITE, architecture, PACKAGES, root, log)
    _install_wheels(architecture, root / "usr/lib/python3/dist-packages", log)
    for name, line in ACCOUNTS.items():
        (root / "etc" / name).write_text(line)
    # Set up, a Debian has these by its choice of alternatives.
    (root / "usr/bin/awk").symlink_to("gawk")
    for library in root.glob("usr/lib/*/*/lib*.so.3"):
        if library.parent.name in {"blas", "lapack"}:
            (library.parents[1] / library.name).symlink_to(library.relative_to(library.parents[1]))
    programs = root / VENV / "bin"
    programs.mkdir(parents=True)
    (programs / "python").symlink_to("/usr/bin/python3")
    (programs / "kleaktrace").write_text(KLEAKTRACE)
    (programs / "kleaktrace").chmod(0o755)


def _install_wheels(architecture: Architecture, directory: Path, log: Path) -> None:
    command = [str(venv_program("pip")), "install", "--disable-pip-version-check", "--root-user-action=ignore"]
    command += ["--no-deps", "--only-binary=:all:", f"--platform={architecture.wheels}", f"--python-version={PYTHON}"]
    command += [f"--target={directory}", *WHEELS]
    run_logged(command, log, f"cannot install {' '.join(WHEELS)}", "check the network, then try again")
