# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import gzip
import json
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from exported import everything
from made_up_captures import captures_are

from kleaktrace.commands import export as module
from kleaktrace.commands.export import export
from kleaktrace.core.recording import Recording
from kleaktrace.errors import UsageError
from kleaktrace.views.exports.formats import FORMATS


@pytest.fixture(autouse=True)
def captures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any file is a capture of everything, but for one."""

    def made(name: str) -> Recording:
        if name == "broken":
            raise UsageError(f"{name} is no capture", "give one that kleaktrace wrote")
        return everything()

    captures_are(monkeypatch, made)


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(export, [str(argument) for argument in arguments])


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_goes_to_a_file_that_only_its_owner_reads(name: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = run("--format", name, "-o", out, "capture")
    assert (result.exit_code, result.output) == (0, "")
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert out.stat().st_size > 100


@pytest.mark.parametrize("options", [(), ("-o", "-")])
def test_without_a_file_it_goes_to_standard_output(options: tuple[str, ...]) -> None:
    result = run("--format", "jsonl", *options, "capture")
    assert json.loads(result.stdout.splitlines()[0])["verdict"] == "leaks"


def test_a_binary_format_goes_down_a_pipe() -> None:
    assert gzip.decompress(run("--format", "pprof", "capture").stdout_bytes)


def test_a_binary_format_is_not_shown_on_a_terminal(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Terminal:
        stdout = type("Stdout", (), {"isatty": staticmethod(lambda: True)})

    monkeypatch.setattr(module, "sys", Terminal)
    refused = run("--format", "pprof", "capture").exception
    assert isinstance(refused, UsageError)
    assert "-o FILE" in refused.fix
    assert run("--format", "pprof", "-o", tmp_path / "out", "capture").exit_code == 0
    assert run("--format", "folded", "capture").exit_code == 0


def test_an_unknown_format_is_refused() -> None:
    result = run("--format", "svg", "capture")
    assert result.exit_code == 2
    assert "'svg' is not one of" in result.output


def test_a_broken_capture_leaves_no_half_a_file(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.write_text("what was there before")
    assert isinstance(run("--format", "folded", "-o", out, "broken").exception, UsageError)
    assert out.read_text() == "what was there before"


def test_the_help_says_what_reads_each_format() -> None:
    told = run("--help").output
    assert all(name in told and known.reader in told for name, known in FORMATS.items())


def test_neither_bcc_nor_rich_is_needed() -> None:
    code = (
        "import sys, kleaktrace.commands.export\n"
        "print([m for m in sys.modules if m.split('.')[0] in ('bcc', 'rich', 'textual')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
