# SPDX-License-Identifier: GPL-2.0-or-later
"""What a guest is booted from: got ready for what the command line asks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from guest_lib.architectures import X86_64, Architecture
from guest_lib.command_line import Options
from guest_lib.distribution_kernel import SUITES, distribution_kernel
from guest_lib.external_module import built_modules
from guest_lib.kernel_build import build_tree, source_tree
from guest_lib.kernel_tree import usable_tree
from guest_lib.tree_layout import INDEX, lay_out, tree_home
from guest_lib.user_land import user_land

# Allocation profiling only on demand: where it counts, the data of a module that leaks is never freed, and its stale
# pointers hide the leaks from kmemleak.
OWN_KERNEL = ("sysctl.vm.mem_profiling=0",)
# What a kernel may lack that was not configured for this: kmemleak on from boot, and new memory cleared, as
# distributions have it, so that kmemleak finds no old words there that it takes for references.
ANY_KERNEL = (*OWN_KERNEL, "kmemleak=on", "init_on_alloc=1")


@dataclass(frozen=True)
class BootFiles:
    """What a guest is booted from."""

    architecture: Architecture
    run: Path
    """What virtme-ng is to run: an image, or a directory that is laid out as a build tree."""
    home: Path
    """The directory of the cache that is this kernel's."""
    tree: Path | None = None
    """The build tree, if there is one."""
    root: Path | None = None
    """The root directory of the guest's own programs; None: it has this machine's."""
    parameters: tuple[str, ...] = OWN_KERNEL
    """Of the kernel."""
    modules: tuple[tuple[Path, Path], ...] = ()
    """Directories of external modules, and where each was built."""

    @property
    def cache(self) -> Path:
        """What guests of this kernel have for XDG_CACHE_HOME."""
        return self.home / "cache"

    @property
    def module_index(self) -> Path | None:
        """The kernel's modules as modprobe wants them, unless the root has them."""
        index = self.run / INDEX
        return index if index.is_dir() else None


def boot_files(options: Options) -> BootFiles:
    """Return what the command line asks for, building or unpacking it first where it is not yet there."""
    if options.kernel in SUITES:
        image, root = distribution_kernel(options.kernel)
        return BootFiles(X86_64, image, root.parent, root=root)
    files = _of_tree(options) if options.tree else _of_build(options)
    assert files.tree is not None
    return replace(files, modules=built_modules(options.modules, files.tree, files.home / "modules"))


def _of_tree(options: Options) -> BootFiles:
    """Of a kernel that the user has built."""
    assert options.tree is not None
    architecture = usable_tree(options.tree, options.architecture, options.command, has_modules=bool(options.modules))
    home = tree_home(options.tree)
    place = lay_out(options.tree, architecture, home)
    return BootFiles(architecture, place, home, options.tree, _programs(architecture), ANY_KERNEL)


def _of_build(options: Options) -> BootFiles:
    """Of a kernel that is built here."""
    architecture = options.architecture or X86_64
    if options.source:
        tree = source_tree(options.source, architecture, options.fragments)
    else:
        tree = build_tree(options.kernel, architecture, options.fragments)
    return BootFiles(architecture, tree, tree.parent, tree, _programs(architecture))


def _programs(architecture: Architecture) -> Path | None:
    return None if architecture is X86_64 else user_land(architecture)
