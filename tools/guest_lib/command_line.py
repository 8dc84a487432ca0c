# SPDX-License-Identifier: GPL-2.0-or-later
"""Boot a kernel with kmemleak, BTF and modules under QEMU and run a command in it.

    tools/guest [OPTION…] -- CMD ARG…      run CMD in the guest
    tools/guest --build-dir                print the kernel's build tree, for make -C DIR M=…

CMD runs as root in the project's directory. The host's file system lies underneath and is never written
to; /tmp is the guest's own, and each --rwdir DIR is shared for writing under the same path. So is
XDG_CACHE_HOME, a directory for guests alone, where kleaktrace keeps what clang took half a minute for.
Output is passed on while CMD runs, and CMD's exit status is the exit status. 255: the guest died, or ran
out of time; its last console lines are on stderr. 2: wrong usage. 3: this machine cannot do it, and why.
--keep-files has the guest keep what it has read of the host's files, which must not change meanwhile: programs
start in half the time, and kleaktrace in a third.

Of --kernel debian12 and debian13, which have no kmemleak, nothing is built: they are Debian's own.
The kernel is built once (about six minutes on two cores) from the distribution's linux-source package and
tools/guest.config, and kept in $XDG_CACHE_HOME/kleaktrace, /var/cache/kleaktrace or ~/.cache/kleaktrace.
--config FRAGMENT adds settings to that: another kernel, built and kept beside it.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from guest_lib.architectures import ARCHITECTURES, X86_64, Architecture
from guest_lib.distribution_kernel import SUITES
from guest_lib.errors import USAGE, GuestError
from guest_lib.paths import share_path

KERNELS = ("6.12", "6.1", *SUITES)


@dataclass(frozen=True)
class Options:
    """The command line, checked."""

    kernel: str
    architecture: Architecture
    fragments: tuple[Path, ...]
    cpus: int
    memory: str
    rwdirs: tuple[Path, ...]
    append: tuple[str, ...]
    keep_files: bool
    timeout_s: float
    build_dir: bool
    command: tuple[str, ...]


def parse_arguments(argv: Sequence[str]) -> Options:
    """Read the command line; everything after the first `--` is CMD, word by word."""
    own, command = list(argv), []
    if "--" in own:
        split = own.index("--")
        own, command = own[:split], own[split + 1 :]
    parser = argparse.ArgumentParser(
        prog="tools/guest", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--kernel", choices=KERNELS, default=KERNELS[0], help="built from source, or a release's own (%(default)s)"
    )
    parser.add_argument("--config", action="append", default=[], metavar="FRAGMENT", help="more kernel settings")
    parser.add_argument("--arch", choices=tuple(ARCHITECTURES), default=X86_64.name, help="(%(default)s)")
    parser.add_argument("--cpus", type=int, default=2, help="number of CPUs (%(default)s)")
    parser.add_argument("--memory", default="2G", metavar="SIZE", help="guest memory (%(default)s)")
    parser.add_argument("--rwdir", action="append", default=[], metavar="DIR", help="share DIR for writing")
    parser.add_argument("--append", action="append", default=[], metavar="PARAM", help="kernel parameter")
    parser.add_argument("--keep-files", action="store_true", help="read what is not changed meanwhile only once")
    parser.add_argument("--timeout", type=float, default=600, metavar="SECONDS", help="(%(default)s)")
    parser.add_argument("--build-dir", action="store_true", help="print the kernel build tree and exit")
    arguments = parser.parse_args(own)
    if arguments.kernel in SUITES and (arguments.build_dir or arguments.config or arguments.arch != X86_64.name):
        raise GuestError(
            f"--kernel {arguments.kernel} is that release's own for x86_64, as it is",
            "leave out --build-dir, --config and --arch, or use --kernel 6.12",
            USAGE,
        )
    if bool(command) == arguments.build_dir:
        parser.error("give either a command after -- or --build-dir")
    if arguments.cpus < 1 or arguments.timeout <= 0:
        parser.error("--cpus and --timeout must be positive")
    if not re.fullmatch(r"[1-9][0-9]*[MG]", arguments.memory):
        parser.error(f"--memory {arguments.memory}: a number and M or G, such as 2G")
    for parameter in arguments.append:
        if not re.fullmatch(r"[A-Za-z0-9_.,:=+/-]+", parameter):
            parser.error(f"--append {parameter!r}: one kernel parameter, without spaces or quotes")
    return Options(
        kernel=arguments.kernel,
        architecture=ARCHITECTURES[arguments.arch],
        fragments=tuple(fragment_path(name) for name in arguments.config),
        cpus=arguments.cpus,
        memory=arguments.memory,
        rwdirs=tuple(share_path(name, "--rwdir") for name in arguments.rwdir),
        append=tuple(arguments.append),
        keep_files=arguments.keep_files,
        timeout_s=arguments.timeout,
        build_dir=arguments.build_dir,
        command=tuple(command),
    )


def fragment_path(name: str) -> Path:
    """Check that a configuration fragment can be read."""
    path = Path(name).absolute()
    if not path.is_file():
        raise GuestError(f"--config {name}: no such file", "give a file of lines such as CONFIG_DUMMY=m", USAGE)
    return path
