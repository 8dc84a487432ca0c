# SPDX-License-Identifier: GPL-2.0-or-later
"""Reports with something wrong in them: what can be read is, what cannot is told, and the neighbours lose nothing."""

from __future__ import annotations

import pytest

from kleaktrace.core.kmemleak.kmemleak_text import UNREAD, KmemleakText, Suspect
from kleaktrace.core.kmemleak.report_parser import parse

DUMP = """\
  hex dump (first 16 bytes):
    01 00 00 00 01 00 00 00 00 00 00 00 00 00 00 00  ................
"""
ONE = f"""\
unreferenced object 0xffff888000000100 (size 16):
  comm "first", pid 11, jiffies 4295000100 (age 50.000s)
{DUMP}  backtrace:
    [<ffffffff81573b75>] kmalloc_trace+0x25/0x90
    [<ffffffffa0041873>] one_probe+0x10/0x20 [one]
"""
TWO = ONE.replace("100 (", "200 (").replace('"first"', '"second"').replace("pid 11", "pid 22").replace("one", "two")


def names(suspect: Suspect) -> list[str | None]:
    return [frame.symbol for frame in suspect.frames]


def both(text: str) -> KmemleakText:
    """Read a text with a damaged first and a good second report."""
    read = parse(text)
    first, second = read.objects
    assert (first.address, second.address) == (0xFFFF888000000100, 0xFFFF888000000200)
    assert (second.comm, second.pid, second.age_s, names(second)) == (
        "second",
        22,
        50.0,
        ["kmalloc_trace", "two_probe"],
    )
    return read


@pytest.mark.parametrize(
    "behind",
    ["   <-- our daemon", "  # this one", "[  333.123456] usb 1-1: reset", "<4>[  333.123456] usb 1-1: reset", r"\n"],
)
def test_what_stands_behind_the_comm_line_swallows_nothing(behind: str) -> None:
    read = both(ONE.replace("50.000s)", f"50.000s){behind}") + TWO)
    assert (read.objects[0].comm, read.objects[0].pid, read.objects[0].age_s) == ("first", 11, 50.0)
    assert read.problems == ()


def test_a_message_that_cuts_a_number_of_the_comm_line_is_told() -> None:
    read = both(ONE.replace("5000100 (age 50.000s)", "500[  333.123456] usb 1-1: reset") + TWO)
    assert (read.objects[0].pid, read.objects[0].jiffies, read.objects[0].age_s) == (11, UNREAD, None)
    assert [problem.line for problem in read.problems] == [2]


def test_a_comm_line_without_a_pid() -> None:
    read = both(ONE.replace(", pid 11, jiffies 4295000100 (age 50.000s)", "") + TWO)
    assert (read.objects[0].comm, read.objects[0].pid, names(read.objects[0])) == (
        "first",
        UNREAD,
        ["kmalloc_trace", "one_probe"],
    )
    assert [problem.line for problem in read.problems] == [2]


def test_no_comm_line_at_all() -> None:
    read = both(ONE.replace('  comm "first", pid 11, jiffies 4295000100 (age 50.000s)\n', "") + TWO)
    assert names(read.objects[0]) == ["kmalloc_trace", "one_probe"]
    assert read.problems[0].line == 1


def test_a_comm_that_never_ends_reaches_over_nothing() -> None:
    read = both(ONE.replace('first", pid 11, jiffies 4295000100 (age 50.000s)', "first") + TWO)
    assert read.problems


@pytest.mark.parametrize("frame", ["?? first", "@@", "? maybe_called+0x1/0x2", "[<ffffffff81573b75>] ? maybe+0x1/0x2"])
def test_lines_that_are_no_frames_are_told_and_cost_no_stack(frame: str) -> None:
    read = both(ONE.replace("  backtrace:\n", f"  backtrace:\n    {frame}\n    {frame}\n    {frame}\n") + TWO)
    assert names(read.objects[0]) == ["kmalloc_trace", "one_probe"]
    assert [problem.line for problem in read.problems] == [6, 7, 8]


@pytest.mark.parametrize(
    "splat",
    [
        "[  400.000003] Call Trace:\n[  400.000004]  dump_stack+0x6d/0x89\n[  400.000005]  panic+0x10/0x20\n",
        "[  400.000001] WARNING: CPU: 0 PID: 1 at kernel/a.c:12 foo+0x12/0x34\n[  400.000004]  dump_stack+0x6d/0x89\n",
        "\nCall Trace:\n dump_stack+0x6d/0x89\n panic+0x10/0x20\n",
    ],
)
def test_frames_of_another_splat_are_not_the_objects(splat: str) -> None:
    read = parse(ONE + splat)
    assert names(read.objects[0]) == ["kmalloc_trace", "one_probe"]
    assert (read.problems, read.stacks) == ((), ())


def test_a_frame_of_another_splat_in_the_middle_is_told() -> None:
    read = parse(ONE.replace("    [<ffffffffa", "[  400.000004]  dump_stack+0x6d/0x89\n    [<ffffffffa"))
    assert names(read.objects[0]) == ["kmalloc_trace", "one_probe"]
    assert [problem.line for problem in read.problems] == [6 + 1]


