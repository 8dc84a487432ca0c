# SPDX-License-Identifier: GPL-2.0-or-later
"""A distribution's own kernel, as it is installed by its users, and a Debian of programs around it."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

from guest_lib.architectures import X86_64
from guest_lib.cache import cache_directory, made_once
from guest_lib.errors import say
from guest_lib.packages import install, unpack_packages
from guest_lib.programs import run_logged
from guest_lib.user_land import unpack

SUITES = {"debian12": "bookworm", "debian13": "trixie"}
"""Releases by their names for `--kernel`."""
# Its drivers are modules, which virtme-ng loads from an initramfs that it makes with busybox.
NEEDED = ("busybox-static", "file", "kmod", "mmdebstrap", "qemu-system-x86")


def distribution_kernel(name: str) -> tuple[Path, Path]:
    """Return a release's kernel, and the root directory that has its modules, unpacked now if they are not yet."""
    cache = cache_directory()
    install(NEEDED)
    texts = [Path(__file__).read_bytes(), Path(__file__).with_name("user_land.py").read_bytes()]
    home = cache / f"{name}-{hashlib.sha256(b''.join(texts)).hexdigest()[:12]}"
    made_once(home, lambda: _unpack(SUITES[name], home))
    (image,) = (home / "root" / "boot").glob("vmlinuz-*")
    return image, home / "root"


def _unpack(suite: str, home: Path) -> None:
    root, of_kernel, log = home / "root", home / "kernel", home / "unpack.log"
    unpack(X86_64, root, log)
    say(f"unpacking the kernel of Debian {suite} to {home}")
    unpack_packages(suite, X86_64, ["linux-image-amd64"], of_kernel, log)
    (image,) = (of_kernel / "boot").glob("vmlinuz-*")
    release = image.name.removeprefix("vmlinuz-")
    # virtme-ng looks for the modules beside it.
    shutil.move(image, root / "boot")
    shutil.move(of_kernel / "boot" / f"config-{release}", root / "boot")
    modules = root / "usr" / "lib" / "modules"
    modules.mkdir(exist_ok=True)
    (of_release,) = {path.resolve() for path in of_kernel.glob(f"**/lib/modules/{release}")}
    shutil.move(of_release, modules / release)
    run_logged(["depmod", "-b", str(root), release], log, "cannot index the kernel's modules", f"see {log}")
    shutil.rmtree(of_kernel)
