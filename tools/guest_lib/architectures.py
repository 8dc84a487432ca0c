# SPDX-License-Identifier: GPL-2.0-or-later
"""What differs between the machines that a guest can be."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Architecture:
    """One kind of machine: how its kernel is built, and how QEMU emulates it."""

    name: str
    """As `--arch` has it, and as it stands in the names of the cache."""
    debian: str
    """As Debian has it."""
    wheels: str
    """The platform that packages of Python with compiled code are tagged with."""
    packages: tuple[str, ...]
    """What building and booting it needs of the distribution, beside what every architecture does."""
    make: tuple[str, ...]
    """Variables for the kernel's make."""
    option: str
    """What a kernel's configuration says of it."""
    image: str
    """The kernel's make target for what QEMU boots."""
    steps: int
    """How many steps a build of our configuration takes, about (Linux 6.1 and 6.12)."""
    image_path: str
    """Where in a build tree that is."""
    fragments: tuple[str, ...]
    """Configuration fragments in tools/, in their order."""
    virtme: tuple[str, ...]
    """What virtme-ng must be told."""
    qemu: str
    """More options for QEMU."""
    bus: str
    """What the names of QEMU's virtio devices end with."""


# ioeventfd=off: an emulated processor that tells a device of a request had the main loop woken, which looked at all it
# has before it looked at that; now it does the work itself. A run of kleaktrace takes an eighth less.
# -avx2: numpy's sort, which uses it, now and then died of a fault under QEMU 7.2's emulation of it.
X86_64 = Architecture(
    name="x86_64",
    debian="amd64",
    wheels="manylinux2014_x86_64",
    packages=("gcc", "qemu-system-x86"),
    make=(),
    option="X86",
    image="bzImage",
    steps=2300,
    image_path="arch/x86/boot/bzImage",
    fragments=("guest.config",),
    virtme=(),
    qemu="-cpu max,-avx2 -global virtio-9p-pci.ioeventfd=off -global virtio-serial-pci.ioeventfd=off",
    bus="pci",
)
# pauth-impdef: QEMU computes the architected pointer authentication, with which kernels sign each return address,
# so slowly that everything takes twice as long.
ARM64 = Architecture(
    name="arm64",
    debian="arm64",
    wheels="manylinux2014_aarch64",
    packages=("gcc-aarch64-linux-gnu", "mmdebstrap", "qemu-system-arm"),
    make=("ARCH=arm64", "CROSS_COMPILE=aarch64-linux-gnu-"),
    option="ARM64",
    image="Image",
    steps=1900,
    image_path="arch/arm64/boot/Image",
    fragments=("guest.config", "guest-arm64.config"),
    virtme=("--arch", "arm64"),
    qemu="-cpu max,pauth-impdef=on -global virtio-mmio.ioeventfd=off",
    bus="device",
)
ARCHITECTURES = {architecture.name: architecture for architecture in (X86_64, ARM64)}
