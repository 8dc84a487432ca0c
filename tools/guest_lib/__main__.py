# SPDX-License-Identifier: GPL-2.0-or-later
"""What `tools/guest` does."""

from __future__ import annotations

import os
import signal
import sys
from typing import NoReturn

from guest_lib.command_line import parse_arguments
from guest_lib.errors import GuestError, say
from guest_lib.guest import boot_files, run_in_guest


def stop(number: int, _frame: object) -> NoReturn:
    """End on a signal by way of the clean-up code."""
    sys.exit(128 + number)


def main() -> int:
    """Run the command line; errors are one line what and one line what to do."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    try:
        options = parse_arguments(sys.argv[1:])
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
