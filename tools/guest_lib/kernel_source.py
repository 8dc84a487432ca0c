# SPDX-License-Identifier: GPL-2.0-or-later
"""A kernel's source as Debian has it: of this machine's release, or else of the one that the kernel is of."""

from __future__ import annotations

import gzip
import platform
import re
import subprocess
from pathlib import Path
from typing import NamedTuple

from guest_lib.architectures import X86_64
from guest_lib.cache import cache_directory, made_once
from guest_lib.errors import GuestError, say
from guest_lib.packages import install, missing_packages, unpack_packages

SUITES = {"6.1": "bookworm"}
"""The only Debian that has a kernel's source."""
NEWEST = "newest"
"""A kernel: the newest that Debian has made packages of for those who use its stable release, `STABLE`."""
STABLE = "trixie"


class KernelSource(NamedTuple):
    """Where it is, and the version of its package."""

    tarball: Path
    version: str


def kernel_source(kernel: str) -> KernelSource:
    """Return the source of a kernel, fetching it first where it is not yet here."""
    if kernel == NEWEST:
        return _newest()
    package, suite = f"linux-source-{kernel}", SUITES.get(kernel)
    tarball, cache = Path(f"usr/src/{package}.tar.xz"), cache_directory()
    if suite in (None, _this_suite()) or not missing_packages([package]):
        install([package])
        return KernelSource("/" / tarball, _installed_version(package))
    home = cache / f"{package}-{suite}"
    install(["mmdebstrap"])
    made_once(home, lambda: _unpack(package, suite or "", home))
    return KernelSource(home / "root" / tarball, _version(home / "root/usr/share/doc" / package))


def _this_suite() -> str:
    return platform.freedesktop_os_release().get("VERSION_CODENAME", "")


def _installed_version(package: str) -> str:
    query = ["dpkg-query", "-W", "-f", "${Version}", package]
    return subprocess.run(query, capture_output=True, text=True, check=True).stdout


def _newest() -> KernelSource:
    """Return what was the newest when it was fetched: a later one comes when that is removed from the cache."""
    home = cache_directory() / f"linux-source-{STABLE}-backports"
    install(["mmdebstrap"])
    made_once(home, lambda: _unpack("linux-source", STABLE, home, backports=True))
    (tarball,) = (home / "root/usr/src").glob("linux-source-*.tar.xz")
    package = tarball.name.removesuffix(".tar.xz")
    return KernelSource(tarball, _version(home / "root/usr/share/doc" / package))


def _unpack(package: str, suite: str, home: Path, backports: bool = False) -> None:
    log = home / "unpack.log"
    log.write_bytes(b"")
    say(f"unpacking {package} of Debian {suite}{'-backports' if backports else ''} to {home}")
    unpack_packages(suite, X86_64, [package], home / "root", log, backports)


def _version(documents: Path) -> str:
    """Return the version of an unpacked package, which no package manager knows: its newest change has it."""
    with gzip.open(documents / "changelog.Debian.gz", "rt") as changes:
        newest = re.match(r"\S+ \((\S+)\)", changes.readline())
    if newest is None:
        raise GuestError(f"{documents}: no version in changelog.Debian.gz", "remove its directory, then try again")
    return newest[1]
