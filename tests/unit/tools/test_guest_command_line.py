# SPDX-License-Identifier: GPL-2.0-or-later
"""What the command line of tools/guest says, and what it refuses."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "tools"))

from guest_lib.architectures import ARM64
from guest_lib.command_line import COMMAND_S, USERS_S, parse_arguments
from guest_lib.errors import USAGE, GuestError


def test_a_command_runs_on_our_own_kernel() -> None:
    options = parse_arguments(["--", "kleaktrace", "run", "--", "./test.sh"])
    assert options.command == ("kleaktrace", "run", "--", "./test.sh")
    assert (options.kernel, options.tree, options.source, options.architecture) == ("6.12", None, None, None)
    assert (options.timeout_s, options.shell, options.no_panic) == (COMMAND_S, False, False)


def test_a_tree_and_modules(tmp_path: Path) -> None:
    for name in ("linux", "one", "other"):
        (tmp_path / name).mkdir()
    words = ["--tree", f"{tmp_path}/linux", "--module", f"{tmp_path}/one", "--module", f"{tmp_path}/x/../other"]
    options = parse_arguments([*words, "--arch", "arm64", "--no-panic", "--", "./test.sh"])
    assert options.tree == tmp_path / "linux"
    assert options.modules == (tmp_path / "one", tmp_path / "other")
    assert options.architecture is ARM64
    assert options.no_panic


def test_what_is_the_user_s_may_take_longer(tmp_path: Path) -> None:
    for words in (["--tree", str(tmp_path)], ["--source", str(tmp_path)], ["--module", str(tmp_path)]):
        assert parse_arguments([*words, "--", "true"]).timeout_s == USERS_S


def test_a_shell_has_no_limit_of_time_unless_one_is_given() -> None:
    assert parse_arguments(["--shell"]).timeout_s == math.inf
    assert parse_arguments(["--shell", "--timeout", "5"]).timeout_s == 5


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--tree", "/", "--source", "/", "--", "true"], "not allowed with"),
        (["--tree", "/", "--kernel", "6.12", "--", "true"], "not allowed with"),
        (["--shell", "--", "true"], "give either a command after --, or --shell"),
        (["--shell", "--build-dir"], "give either a command after --, or --shell"),
        (["--timeout", "0", "--", "true"], "must be positive"),
    ],
)
def test_words_that_contradict_each_other_are_wrong_usage(
    words: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        parse_arguments(words)
    assert ended.value.code == USAGE
    assert complaint in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--tree", "/nowhere", "--", "true"], "--tree /nowhere: no such directory"),
        (["--module", "/nowhere", "--", "true"], "--module /nowhere: no such directory"),
        (["--tree", "/", "--config", "x", "--", "true"], "--tree is built already"),
        (["--kernel", "debian13", "--module", "/", "--", "true"], "no tree here"),
        (["--kernel", "debian13", "--arch", "arm64", "--", "true"], "that release's own"),
        (["--source", "/", "--print-config"], "ours have all of it"),
        (["--kernel", "6.1", "--print-config"], "ours have all of it"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_to_do(words: list[str], complaint: str) -> None:
    with pytest.raises(GuestError) as raised:
        parse_arguments(words)
    assert raised.value.status == USAGE
    assert complaint in raised.value.what
    assert raised.value.fix
