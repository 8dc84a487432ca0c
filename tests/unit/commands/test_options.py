# SPDX-License-Identifier: GPL-2.0-or-later
"""Shared options as a command gets them, and the file for the result."""

from __future__ import annotations

import os
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from kleaktrace.commands.options import OutputFile, filter_options, json_option
from kleaktrace.edge.tracing.filters import Filters
from kleaktrace.errors import UsageError


@click.command()
@filter_options
@json_option
def command(filters: Filters, json_file: str | None) -> None:
    """A command."""
    print(filters, json_file)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(command, arguments)


def test_the_filters_come_as_one_argument() -> None:
    result = run(
        "--module", "my-drv", "--pid", "7", "--comm", "c", "--cache", "dentry", "--min-size", "1K", "--json", "f"
    )
    expected = Filters(module="my_drv", pid=7, comm="c", cache="dentry", min_size=1024)
    assert result.output == f"{expected} f\n"
    assert run().output == f"{Filters()} None\n"


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("192", 192),
        ("192B", 192),
        ("4k", 4096),
        ("4K", 4096),
        ("4KB", 4096),
        ("4KiB", 4096),
        ("1M", 1 << 20),
        ("2g", 2 << 30),
        ("9999999999G", 9999999999 << 30),
    ],
)
def test_sizes_are_read_with_their_units(text: str, size: int) -> None:
    assert run("--min-size", text).output == f"{Filters(min_size=size)} None\n"


@pytest.mark.parametrize(
    "text", ["", "-1", "1.5K", "K", "B", "4T", "1 K", "0x10", "²", "٣", "1e3", "1_000", "9" * 5000]
)
def test_what_is_no_size_is_refused_in_words(text: str) -> None:
    result = run("--max-size", text)
    assert result.exit_code == 2
    assert "is not a number of bytes, such as 192, 4K or 1M" in " ".join(result.output.split())


@pytest.mark.parametrize("pid", ["0", "-1", "x", "4194305", "9" * 5000])
def test_what_is_no_pid_is_refused(pid: str) -> None:
    assert run("--pid", pid).exit_code == 2


def test_a_result_replaces_the_file_and_only_its_owner_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "result"
    OutputFile(str(path)).write("a long first result")
    assert path.stat().st_mode & 0o777 == 0o600
    OutputFile(str(path)).write("short")
    assert path.read_text() == "short"


def test_a_file_keeps_its_content_until_there_is_a_result(tmp_path: Path) -> None:
    path = tmp_path / "result"
    path.write_text("earlier")
    OutputFile(str(path))
    assert path.read_text() == "earlier"


@pytest.mark.parametrize("name", ["missing/result", "."])
def test_a_file_that_cannot_be_written_is_refused_before_the_work(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=r"No such file|Is a directory") as refused:
        OutputFile(str(tmp_path / name))
    assert refused.value.fix


def test_a_pipe_gets_the_result_too() -> None:
    """As in --json >(jq .) or --json /dev/stdout."""
    reading, writing = os.pipe()
    OutputFile(f"/dev/fd/{writing}").write("result")
    os.close(writing)
    with os.fdopen(reading) as stream:
        assert stream.read() == "result"


def test_a_full_disk_is_said_in_words() -> None:
    with pytest.raises(UsageError, match="/dev/full: No space left on device"):
        OutputFile("/dev/full").write("result")


def test_a_dash_is_standard_output_and_no_file_is_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    dash, none = OutputFile("-"), OutputFile(None)
    dash.write("result")
    none.write("lost")
    assert capsys.readouterr().out == "result"
    assert (dash.is_stdout, none.is_stdout) == (True, False)
