# SPDX-License-Identifier: GPL-2.0-or-later
"""The guest's kernel, built with our configuration and kept: from the distribution's source, or from the user's."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from guest_lib.architectures import Architecture
from guest_lib.cache import cache_directory, locked
from guest_lib.errors import USAGE, GuestError, say
from guest_lib.kernel_source import kernel_source
from guest_lib.packages import install
from guest_lib.paths import PROJECT
from guest_lib.programs import run_logged

FRAGMENTS = PROJECT / "tools"
BUILD_SPACE_BYTES = 5 << 30
BOOT_PACKAGES = ("file", "iproute2", "kmod")
BUILD_PACKAGES = (
    "bc",
    "bison",
    "cpio",
    "dwarves",
    "flex",
    "libc6-dev",
    "libelf-dev",
    "libssl-dev",
    "make",
    "openssl",
    "rsync",
    "xz-utils",
)
# A kernel without one of these would pass for a guest and test nothing. BTF goes missing without pahole.
ESSENTIAL = ("BPF_EVENTS", "DEBUG_INFO_BTF", "DEBUG_KMEMLEAK", "FUNCTION_TRACER", "KPROBES", "MODULES")
# Not needed to build: they would double the time and space of unpacking. Who adds settings may need the drivers.
UNNEEDED_SOURCES = ("*/tools/testing/*.c",)
UNNEEDED_DRIVERS = ("*/drivers/gpu/drm/*.[ch]", "*/drivers/net/ethernet/*.[ch]")


def settings(fragment: str) -> list[str]:
    """Return the lines of a configuration fragment that set something."""
    lines = (line.strip() for line in fragment.splitlines())
    return [line for line in lines if line.startswith("CONFIG_") or line.endswith(" is not set")]


def cache_key(version: str, architecture: Architecture, fragment: str) -> str:
    """Return what a built kernel depends on, as a short name; comments in the fragment do not count."""
    text = "\n".join([version, architecture.name, *settings(fragment)])
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def build_tree(kernel: str, architecture: Architecture, fragments: Sequence[Path] = ()) -> Path:
    """Return the tree of the built kernel, building it first where it is not yet there."""
    cache = cache_directory()
    _install_packages(architecture)
    source = kernel_source(kernel)
    fragment = _fragment(architecture, fragments)
    excludes = UNNEEDED_SOURCES if fragments else UNNEEDED_SOURCES + UNNEEDED_DRIVERS
    home = cache / f"guest-{kernel}-{architecture.name}-{cache_key(source.version, architecture, fragment)}"
    tree, ready = home / "linux", home / "ready"
    if ready.exists():
        return tree
    home.mkdir(exist_ok=True)
    with locked(home / "lock"):
        if not ready.exists():
            unpack(source.tarball, excludes, tree, home / "build.log")
            build(architecture, fragment, tree, home / "build.log", 0 if fragments else architecture.steps)
            ready.touch()
    return tree


def source_tree(source: Path, architecture: Architecture, fragments: Sequence[Path] = ()) -> Path:
    """Return the build tree of a source that somebody else keeps, where what has changed in it is built now.

    Nothing is written to the source. Raises `GuestError` if a kernel was built in it: kbuild needs a clean one then.
    """
    refuse_unclean_source(source)
    _install_packages(architecture)
    fragment = _fragment(architecture, fragments)
    key = cache_key(str(source), architecture, fragment)
    home = cache_directory() / f"guest-{source.name}-{architecture.name}-{key}"
    home.mkdir(exist_ok=True)
    tree, log = home / "linux", home / "build.log"
    tree.mkdir(exist_ok=True)
    with locked(home / "lock"):
        if not (home / "ready").exists():
            _refuse_little_space(home)
        log.write_bytes(b"")
        make = ["make", "-C", str(source), f"O={tree}", *architecture.make]
        if (home / "ready").exists():
            _say_yes_to_defaults(make, tree, log)
        else:
            configure(make, fragment, tree, log)
            (home / "ready").touch()
        say(f"building {source}: what has changed since the last time; log {log}")
        _compile(make, architecture, tree, log)
    return tree


def refuse_unclean_source(source: Path) -> None:
    """Raise `GuestError` unless kbuild would build a source elsewhere (Makefile of the kernel, `outputmakefile`)."""
    if not ((source / "Kconfig").is_file() and (source / "Makefile").is_file()):
        raise GuestError(f"--source {source}: no kernel's source", "give the directory that has its Makefile", USAGE)
    traces = [source / ".config", source / "include/config", *source.glob("arch/*/include/generated")]
    if any(path.exists() for path in traces):
        raise GuestError(
            f"--source {source}: a kernel was configured or built in it, so kbuild will not build elsewhere from it",
            f"boot that one: --tree {source}; or remove it, .config and all: make -C {source} mrproper",
        )


def _install_packages(architecture: Architecture) -> None:
    install([*BOOT_PACKAGES, *BUILD_PACKAGES, *architecture.packages])


def _fragment(architecture: Architecture, more: Sequence[Path]) -> str:
    ours = [FRAGMENTS / name for name in architecture.fragments]
    return "\n".join(path.read_text() for path in (*ours, *more))


def unpack(tarball: Path, excluded: Sequence[str], tree: Path, log: Path) -> None:
    """Unpack a kernel's source, but for the `excluded`; the output is in `log`."""
    _refuse_little_space(tree.parent)
    shutil.rmtree(tree, ignore_errors=True)
    tree.mkdir()
    log.write_bytes(b"")
    say(f"unpacking {tarball} to {tree}")
    excludes = [f"--exclude={pattern}" for pattern in excluded]
    command = ["tar", "-x", "-f", str(tarball), "-C", str(tree), "--strip-components=1", *excludes]
    run_logged(command, log, "cannot unpack the kernel source", "reinstall the linux-source package")


