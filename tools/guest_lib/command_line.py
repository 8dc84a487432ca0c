# SPDX-License-Identifier: GPL-2.0-or-later
"""Boot a kernel with kmemleak, BTF and modules under QEMU and run a command in it.

    tools/guest [OPTION…] -- CMD ARG…            run CMD in the guest
    tools/guest [OPTION…] --shell                look around in it
    tools/guest --build-dir                      print the kernel's build tree, for make -C DIR M=…
    tools/guest --print-config [--tree DIR]      print what a kernel of yours must be configured with, or what it lacks

CMD runs as root in the project's directory. The host's file system lies underneath and is never written
to; /tmp is the guest's own, and each --rwdir DIR is shared for writing under the same path. So is
XDG_CACHE_HOME, a directory for guests alone, where kleaktrace keeps what clang took half a minute for.
Output is passed on while CMD runs, and CMD's exit status is the exit status. 255: the guest died, or ran
out of time; its last console lines are on stderr. 2: wrong usage, or --module does not build. 3: this machine
or the kernel cannot do it, and why.
--keep-files has the guest keep what it has read of the host's files, which must not change meanwhile: programs
start in half the time, and kleaktrace in a third.

The kernel is built once (about six minutes on two cores) from the distribution's linux-source package and
tools/guest.config, and kept in $XDG_CACHE_HOME/kleaktrace, /var/cache/kleaktrace or ~/.cache/kleaktrace.
--config FRAGMENT adds settings to that: another kernel, built and kept beside it. --kernel newest is what Debian's
backports had when it was first asked for. Of --kernel debian12 and debian13, which have no kmemleak, nothing is
built: they are Debian's own.
--source DIR builds the same from another source, and what has changed in it at each call.
--tree DIR boots what you have built there. What it lacks is said first.
--module DIR builds an external module for the kernel. The guest sees what was built at the same path, may write
there, which nobody else sees, and CMD runs there: tools/guest --tree ~/linux --module ~/mydrv -- ./test.sh
"""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from guest_lib.architectures import ARCHITECTURES, X86_64, Architecture
from guest_lib.distribution_kernel import SUITES
from guest_lib.errors import USAGE, GuestError
from guest_lib.kernel_source import NEWEST
from guest_lib.paths import share_path

KERNELS = ("6.12", "6.1", NEWEST, *SUITES)
COMMAND_S = 600
"""How long CMD and the boot before it may take, unless --timeout is given."""
USERS_S = 1800
"""The same of what nobody here knows: a kernel that may be large, a test that may take its time, ten times over."""


