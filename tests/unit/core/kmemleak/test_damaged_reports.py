# SPDX-License-Identifier: GPL-2.0-or-later
"""Good reports, damaged as mails, logs, web pages and people damage them, are read all the same."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from damaged_reports import LOG_PREFIXES, WHOLE, Damage, prefixed
from hypothesis import given, settings
from hypothesis import strategies as st
from printed_reports import GENERATIONS, as_printed, facts, render, suspects

from kleaktrace.core.kmemleak.kmemleak_text import Suspect
from kleaktrace.core.kmemleak.report_parser import parse

DATA = Path(__file__).parents[3] / "data" / "kmemleak"

DECODED = """\
unreferenced object 0xffff888109e0af00 (size 192):
  comm "kworker/1:2", pid 3205, jiffies 4294942324 (age 8.180s)
  hex dump (first 32 bytes):
    01 00 00 00 00 00 00 00 3d 3d 3d 3d 3d 3d 3d 3d  ........========
    00 00 00 00 00 00 00 00 18 af e0 09 81 88 ff 3d  ...............=
  backtrace:
    [<0000000070ad19b0>] kmalloc include/linux/slab.h:557 [inline]
    [<0000000070ad19b0>] usb_alloc_urb+0x66/0xe0 drivers/usb/core/urb.c:74
    [<000000008781be0e>] atusb_alloc_urbs drivers/net/ieee802154/atusb.c:362 [inline]
    [<000000008781be0e>] atusb_probe+0x158/0x820 drivers/net/ieee802154/atusb.c:1038
    [<0000000020e0d57d>] really_probe+0x159/0x480 [some_module]
    [<0000000020e0d57e>] 0xffffffffc03a204b
    [<00000000e105c1d7>] a_function_with_quite_a_long_name_for_a_driver_probe.constprop.0+0x84/0x100 [another_module]
"""
PLAIN = """\
unreferenced object (percpu) 0x607773052bc0 (size 8):
  comm "syz.0 23", pid 0, jiffies 4295831250
  hex dump (first 8 bytes on cpu 9):
    41 42 20 43 00 00 00 00                          AB C....
  backtrace (crc 0):
    pcpu_alloc_noprof+0x5e0/0xf10
    slab_post_alloc_hook mm/slub.c:4951 [inline]
    counter_clone+0x2c/0x330 (net/netfilter/x.c:12) [nf_tables]
    probe+0x1/0x2
unreferenced object 0xffff8881459079e0 (size 8):
  comm "kthreadd", pid 2, jiffies 4295831251
  hex dump (first 8 bytes):
    00 a0 9e 43 82 88 ff ff                          ...C....
  backtrace (crc 69c4a0b3):
    __kmalloc_node_noprof+0x6ab/0x970
    other_probe+0x361/0x5a0