def _refuse_little_space(directory: Path) -> None:
    free = shutil.disk_usage(directory).free
    if free < BUILD_SPACE_BYTES:
        raise GuestError(
            f"{directory} has {free >> 20} MiB free, a kernel takes {BUILD_SPACE_BYTES >> 20} MiB to build",
            "make room, or point XDG_CACHE_HOME elsewhere",
        )


def build(architecture: Architecture, fragment: str, tree: Path, log: Path, steps: int) -> None:
    """Configure and build an unpacked kernel; progress on stderr, all output in `log`; `steps`: see `run_logged`."""
    make = ["make", *architecture.make]
    configure(make, fragment, tree, log)
    say(f"building the kernel once, six minutes or so on two cores (more with --config); log {log}")
    _compile(make, architecture, tree, log, steps)
    remove_objects(tree)


def _compile(make: Sequence[str], architecture: Architecture, tree: Path, log: Path, steps: int = 0) -> None:
    """Build a configured kernel, and have modprobe find its modules in the guest; `steps`: see `run_logged`."""
    started = time.monotonic()
    command = [*make, f"-j{os.cpu_count() or 1}", architecture.image, "modules"]
    run_logged(command, log, "the kernel does not build", f"see {log}", directory=tree, steps=steps)
    # virtme-ng would do it by itself, but not under our lock.
    index = [str(venv_program("virtme-prep-kdir-mods"))]
    run_logged(index, log, "cannot index the kernel's modules", f"see {log}", directory=tree)
    say(f"built in {(time.monotonic() - started) / 60:.1f} min")


def configure(make: Sequence[str], fragment: str, tree: Path, log: Path) -> None:
    """Merge the fragment over tinyconfig, and see that nothing essential got lost on the way."""
    run_logged([*make, "tinyconfig"], log, "cannot configure the kernel", f"see {log}", directory=tree)
    config = tree / ".config"
    with config.open("a") as stream:
        stream.write(fragment)
    _say_yes_to_defaults(make, tree, log)
    chosen = set(config.read_text().splitlines())
    left_out = {line.split()[1] for line in settings(fragment) if line.endswith(" is not set")}
    needed = [name for name in ESSENTIAL if f"CONFIG_{name}" not in left_out]
    lost = [name for name in needed if f"CONFIG_{name}=y" not in chosen]
    if lost:
        raise GuestError(
            "the kernel configuration lost " + " ".join(f"CONFIG_{name}" for name in lost),
            "a build package may be too old; tools/guest.config says what each is for",
        )


def _say_yes_to_defaults(make: Sequence[str], tree: Path, log: Path) -> None:
    """Let options that depend on others, or are new in a source, have their defaults: else kbuild would ask."""
    run_logged([*make, "olddefconfig"], log, "cannot configure the kernel", f"see {log}", directory=tree)


def remove_objects(tree: Path) -> None:
    """Remove what only a rebuild would read; external modules build without it."""
    for path in {*tree.rglob("*.[oa]"), *tree.glob(".tmp_vmlinux*")}:
        if path.relative_to(tree).parts[0] not in {"scripts", "tools"}:
            path.unlink()


def venv_program(name: str) -> Path:
    """Return a program of the project's virtual environment, setting that up if need be."""
    path = PROJECT / ".venv" / "bin" / name
    if not path.exists():
        setup = subprocess.run(["bash", str(PROJECT / "tools" / "setup.sh"), "dev"], stdout=2, check=False)
        if setup.returncode != 0 or not path.exists():
            raise GuestError(f"{path} is missing", "run tools/setup.sh dev, and see what it says")
    return path
