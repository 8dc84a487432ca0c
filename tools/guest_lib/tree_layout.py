# SPDX-License-Identifier: GPL-2.0-or-later
"""What virtme-ng takes for the user's tree: a directory of links in the cache.

Given the tree itself, virtme-ng would write an index of its modules to it (virtme-prep-kdir-mods).
"""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

from guest_lib.architectures import Architecture
from guest_lib.cache import cache_directory, locked
from guest_lib.errors import GuestError
from guest_lib.programs import run_logged

INDEX = Path(".virtme_mods/lib/modules/0.0.0")
"""Where virtme-ng looks for a tree's modules in it, always under this release."""


def tree_home(tree: Path) -> Path:
    """Return the directory of the cache for a tree, made if need be."""
    home = cache_directory() / f"tree-{tree.name}-{hashlib.sha256(str(tree).encode()).hexdigest()[:12]}"
    home.mkdir(exist_ok=True)
    return home


def lay_out(tree: Path, architecture: Architecture, home: Path) -> Path:
    """Link what virtme-ng reads of a built tree to a directory below `home`, and return that."""
    place = home / "layout"
    with locked(home / "lock"):
        for name in (".config", architecture.image_path):
            _link(place / name, tree / name)
        if (tree / "modules.order").is_file():
            _index_modules(tree, place, home / "index.log")
    return place


def _index_modules(tree: Path, place: Path, log: Path) -> None:
    """Have modprobe find a tree's modules below `place`, unless that has been done since they were built."""
    base, index = place / INDEX.parts[0], place / INDEX
    made_from = [tree / name for name in ("modules.order", "modules.builtin", "Module.symvers", "System.map")]
    newest = max(path.stat().st_mtime for path in made_from if path.is_file())
    done = index / "modules.dep"
    if done.is_file() and done.stat().st_mtime >= newest:
        return
    shutil.rmtree(base, ignore_errors=True)
    for module in _modules(tree):
        _link(index / "kernel" / module, tree / module)
    for name in ("modules.builtin", "modules.builtin.modinfo", "modules.order"):
        _link(index / name, tree / name)
    _link(base / "usr", Path())  # where modprobe looks on some distributions
    # virtme-ng makes an index by itself where this is newer.
    shutil.copyfile(tree / "modules.order", place / "modules.order")
    command = [_depmod(), "-a", "-e", "-F", str(tree / "System.map"), "-b", str(base), INDEX.name]
    log.write_bytes(b"")
    run_logged(command, log, f"cannot index the modules of {tree}", f"make -C {tree} modules, then try again")


def _modules(tree: Path) -> list[str]:
    """Return the built modules of a tree, by their paths in it.

    modules.order lists objects since v6.2, modules before, and paths of old kernels begin with kernel/.
    """
    lines = (tree / "modules.order").read_text().splitlines()
    names = [line.removesuffix(".o").removesuffix(".ko") + ".ko" for line in lines]
    names = [name if (tree / name).exists() else name.removeprefix("kernel/") for name in names]
    return [name for name in names if (tree / name).is_file()]


def _depmod() -> str:
    # Users who are not root mostly have no sbin in their PATH.
    found = shutil.which("depmod", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if found is None:
        raise GuestError("there is no depmod", "apt-get install kmod")
    return found


def _link(place: Path, to: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    if not place.is_symlink() or place.readlink() != to:
        place.unlink(missing_ok=True)
        place.symlink_to(to)
