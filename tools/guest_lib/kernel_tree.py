# SPDX-License-Identifier: GPL-2.0-or-later
"""A kernel that the user has built: what it lacks is said before it is booted."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from guest_lib.architectures import ARCHITECTURES, X86_64, Architecture
from guest_lib.errors import USAGE, GuestError, say
from guest_lib.kernel_build import BOOT_PACKAGES, BUILD_PACKAGES
from guest_lib.kernel_config import NOT_SET, KernelConfig, config_of
from guest_lib.kernel_options import KernelOption, Need, fragment, missing_options, options_for
from guest_lib.packages import install

_HEADER = """\
# What tools/guest and kleaktrace need of a kernel{of}. To merge it:
#   tools/guest{option} --print-config >> .config && make olddefconfig
"""


def usable_tree(
    tree: Path, asked: Architecture | None, command: Sequence[str], *, has_modules: bool = False
) -> Architecture:
    """Look at a tree, say what its configuration lacks, and return the architecture that it is for.

    asked: the architecture that it must be of; None: any. Raises `GuestError` where it lacks what booting cannot do
    without, or loading a module if `has_modules`, or kleaktrace if that is what `command` runs.
    """
    config = _config(tree)
    architecture = _architecture(tree, config, asked)
    _refuse_what_is_missing(tree, config, architecture, _who_cannot_do_without(command, has_modules=has_modules))
    _refuse_what_is_not_built(tree, architecture, has_modules=has_modules)
    needs_initramfs = any(config.value(each.name) == "m" for each in options_for(architecture) if each.as_module)
    packages = [*BOOT_PACKAGES, *architecture.packages]
    packages += BUILD_PACKAGES if has_modules else ()
    packages += ["busybox-static"] if needs_initramfs else []
    install(packages)
    return architecture


def printed_config(tree: Path | None, asked: Architecture | None) -> str:
    """Return the fragment that a tree lacks; of no tree all that any one needs."""
    if tree is None:
        return _HEADER.format(of="", option="") + fragment(options_for(asked or X86_64))
    config = _config(tree)
    missing = missing_options(config, _architecture(tree, config, asked))
    if not missing:
        return f"# {tree} lacks nothing that tools/guest and kleaktrace need.\n"
    header = _HEADER.format(of=f", and {tree} lacks", option=f" --tree {tree}")
    return header + fragment(missing, config)


def _config(tree: Path) -> KernelConfig:
    if (tree / ".config").is_file():
        return config_of(tree)
    if (tree / "Kconfig").is_file():
        raise GuestError(
            f"{tree} is the source of a kernel, but not configured: it has no .config",
            f"tools/guest --source {tree} builds it; or make -C {tree} defconfig, and see tools/guest --print-config",
        )
    raise GuestError(
        f"{tree} is no kernel's tree: it has no .config", "give the directory that the kernel was built in"
    )


def _architecture(tree: Path, config: KernelConfig, asked: Architecture | None) -> Architecture:
    found = config.architecture
    if found is None:
        known = " or ".join(ARCHITECTURES)
        raise GuestError(f"{tree} is configured for another machine than {known}", "give a tree for one of these")
    if asked not in (None, found):
        raise GuestError(f"{tree} is configured for {found.name}", "leave out --arch: the tree says it", USAGE)
    return found


def _who_cannot_do_without(command: Sequence[str], *, has_modules: bool) -> set[Need]:
    needs = {Need.BOOT}
    needs |= {Need.MODULE} if has_modules else set()
    return needs | ({Need.KLEAKTRACE} if any(Path(word).name == "kleaktrace" for word in command) else set())


def _refuse_what_is_missing(tree: Path, config: KernelConfig, architecture: Architecture, refused: set[Need]) -> None:
    missing = missing_options(config, architecture)
    needed = [option for option in missing if option.need in refused]
    fix = f"{tools_guest(tree)} --print-config >> {tree}/.config && {_make(tree, architecture)} olddefconfig && "
    fix += f"{_make(tree, architecture)} -j{os.cpu_count() or 1}"
    for option in missing:
        if option not in needed:
            say(f"{option.need.value}: {_what_is_wrong(option, config)}")
    if needed:
        first = needed[0].need.value
        listed = "\n".join(f"  {_what_is_wrong(option, config)}" for option in needed)
        raise GuestError(f"{tree}: {first} as it is configured:\n{listed}", fix)
    if missing:
        say(f"for all of it: {fix}")


def _what_is_wrong(option: KernelOption, config: KernelConfig) -> str:
    value = config.value(option.name)
    if option.value == NOT_SET:
        return f"CONFIG_{option.name} {option.purpose}"
    return f"CONFIG_{option.name} is {'not set' if value == NOT_SET else f'{value}, and not y'}: {option.purpose}"


def _refuse_what_is_not_built(tree: Path, architecture: Architecture, *, has_modules: bool) -> None:
    make = f"{_make(tree, architecture)} -j{os.cpu_count() or 1}"
    if not (tree / architecture.image_path).is_file():
        raise GuestError(f"{tree} is configured, but not built: it has no {architecture.image_path}", make)
    if has_modules and not (tree / "Module.symvers").is_file():
        raise GuestError(f"{tree} has no Module.symvers, without which no module builds", f"{make} modules")
    last_make = tree / "include/config/auto.conf"
    if last_make.is_file() and last_make.stat().st_mtime < (tree / ".config").stat().st_mtime:
        say(f"{tree}/.config is newer than what was built: if the kernel does not boot, first {make}")


def tools_guest(tree: Path) -> str:
    """Return how this is called for a tree."""
    return f"tools/guest --tree {tree}"


def _make(tree: Path, architecture: Architecture) -> str:
    return " ".join(["make", "-C", str(tree), *architecture.make])
