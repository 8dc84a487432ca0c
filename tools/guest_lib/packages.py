# SPDX-License-Identifier: GPL-2.0-or-later
"""Debian's packages: installed on this machine, or those of any Debian unpacked to a directory."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from guest_lib.architectures import Architecture
from guest_lib.cache import cache_directory, locked
from guest_lib.errors import GuestError, say
from guest_lib.programs import run_logged


def missing_packages(names: Sequence[str]) -> list[str]:
    """Return those of the Debian packages that are not installed."""
    if shutil.which("dpkg-query") is None:
        raise GuestError("this is not a Debian system", "guest kernels are built from Debian's linux-source")
    query = subprocess.run(
        ["dpkg-query", "-W", "-f", "${Package} ${db:Status-Status}\n", *names],
        capture_output=True,
        text=True,
        check=False,
    )
    installed = {line.split()[0] for line in query.stdout.splitlines() if line.endswith(" installed")}
    return [name for name in names if name not in installed]


def install(names: Sequence[str]) -> None:
    """Install what is missing of the Debian packages, one caller at a time; refuse readably without root or network."""
    if not missing_packages(names):
        return
    cache = cache_directory()
    with locked(cache / "packages.lock"):
        if wanted := missing_packages(names):
            _install(wanted, cache / "packages.log")


def _install(wanted: Sequence[str], log: Path) -> None:
    by_hand = "apt-get install --no-install-recommends " + " ".join(wanted)
    failed, fix = "cannot install packages", f"check the network, then: {by_hand}"
    if os.geteuid() != 0:
        raise GuestError("packages are missing: " + " ".join(wanted), f"sudo {by_hand}")
    say("installing " + " ".join(wanted))
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for step in (["update"], ["install", "-y", "--no-install-recommends", *wanted]):
        command = ["apt-get", "-q", "-o", "DPkg::Lock::Timeout=300", *step]
        run_logged(command, log, failed, fix, environment=environment)


def unpack_packages(
    suite: str,
    architecture: Architecture,
    packages: Sequence[str],
    root: Path,
    log: Path,
    backports: bool = False,
) -> None:
    """Fetch packages and what they need of a Debian from where this machine has its own, and unpack them.

    backports: the packages are those of that Debian's backports.
    """
    shutil.rmtree(root, ignore_errors=True)
    suites, chosen = [suite], list(packages)
    if backports:
        suites.append(f"{suite}-backports")
        chosen = [f"{package}/{suite}-backports" for package in packages]
    command = ["mmdebstrap", "--mode=root", "--variant=extract", f"--architectures={architecture.debian}"]
    command += [f"--include={','.join(chosen)}", suite, str(root)]
    command += [f"deb {debian_mirror()} {each} main" for each in suites]
    run_logged(command, log, f"cannot unpack Debian {suite}", "check the network, then try again")


def debian_mirror() -> str:
    """Return where this machine has Debian's packages from."""
    command = ["apt-get", "indextargets", "--format", "$(LABEL) $(REPO_URI)", "Created-By: Packages"]
    listed = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    mirrors = [line.split()[1] for line in listed.splitlines() if line.startswith("Debian ")]
    if not mirrors:
        raise GuestError("apt knows no Debian repository", "apt-get update, then try again")
    return mirrors[0]
