# SPDX-License-Identifier: GPL-2.0-or-later
"""Options that several commands share, and the file that a result goes to."""

from __future__ import annotations

import functools
import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from kleaktrace.core.known_leaks import NOTHING_KNOWN, KnownLeaks, KnownLeaksError, parse_known_leaks
from kleaktrace.edge.tracing.filters import Filters
from kleaktrace.errors import UsageError

_Function = TypeVar("_Function", bound=Callable[..., Any])

_PID_LIMIT = 1 << 22  # include/linux/threads.h
_FACTORS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_MOST_DIGITS = 10  # with any factor it still fits 64 bits


def size_in_bytes(value: str) -> int:
    """Bytes, with an optional K, M or G of 1024. A function, for the class is generic from click 8.2 on only."""
    text = value.upper().removesuffix("IB").removesuffix("B")
    number, factor = (text[:-1], text[-1:]) if text[-1:] in ("K", "M", "G") else (text, "")
    if not number.isascii() or not number.isdigit() or len(number) > _MOST_DIGITS:
        raise click.BadParameter(f"{value!r} is not a number of bytes, such as 192, 4K or 1M")
    return int(number) * _FACTORS[factor]


unreclaimable_option = click.option(
    "--unreclaimable", is_flag=True, help="Leave out what the kernel takes back by itself when memory is short."
)

_FILTERS = (
    click.option("--module", metavar="NAME", help="Only what passes through this module's code, loaded or not yet."),
    click.option(
        "--pid", metavar="PID", type=click.IntRange(1, _PID_LIMIT), help="Only this process, or this one thread."
    ),
    click.option("--comm", metavar="NAME", help="Only tasks of this name."),
    click.option("--cache", metavar="NAME", help="Only this slab cache, as /proc/slabinfo names it."),
    click.option("--min-size", metavar="BYTES", type=size_in_bytes, help="Only allocations of at least this size."),
    click.option("--max-size", metavar="BYTES", type=size_in_bytes, help="Only allocations of at most this size."),
)


def filter_options(function: _Function) -> _Function:
    """Add the filter options; the command gets one `filters` argument for all of them."""

    @functools.wraps(function)
    def with_filters(**options: Any) -> Any:
        chosen = {name: options.pop(name) for name in ("module", "pid", "comm", "cache", "min_size", "max_size")}
        return function(filters=Filters(**chosen), **options)

    decorated: Any = with_filters
    for option in reversed(_FILTERS):
        decorated = option(decorated)
    result: _Function = decorated
    return result


json_option = click.option(
    "--json", "json_file", metavar="FILE", help="Also write the result as a JSON document; - for standard output."
)


log_option = click.option("--log", "log_file", metavar="FILE", help="Write what CMD prints to FILE.")


exact_stacks_option = click.option(
    "--exact-stacks", is_flag=True, help="Unwind every call stack, instead of recognising those that are known."
)


pages_option = click.option(
    "--pages",
    is_flag=True,
    help="Trace pages that are asked of the page allocator itself, too: kmemleak never sees these.",
)


def _read_known_leaks(ctx: click.Context, parameter: click.Parameter, path: str | None) -> KnownLeaks:
    if path is None:
        return NOTHING_KNOWN
    try:
        return parse_known_leaks(Path(path).read_text("utf-8-sig", "backslashreplace"), path)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}", "give a file that can be read") from error
    except KnownLeaksError as error:
        raise UsageError(
            f"{path}, line {error.line}: {error}", "give one function a line, as FUNCTION or FUNCTION [MODULE]"
        ) from error


known_option = click.option(
    "--known",
    metavar="FILE",
    callback=_read_known_leaks,
    help="Tell apart, and do not count, what passes through the functions that FILE names.",
)


class OutputFile:
    """A file to be written at the end, opened at the start: what can't be written is refused before the work.

    Readable by its owner only, since it holds kernel addresses. None: no file was asked for. `-`: standard output.
    """

    def __init__(self, path: str | None) -> None:
        self.is_stdout = path == "-"
        self._path = path
        self._fd: int | None = None
        if path is not None and not self.is_stdout:
            try:
                self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            except OSError as error:
                raise UsageError(f"{path}: {error.strerror}", "give a file that can be written") from error

    def write(self, content: str | bytes) -> None:
        """Replace the file's content; text is written as UTF-8."""
        if self.is_stdout:
            _write_to_stdout(content)
        elif self._fd is not None:
            try:
                with os.fdopen(self._fd, "wb") as stream:
                    if stat.S_ISREG(os.fstat(self._fd).st_mode):  # not /dev/stdout, a pipe or a terminal
                        stream.truncate(0)
                    stream.write(content.encode() if isinstance(content, str) else content)
            except OSError as error:
                raise UsageError(f"{self._path}: {error.strerror}", "make room, or give another file") from error
            finally:
                self._fd = None


def _write_to_stdout(content: str | bytes) -> None:
    if isinstance(content, str):
        sys.stdout.write(content)
    else:
        sys.stdout.flush()
        sys.stdout.buffer.write(content)