def test_lines_of_others_in_a_hex_dump() -> None:
    noise = "[  400.000004] usb 1-1: new device\n"
    assert both(ONE.replace("  hex", f"{noise}  hex") + TWO).problems == ()
    told = both(ONE.replace("    01 00 00", "random: crng init done\n    01 00 00") + TWO)
    assert [problem.line for problem in told.problems] == [4]
    assert len(told.objects[0].contents) == 16


def test_a_word_that_another_message_cut() -> None:
    read = both(ONE.replace("one_probe", "one_pro[  400.0] usb 1-1: reset\nbe") + TWO)
    assert names(read.objects[0]) == ["kmalloc_trace", "one_probe"]


def test_a_message_of_kmemleaks_own_within_a_report() -> None:
    lines = [f"[  100.000001] kmemleak: {line}\n" for line in ONE.splitlines()]
    lines.insert(4, "[  100.000001] kmemleak: 3 new suspected memory leaks (see /sys/kernel/debug/kmemleak)\n")
    read = parse("".join(lines))
    assert names(read.objects[0]) == ["kmalloc_trace", "one_probe"]
    assert [message.line for message in read.messages] == [5]
    assert read.problems == ()


def test_two_tasks_that_print_at_the_same_time() -> None:
    pairs = zip(ONE.splitlines(), TWO.splitlines(), strict=True)
    mixed = "".join(
        f"[  100.000001][   T55] kmemleak: {one}\n[  100.000002][   T99] kmemleak: {two}\n" for one, two in pairs
    )
    assert both(mixed).problems == ()


@pytest.mark.parametrize("word", ["Unreferenced", "nreferenced", "referenced"])
def test_a_damaged_first_word(word: str) -> None:
    assert both(ONE.replace("unreferenced", word) + TWO).problems == ()


@pytest.mark.parametrize("cpu", [" on cpu 1", ", cpu 1", " cpu 1"])
def test_what_trees_with_other_patches_print_of_per_cpu_objects(cpu: str) -> None:
    (one,) = parse(ONE.replace("16 bytes)", f"16 bytes{cpu})")).objects
    assert one.kind == "percpu"


@pytest.mark.parametrize(
    ("head", "comm"),
    [
        (ONE[ONE.index("  comm") :], "first"),
        (ONE[ONE.index("  backtrace") :], None),
        (ONE[ONE.index("    [<") :], None),
    ],
)
def test_a_text_without_its_head(head: str, comm: str | None) -> None:
    for text in (head, head + TWO):
        read = parse(text)
        (stack,) = read.stacks
        assert ([frame.symbol for frame in stack.frames], stack.comm) == (["kmalloc_trace", "one_probe"], comm)
        assert [problem.line for problem in read.problems] == [1]
        assert len(read.objects) == (text != head)


@pytest.mark.parametrize(
    ("printed", "shown"),
    [
        ("foo_probe (drivers/foo/foo.c:123 (discriminator 3)) foo", "foo_probe [foo] (drivers/foo/foo.c:123)"),
        (
            "bar+0x12/0x30 (drivers/foo.c:12 include/s.h:60) foo",
            "bar+0x12/0x30 [foo] (drivers/foo.c:12 include/s.h:60)",
        ),
        ("baz (drivers/foo.c:12 include/s.h:60) [foo]", "baz [foo] (drivers/foo.c:12 include/s.h:60)"),
        ("qux+0x1/0x2 /home/me/linux/drivers/foo.c:12", "qux+0x1/0x2 (/home/me/linux/drivers/foo.c:12)"),
        ("quux (home/me/my dir/foo.c:12)", "quux (home/me/my dir/foo.c:12)"),
        ("corge+0x10/0x20 (??:?)", "corge+0x10/0x20"),
        ("entry (arch/x86/entry/entry_64.S:130) ", "entry (arch/x86/entry/entry_64.S:130)"),
        ("<core::fmt::Debug as Foo<T>>::fmt+0x1/0x20", "<core::fmt::Debug as Foo<T>>::fmt+0x1/0x20"),
        ("foo(int, char*)+0x12/0x34 [cxx]", "foo(int, char*)+0x12/0x34 [cxx]"),
        ("[ffffffff9c6b9d4a] f+0x4a/0xa0", "f+0x4a/0xa0"),
        ("[] f+0x4a/0xa0", "f+0x4a/0xa0"),
        ("#3 [<ffffffff9c6b9d4a>] f+0x4a/0xa0", "f+0x4a/0xa0"),
        ("ffffffff9c6b9d4a f+0x4a/0xa0", "f+0x4a/0xa0"),
        ("f+0x4a/0xa0   <-- here", "f+0x4a/0xa0"),
    ],
)
def test_notations_of_frames(printed: str, shown: str) -> None:
    read = parse(f"{ONE}    {printed}\n{TWO}")
    assert str(read.objects[0].frames[2]) == shown
    assert read.problems == ()


def test_prose_that_follows_a_flowed_report_is_no_problem() -> None:
    read = parse(
        " ".join(f"It leaks: {ONE} Found by the Verification Center (example.org) with a fuzzer.".split()) + "\n"
    )
    assert names(read.objects[0]) == ["kmalloc_trace", "one_probe"]
    assert read.problems == ()


def test_trailers_of_a_commit_message_are_no_frames() -> None:
    text = ONE.replace("  ", "") + 'Fixes: 0123456789ab ("one: add it")\nSigned-off-by: A <a@example.org>\n'
    assert parse(text).problems == ()
