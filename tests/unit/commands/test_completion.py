# SPDX-License-Identifier: GPL-2.0-or-later
"""Completion, by the bash that is here."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from kleaktrace.cli import kleaktrace

COMPLETE = """
eval "$(kleaktrace completion bash)"
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
_kleaktrace_completion kleaktrace
printf '%s\\n' "${COMPREPLY[@]}"
"""


def completed(*words: str) -> list[str]:
    programs = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    command = ["bash", "-c", COMPLETE, "bash", "kleaktrace", *words]
    done = subprocess.run(command, env={"PATH": programs}, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.thorough
def test_bash_completes_commands_options_and_choices() -> None:
    assert completed("conf") == ["confirm"]
    assert completed("trace", "--ex") == ["--exact-stacks"]
    assert completed("trace", "--by", "req") == ["requester"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_there_is_a_script_for_each_shell(shell: str) -> None:
    done = CliRunner().invoke(kleaktrace, ["completion", shell])
    assert done.exit_code == 0
    assert f"_KLEAKTRACE_COMPLETE={shell}_complete" in done.stdout
