# SPDX-License-Identifier: GPL-2.0-or-later
"""Where tools/guest has a kernel's source from."""

from __future__ import annotations

import gzip
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "tools"))

from guest_lib import kernel_source as module
from guest_lib.architectures import Architecture
from guest_lib.errors import GuestError


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """What is installed of packages; a release that has all of them but 6.1's."""
    packages: list[str] = []
    monkeypatch.setattr(module, "cache_directory", lambda: tmp_path)
    monkeypatch.setattr(module, "install", packages.extend)
    monkeypatch.setattr(module, "missing_packages", lambda names: [name for name in names if name not in packages])
    monkeypatch.setattr(module, "_this_suite", lambda: "trixie")
    monkeypatch.setattr(module, "_installed_version", lambda package: f"version of {package}")
    return packages


def unpacks(monkeypatch: pytest.MonkeyPatch, newest_change: str) -> list[str]:
    """Have other releases' packages be unpacked; where from is told."""
    asked: list[str] = []

    def unpack(
        suite: str, architecture: Architecture, packages: Sequence[str], root: Path, log: Path, backports: bool
    ) -> None:
        asked.append(suite + "-backports" * backports)
        (package,) = packages
        if package == "linux-source":  # which has nothing but the name of the newest
            package += "-7.3"
        documents = root / "usr/share/doc" / package
        (root / "usr/src").mkdir(parents=True)
        (root / "usr/src" / f"{package}.tar.xz").touch()
        documents.mkdir(parents=True)
        with gzip.open(documents / "changelog.Debian.gz", "wt") as changes:
            changes.write(f"{newest_change}\n\n  * New upstream stable update\n")

    monkeypatch.setattr(module, "unpack_packages", unpack)
    return asked


def test_what_this_release_has_is_installed(installed: list[str]) -> None:
    source = module.kernel_source("6.12")
    assert source == (Path("/usr/src/linux-source-6.12.tar.xz"), "version of linux-source-6.12")
    assert installed == ["linux-source-6.12"]


def test_what_another_release_has_is_unpacked_once(
    installed: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked = unpacks(monkeypatch, "linux (6.1.170-3) bookworm; urgency=medium")
    for _ in range(2):
        tarball, version = module.kernel_source("6.1")
        assert (version, tarball.name) == ("6.1.170-3", "linux-source-6.1.tar.xz")
        assert tarball.is_relative_to(tmp_path)
    assert asked == ["bookworm"]
    assert "linux-source-6.1" not in installed


def test_the_newest_is_what_the_stable_release_has_in_its_backports(
    installed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = unpacks(monkeypatch, "linux (7.3.4-1~bpo13+1) trixie-backports; urgency=medium")
    for _ in range(2):
        tarball, version = module.kernel_source("newest")
        assert (version, tarball.name) == ("7.3.4-1~bpo13+1", "linux-source-7.3.tar.xz")
    assert asked == ["trixie-backports"]


def test_a_package_that_is_here_already_is_taken(installed: list[str]) -> None:
    installed.append("linux-source-6.1")
    assert module.kernel_source("6.1").version == "version of linux-source-6.1"


def test_what_says_no_version_is_no_source(installed: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    unpacks(monkeypatch, "nothing of the kind")
    with pytest.raises(GuestError, match="no version"):
        module.kernel_source("6.1")
