# SPDX-License-Identifier: GPL-2.0-or-later
"""What `tools/guest` does."""

from __future__ import annotations

import os
import signal
import sys
from typing import NoReturn

from guest_lib.boot_files import boot_files
from guest_lib.command_line import parse_arguments
from guest_lib.errors import USAGE, GuestError, say
from guest_lib.guest import run_in_guest
from guest_lib.kernel_tree import printed_config


def stop(number: int, _frame: object) -> NoReturn:
    """End on a signal by way of the clean-up code."""
    sys.exit(128 + number)


def refuse_without_terminal() -> None:
    """Raise `GuestError` where nobody could type into a shell."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise GuestError(
            "--shell: standard input and output are no terminal", "give a command: tools/guest … -- CMD", USAGE
        )


def main() -> int:
    """Run the command line; errors are one line what and one line what to do."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    try:
        options = parse_arguments(sys.argv[1:])
        if options.print_config:
            print(printed_config(options.tree, options.architecture), end="")
            return 0
        if options.shell:
            refuse_without_terminal()
        files = boot_files(options)
        if options.build_dir:
            print(files.tree)
            return 0
        return run_in_guest(options, files)
    except BrokenPipeError:
        # Whoever read our output has gone; Python's own flush at exit must not complain about it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 128 + signal.SIGPIPE
    except GuestError as error:
        say(error.what)
        if error.fix:
            say(f"to do: {error.fix}")
        return error.status


if __name__ == "__main__":
    sys.exit(main())