@dataclass(frozen=True)
class Options:
    """The command line, checked."""

    kernel: str
    """Unless there is a tree or a source."""
    tree: Path | None
    source: Path | None
    architecture: Architecture | None
    """None: nothing was said of it."""
    fragments: tuple[Path, ...]
    modules: tuple[Path, ...]
    cpus: int
    memory: str
    rwdirs: tuple[Path, ...]
    append: tuple[str, ...]
    keep_files: bool
    no_panic: bool
    timeout_s: float
    """Infinite for a shell."""
    build_dir: bool
    print_config: bool
    shell: bool
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
    kernels = parser.add_mutually_exclusive_group()
    kernels.add_argument(
        "--kernel", choices=KERNELS, default=KERNELS[0], help="built from source, or a release's own (%(default)s)"
    )
    kernels.add_argument("--tree", metavar="DIR", help="a kernel that you have built there")
    kernels.add_argument("--source", metavar="DIR", help="a kernel's source, which is built elsewhere")
    parser.add_argument("--config", action="append", default=[], metavar="FRAGMENT", help="more kernel settings")
    parser.add_argument("--arch", choices=tuple(ARCHITECTURES), help=f"({X86_64.name}, or what --tree is for)")
    parser.add_argument("--module", action="append", default=[], metavar="DIR", help="an external module; repeat it")
    parser.add_argument("--cpus", type=int, default=2, help="number of CPUs (%(default)s)")
    parser.add_argument("--memory", default="2G", metavar="SIZE", help="guest memory (%(default)s)")
    parser.add_argument("--rwdir", action="append", default=[], metavar="DIR", help="share DIR for writing")
    parser.add_argument("--append", action="append", default=[], metavar="PARAM", help="kernel parameter")
    parser.add_argument("--keep-files", action="store_true", help="read what is not changed meanwhile only once")
    parser.add_argument("--no-panic", action="store_true", help="an Oops ends the task, and not the guest")
    limits = f"({COMMAND_S}; {USERS_S} with --tree, --source or --module; none with --shell)"
    parser.add_argument("--timeout", type=float, metavar="SECONDS", help=limits)
    parser.add_argument("--build-dir", action="store_true", help="print the kernel build tree and exit")
    parser.add_argument("--print-config", action="store_true", help="print a fragment of a configuration and exit")
    parser.add_argument("--shell", action="store_true", help="a shell on this terminal; Ctrl-D ends it")
    arguments = parser.parse_args(own)
    refuse_what_does_not_fit(arguments)
    if sum([bool(command), arguments.build_dir, arguments.print_config, arguments.shell]) != 1:
        parser.error("give either a command after --, or --shell, --build-dir or --print-config")
    timeout_s = default_timeout_s(arguments) if arguments.timeout is None else arguments.timeout
    if arguments.cpus < 1 or timeout_s <= 0:
        parser.error("--cpus and --timeout must be positive")
    if not re.fullmatch(r"[1-9][0-9]*[MG]", arguments.memory):
        parser.error(f"--memory {arguments.memory}: a number and M or G, such as 2G")
    for parameter in arguments.append:
        if not re.fullmatch(r"[A-Za-z0-9_.,:=+/-]+", parameter):
            parser.error(f"--append {parameter!r}: one kernel parameter, without spaces or quotes")
    return Options(
        kernel=arguments.kernel,
        tree=share_path(arguments.tree, "--tree").resolve() if arguments.tree else None,
        source=share_path(arguments.source, "--source").resolve() if arguments.source else None,
        architecture=ARCHITECTURES[arguments.arch] if arguments.arch else None,
        fragments=tuple(fragment_path(name) for name in arguments.config),
        modules=tuple(share_path(name, "--module").resolve() for name in arguments.module),
        cpus=arguments.cpus,
        memory=arguments.memory,
        rwdirs=tuple(share_path(name, "--rwdir") for name in arguments.rwdir),
        append=tuple(arguments.append),
        keep_files=arguments.keep_files,
        no_panic=arguments.no_panic,
        timeout_s=timeout_s,
        build_dir=arguments.build_dir,
        print_config=arguments.print_config,
        shell=arguments.shell,
        command=tuple(command),
    )


def default_timeout_s(arguments: argparse.Namespace) -> float:
    """Return how long CMD may take if nothing was said of it."""
    if arguments.shell:
        return math.inf
    return USERS_S if arguments.tree or arguments.source or arguments.module else COMMAND_S


def refuse_what_does_not_fit(arguments: argparse.Namespace) -> None:
    """Raise `GuestError` for options that say nothing together."""
    other_machine = arguments.arch not in (None, X86_64.name)
    if arguments.kernel in SUITES and (arguments.build_dir or arguments.config or other_machine):
        raise GuestError(
            f"--kernel {arguments.kernel} is that release's own for x86_64, as it is",
            "leave out --build-dir, --config and --arch, or use --kernel 6.12",
            USAGE,
        )
    if arguments.kernel in SUITES and arguments.module:
        raise GuestError(
            f"--kernel {arguments.kernel} has no tree here that a module could be built against",
            "use --kernel 6.12, 6.1 or newest, or --tree DIR with a kernel that you have built",
            USAGE,
        )
    if arguments.tree and arguments.config:
        raise GuestError(
            "--config is for kernels that are built here, and --tree is built already",
            "merge the fragment into the tree's .config, and make it; or use --source",
            USAGE,
        )
    if arguments.print_config and (arguments.source or arguments.config or arguments.kernel != KERNELS[0]):
        raise GuestError(
            "--print-config is for kernels that you configure: ours have all of it",
            "leave out --kernel, --source and --config",
            USAGE,
        )


def fragment_path(name: str) -> Path:
    """Check that a configuration fragment can be read."""
    path = Path(name).absolute()
    if not path.is_file():
        raise GuestError(f"--config {name}: no such file", "give a file of lines such as CONFIG_DUMMY=m", USAGE)
    return path
