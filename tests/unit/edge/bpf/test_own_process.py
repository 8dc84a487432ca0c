# SPDX-License-Identifier: GPL-2.0-or-later
"""Work in a process of its own: its result, its error, and its end before it was done."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest

from kleaktrace.edge.bpf.own_process import ProcessEnded, in_own_process, said_so_far
from kleaktrace.errors import EnvironmentRefusal, ExitCode


def test_what_it_returns_comes_back_and_what_it_changes_does_not() -> None:
    changed: list[int] = []

    def work() -> list[int]:
        changed.append(os.getpid())
        return changed

    assert in_own_process(work) != [os.getpid()]
    assert changed == []


def test_what_it_raises_is_raised_here_with_its_remedy() -> None:
    def work() -> NoReturn:
        raise EnvironmentRefusal("no", "do so")

    with pytest.raises(EnvironmentRefusal) as raised:
        in_own_process(work)
    assert (raised.value.what, raised.value.fix, raised.value.exit_code) == ("no", "do so", ExitCode.ENVIRONMENT)


def test_what_it_says_is_not_seen_but_by_itself(capfd: pytest.CaptureFixture[str]) -> None:
    def work() -> str:
        os.write(2, b"a warning\n")
        return said_so_far()

    assert in_own_process(work) == "a warning\n"
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("said", [b"in function f:\n  the BPF stack limit is exceeded\n\n", b""])
def test_an_exit_in_the_middle_is_told_with_its_last_words(said: bytes) -> None:
    def work() -> NoReturn:
        os.write(2, said)
        os._exit(1)

    with pytest.raises(ProcessEnded, match="the BPF stack limit is exceeded" if said else "it said nothing"):
        in_own_process(work)
