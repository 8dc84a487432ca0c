# SPDX-License-Identifier: GPL-2.0-or-later
"""`kleaktrace explain`: says what a kmemleak text, from anywhere, tells. Needs no privilege and no kmemleak."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

import click

from kleaktrace.commands.options import known_option
from kleaktrace.commands.source_lines import debug_dir_option
from kleaktrace.core.kmemleak.report_parser import KmemleakText, parse
from kleaktrace.core.known_leaks import KnownLeaks
from kleaktrace.core.source_lines.source_lines import NO_SOURCE_LINES, SourceLines
from kleaktrace.errors import ExitCode, UsageError

MAX_BYTES = 1 << 29
"""Half a million suspects are about this much; a longer text is no report."""
_GZIP = b"\x1f\x8b"
_UNPACKERS = {b"\xfd7zXZ": "xzcat", b"\x28\xb5\x2f\xfd": "zstdcat", b"BZh": "bzcat", b"PK\x03\x04": "unzip -p"}
"""Programs that unpack what begins so."""


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print a JSON document instead of text.")
@debug_dir_option
@known_option
@click.argument("file", metavar="FILE|-")
@click.pass_context
def explain(ctx: click.Context, file: str, as_json: bool, debug_dirs: tuple[Path, ...], known: KnownLeaks) -> None:
    """Explain a kmemleak report: from the file itself, a kernel log, a console capture or a mail.

    With --debug-dir, frames are shown with their source lines if a function there is as long as the report says.
    """
    # rich costs as much as the rest of the start, so it is imported where it prints.
    from rich.console import Console

    from kleaktrace.views.documents.kmemleak import document
    from kleaktrace.views.terminal import kmemleak as view

    text = parse(_read(file))
    problems = view.explained_problems(text)
    sources = _source_lines(text, debug_dirs)
    if as_json:
        click.echo(json.dumps(document(text, problems, sources, known), indent=1))
    else:
        view.show(Console(), text, problems, sources, known)
    if not text.recognised:
        click.echo(
            "kleaktrace: give what kmemleak lists, `sudo cat /sys/kernel/debug/kmemleak > FILE`, or the kernel log, "
            "`sudo dmesg > FILE`; `kleaktrace doctor` says whether kmemleak works here",
            err=True,
        )
    if not _readable(text):
        ctx.exit(ExitCode.USAGE)


def _source_lines(text: KmemleakText, directories: Sequence[Path]) -> SourceLines:
    """Those of all frames, by what lies in these directories: nobody knows which kernel the report is of."""
    if not directories:
        return NO_SOURCE_LINES
    from kleaktrace.commands.source_lines import source_lines_of
    from kleaktrace.core.report import Kernel

    return source_lines_of(dict.fromkeys(_frames(text)), Kernel("", ""), {}, directories)


def _frames(text: KmemleakText) -> Iterator[str]:
    stacks = [*(one.frames for one in text.objects), *(one.frames for one in text.stacks)]
    yield from (frame.text for frames in stacks for frame in frames if frame.resolved)


def _readable(text: KmemleakText) -> bool:
    """Whether anything of kmemleak could be read, not only recognised."""
    return bool(text.objects or text.dumps or text.messages or text.stacks)


def _read(file: str) -> str:
    try:
        with click.open_file(file, "rb") as stream:
            return _decode(_bounded(stream, file))
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}", "give a text file, or - for standard input") from error


def _bounded(stream: IO[bytes], file: str) -> bytes:
    data = stream.read(MAX_BYTES + 1)
    if data.startswith(_GZIP):
        data = _unpacked(data, file)
    if len(data) > MAX_BYTES:
        raise UsageError(f"{file} is longer than {MAX_BYTES >> 20} MiB", "cut the part with the report out of it")
    program = next((program for start, program in _UNPACKERS.items() if data.startswith(start)), None)
    if program:
        raise UsageError(f"{file} is compressed", f"{program} {file} | kleaktrace explain -")
    return data


def _unpacked(data: bytes, file: str) -> bytes:
    """What a gzip file holds, as logs are kept; no more of it is unpacked than can be read."""
    import gzip
    import zlib

    try:
        with gzip.open(io.BytesIO(data)) as packed:
            return packed.read(MAX_BYTES + 1)
    except (EOFError, OSError, zlib.error) as error:
        raise UsageError(
            f"{file} cannot be unpacked: {error}", f"zcat {file} | kleaktrace explain - reads what is there"
        ) from error


def _decode(data: bytes) -> str:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):  # what PowerShell's > writes
        return data.decode("utf-16", errors="backslashreplace")
    text = data.decode("utf-8-sig", errors="backslashreplace")
    if b"base64" not in data and b"BASE64" not in data:
        return text
    from kleaktrace.core.kmemleak.mail_decoding import without_base64

    return without_base64(text)
