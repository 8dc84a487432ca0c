# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kleaktrace.core.symbols.executed_programs import MOST_BYTES, ExecutedPrograms


def test_what_a_process_ran_at_a_time() -> None:
    programs = ExecutedPrograms()
    programs.add(7, 200, b"ip\0link\0add\0")
    programs.add(7, 100, b"sh\0-c\0ip link add\0")
    programs.add(8, 150, b"other\0")
    asked = [programs.arguments(7, at) for at in (99, 100, 199, 200, 10**18)]
    shell, ip = ("sh", "-c", "ip link add"), ("ip", "link", "add")
    assert asked == [(), shell, shell, ip, ip]
    assert programs.arguments(9, 500) == ()


def test_arguments_are_told_as_they_are() -> None:
    programs = ExecutedPrograms()
    for time, arguments in enumerate([b"", b"\0", b"a\0\0 b\n\0", b"\xff\x1b[0m\0", b"cut\0he", b"x" * 300]):
        programs.add(1, time, arguments)
    told = [programs.arguments(1, time) for time in range(6)]
    assert told == [(), ("",), ("a", "", " b\n"), ("\ufffd\x1b[0m",), ("cut", "he…"), ("x" * MOST_BYTES + "…",)]


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 20)), max_size=40), st.integers(1, 10))
def test_the_newest_are_kept_and_the_latest_not_after_is_the_answer(added: list[tuple[int, int]], most: int) -> None:
    programs = ExecutedPrograms(most)
    for number, (tgid, time) in enumerate(added):
        programs.add(tgid, time, b"%03d\0" % number)
    kept = [(tgid, time, f"{number:03d}") for number, (tgid, time) in enumerate(added)][-most:]
    assert len(programs) == len(kept)
    for tgid in range(6):
        for at in range(21):
            before = [(time, name) for of, time, name in kept if of == tgid and time <= at]
            assert programs.arguments(tgid, at) == ((max(before)[1],) if before else ())
