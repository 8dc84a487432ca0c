# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import json
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result
from exported import with_losses
from made_up_captures import captures_are
from recordings import nothing, one_leak
from schemas import validated
from streams import leak, streamed

from kleaktrace.commands.diff import diff
from kleaktrace.errors import UsageError

CAPTURES = {
    "clean": lambda: nothing()[0],
    "leaking": lambda: one_leak()[0],
    "lossy": with_losses,
    "slow": lambda: streamed({"leaks": leak(1, 1024)}, 1),
    "fast": lambda: streamed({"leaks": leak(20, 1024)}, 2),
}


@pytest.fixture(autouse=True)
def captures(monkeypatch: pytest.MonkeyPatch) -> None:
    captures_are(monkeypatch, lambda name: CAPTURES[name]())


def run(*arguments: str) -> Result:
    return CliRunner().invoke(diff, arguments)


@pytest.mark.parametrize(
    ("arguments", "exit_code"),
    [
        ("clean leaking", 0),
        ("clean clean --fail-on new-leak", 0),
        ("clean leaking --fail-on new-leak", 1),
        ("leaking leaking --fail-on new-leak", 0),
        ("leaking clean --fail-on new-leak", 0),
        ("clean lossy --fail-on new-leak", 4),
        ("slow fast --fail-on growth=4K", 1),
        ("slow fast --fail-on growth=1M", 0),
        ("fast slow --fail-on growth=1", 0),
        ("slow fast --fail-on growth=4K --per 100:2000", 0),
        ("slow fast --fail-on growth=4K --per 100", 1),
        ("clean leaking --fail-on growth=1M --fail-on new-leak --by function", 1),
    ],
)
def test_exit_codes(arguments: str, exit_code: int) -> None:
    done = run(*arguments.split())
    assert done.exit_code == exit_code, done.output


def test_the_document(tmp_path: Path) -> None:
    file = tmp_path / "diff.json"
    done = run("clean", "leaking", "--json", str(file), "--fail-on", "new-leak")
    assert "NEW LEAK" in done.stdout
    told = validated(json.loads(file.read_text()))
    assert [one["new_leak"] for one in told["changes"]] == [True]
    assert file.stat().st_mode & 0o777 == 0o600
    done = run("clean", "leaking", "--json", "-")
    assert validated(json.loads(done.stdout))["outcome"] == "passed"
    assert "NEW LEAK" in done.stderr


def test_one_html_file(tmp_path: Path) -> None:
    file = tmp_path / "diff.html"
    done = run("clean", "leaking", "--html", str(file))
    assert "NEW LEAK" in done.stdout
    assert file.read_text().startswith("<!doctype html>")
    assert file.stat().st_mode & 0o777 == 0o600
    assert isinstance(run("clean", "leaking", "--html", "-", "--json", "-").exception, UsageError)


@pytest.mark.parametrize("per", ["0", "", "-1", "1:", ":1", "1:2:3", "x", "١", "9" * 5000])
def test_what_is_no_number_of_operations_is_refused(per: str) -> None:
    assert isinstance(run("--per", per, "clean", "clean").exception, UsageError)


@pytest.mark.parametrize("what", ["leak", "growth", "growth=", "new-leak=1", ""])
def test_what_it_can_not_fail_on_is_refused(what: str) -> None:
    assert isinstance(run("--fail-on", what, "clean", "clean").exception, UsageError)


def test_a_rate_that_is_none_is_refused() -> None:
    with pytest.raises(click.BadParameter):
        diff.main(["--fail-on", "growth=fast", "clean", "clean"], standalone_mode=False)
