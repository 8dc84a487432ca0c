# SPDX-License-Identifier: GPL-2.0-or-later
"""The directories of this machine that a guest sees, beside all that lies below its root.

virtme-ng's own --rwdir and --rodir take three parameters of the kernel for each, and a kernel that is given more than
32 that it does not know panics (init/main.c, "Too many boot env vars"). So QEMU is told of them, and a script mounts
them.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from guest_lib.boot_files import BootFiles
from guest_lib.command_line import Options
from guest_lib.paths import PROJECT

SHARES = "/run/kleaktrace"
"""Below it lies in the guest what has no path of its own."""
PLAIN = "version=9p2000.L,trans=virtio,access=any,msize=512000"
"""How 9p is mounted."""
KEPT = f"{PLAIN},cache=loose"
"""How it is where pages are kept, and names: without, a program is read anew whenever it is run."""


@dataclass(frozen=True)
class Share:
    """A directory, the path under which the guest sees it, and whether it may write there."""

    tag: str
    directory: Path
    at: Path
    writable: bool = False
    in_memory: bool = False
    """The guest writes to a copy in its memory, and nothing of it is seen outside."""


def shares(options: Options, files: BootFiles) -> list[Share]:
    """Return what must be seen though /tmp and /var/cache are covered; what lies in another comes after that."""
    trees = {path: f"kernel{number}" for number, path in enumerate((files.tree, files.run)) if path and path.is_dir()}
    found = [Share("project", PROJECT, PROJECT), Share("cache", files.cache, files.cache, writable=True)]
    found += [Share(tag, path, path) for path, tag in trees.items()]
    found += [Share(f"rw{number}", path, path, writable=True) for number, path in enumerate(options.rwdirs)]
    found += [
        Share(f"module{number}", built, module, in_memory=True) for number, (module, built) in enumerate(files.modules)
    ]
    return sorted(found, key=lambda share: len(share.at.parts))


def qemu_options(every: Sequence[Share], bus: str) -> str:
    """Return the options that tell QEMU of them; their paths are safe in a shell and between commas."""
    options = []
    for share in every:
        access = "" if share.writable else ",readonly=on"
        options.append(
            f"-fsdev local,id={share.tag},path={share.directory},security_model=none,multidevs=remap{access} "
            f"-device virtio-9p-{bus},fsdev={share.tag},mount_tag={share.tag}"
        )
    return " ".join(options)


def mount_commands(every: Sequence[Share], *, keep_files: bool) -> str:
    """Return the lines of the guest's script that mount them, by its functions `share` and `copy`."""
    lines = []
    for share in every:
        access = "rw" if share.writable else "ro"
        how = f"{access},{KEPT if keep_files and not share.writable else PLAIN}"
        if share.in_memory:
            lines.append(f"share {share.tag} {SHARES}/{share.tag} {how}")
            lines.append(f"copy {SHARES}/{share.tag} {shlex.quote(str(share.at))}")
        else:
            lines.append(f"share {share.tag} {shlex.quote(str(share.at))} {how}")
    return "\n".join(lines)