"""
RECORDED = re.sub(  # of comms that hold newlines, no damage of whole lines can be undone
    r'(?s)comm "[^"]{0,20}"(?:.{0,20}")?, pid',
    'comm "kthreadd", pid',
    (DATA / "26_6.12_module_gone_hostile_comm.txt").read_text("latin-1"),
)
REPORTS = {"decoded": DECODED, "plain": PLAIN, "recorded": RECORDED}


def test_the_recorded_reports_are_still_there() -> None:
    assert len(parse(RECORDED).objects) == 26


@pytest.mark.parametrize("report", REPORTS)
@pytest.mark.parametrize("damage", WHOLE.values(), ids=WHOLE)
def test_a_damaged_report_is_read_like_a_good_one(damage: Damage, report: str) -> None:
    good = parse(REPORTS[report])
    assert good.problems == ()
    read = parse(damage(REPORTS[report]))
    assert [facts(one) for one in read.objects] == [facts(one) for one in good.objects]
    assert read.problems == ()


@pytest.mark.parametrize("name", WHOLE)
@given(reports=st.lists(suspects(), min_size=1, max_size=3), generation=st.sampled_from(list(GENERATIONS)))
@settings(max_examples=8, deadline=None)
def test_any_damaged_report_is_read_or_told(name: str, reports: list[Suspect], generation: str) -> None:
    how = GENERATIONS[generation]
    simple = [_with_simple_comm(one, number) for number, one in enumerate(reports)]
    text = "".join(render(one, how) for one in simple)
    read = parse(WHOLE[name](text))
    if read.problems:
        assert all(1 <= problem.line <= WHOLE[name](text).count("\n") + 1 for problem in read.problems)
    else:
        assert [facts(one) for one in read.objects] == [facts(as_printed(one, how)) for one in simple]


def _with_simple_comm(one: Suspect, number: int) -> Suspect:
    fields = {name: getattr(one, name) for name in Suspect.__slots__}
    return Suspect(**{**fields, "comm": f"task-{number}"})


REMARK = " <-- here"
LINE_END = "\\n"
JUNK = ("@@", REMARK, "?? ", LINE_END, "&nbsp;", "}", "foo+0x1", "…")
"""Not `=`: at the end of a line that joins it with the next one (quoted-printable)."""


@pytest.mark.parametrize(
    "line",
    [
        "  backtrace (crc 0):",
        "    [<ffffffff81000000>] drv_probe+0x10/0x20 [drv]",
        "    drv_probe+0x10/0x20 [drv]",
        '  comm "task", pid 1, jiffies 4294900000 (age 0.000s)',
    ],
)
def test_a_line_behind_a_message_of_the_console_is_told(line: str) -> None:
    report = [
        "unreferenced object 0xffff888100000000 (size 17):",
        '  comm "task", pid 1, jiffies 4294900000',
        "  backtrace:",
    ]
    frames = ["    [<ffffffff81000000>] first+0x1/0x2", f"[  400.000001] usb 1-1: reset{line}"]
    read = parse("\n".join([*report, *frames, ""]))
    assert {problem.line for problem in read.problems} == {5}


@given(reports=st.lists(suspects(), min_size=2, max_size=2), data=st.data())
@settings(max_examples=400, deadline=None)
@pytest.mark.thorough
def test_what_happens_to_one_line_stays_with_its_report_and_is_told(
    reports: list[Suspect], data: st.DataObject
) -> None:
    how = GENERATIONS[data.draw(st.sampled_from(list(GENERATIONS)))]
    first, second = (_with_simple_comm(one, number) for number, one in enumerate(reports))
    lines = render(first, how).splitlines()
    at = data.draw(st.integers(0, len(lines) - 1))
    junk = data.draw(st.sampled_from(JUNK))
    # Of what came into the middle of a number or a name nobody can tell, and remarks and ends of lines stand behind.
    places = [place for place in range(len(lines[at]) + 1) if not re.match(r"\w\w", lines[at][place - 1 : place + 1])]
    place = len(lines[at]) if junk in (REMARK, LINE_END) else data.draw(st.sampled_from(places))
    lines[at] = lines[at][:place] + junk + lines[at][place:]
    read = parse("\n".join(lines) + "\n" + render(second, how))
    assert facts(as_printed(second, how)) in [facts(one) for one in read.objects]
    same = facts(as_printed(first, how)) == facts(read.objects[0])
    told = [problem for problem in read.problems if problem.line <= len(lines)]
    in_dump = re.match(r"    (?:[0-9a-f@]{2} )", lines[at]) or "62" in lines[at]
    shows = any(junk.strip() in str(frame) for frame in read.objects[0].frames) or junk.strip() in read.objects[0].comm
    assert same or told or in_dump or shows, lines[at]


@pytest.mark.parametrize("prefix", LOG_PREFIXES)
@pytest.mark.parametrize(
    "message",
    [
        "Kernel memory leak detector disabled",
        "Kernel memory leak detector initialized (mem pool available: 15678)",
        "Trying to color unknown object at 0xff11000100e918c0 as Black",
        "Freeing unknown object at 0xff11000100e918c0",
        "Found object by alias at 0xffffff80049b5e80",
        "12 new suspected memory leaks (see /sys/kernel/debug/kmemleak)",
        "Cannot allocate a kmemleak_object structure",
    ],
)
def test_messages_are_found_behind_all_that_reports_are_found_behind(prefix: str, message: str) -> None:
    read = parse(f"something\n{prefix}{message}\nsomething else\n")
    assert [(one.line, one.text) for one in read.messages] == [(2, message)]
    assert read.problems == ()


@pytest.mark.parametrize("prefix", LOG_PREFIXES)
def test_dumps_are_found_behind_all_that_reports_are_found_behind(prefix: str) -> None:
    dump = (
        'Object 0xffffffffa0000000 (size 2097152):\n  comm "modprobe", pid 410, jiffies 4294880489\n  min_count = 2\n'
        "  count = 0\n  flags = 0x5\n  checksum = 0\n  backtrace:\n     kmemleak_vmalloc+0x29/0xc0\n"
        "     execmem_alloc+0xfb/0x3d0\n"
    )
    (one,) = parse(prefixed(prefix)(dump)).dumps
    assert (one.comm, one.pid, one.min_count, [frame.symbol for frame in one.frames]) == (
        "modprobe",
        410,
        2,
        ["kmemleak_vmalloc", "execmem_alloc"],
    )
