# SPDX-License-Identifier: GPL-2.0-or-later
"""Reports of every generation, rendered in the kernel's print formats and read back."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from printed_reports import GENERATIONS, Generation, as_printed, facts, render, suspects

from kleaktrace.core.kmemleak.frames import KmemleakFrame
from kleaktrace.core.kmemleak.report_parser import Suspect, parse


@pytest.mark.parametrize("generation", GENERATIONS.values(), ids=GENERATIONS)
@given(reports=st.lists(suspects(), min_size=1, max_size=4))
@settings(max_examples=60, deadline=None)
@pytest.mark.thorough
def test_what_a_kernel_prints_is_read_back(generation: Generation, reports: list[Suspect]) -> None:
    read = parse("".join(render(r, generation) for r in reports))
    assert [facts(r) for r in read.objects] == [facts(as_printed(r, generation)) for r in reports]
    assert read.problems == ()


@pytest.mark.parametrize("generation", ["4.14", "6.1", "6.8", "6.15"])
@pytest.mark.parametrize(
    "prefix",
    [
        "[   12.733362] kmemleak: ",
        "<4>[   12.733362][ T1234] kmemleak: ",
        "[Fri Nov 20 21:41:54 2026] kmemleak: ",
        "Nov 20 21:41:54 box kernel: [   12.733362] kmemleak: ",
        "Nov 20 21:41:54 box kernel: kmemleak: ",
        "kern  :warn  : [   12.733362] kmemleak: ",
        "2026-11-20T21:41:54,123456+00:00 kmemleak: ",
        "\x1b[32m[   12.733362] \x1b[0m\x1b[33mkmemleak: \x1b[0m",
        "4,1234,567890,-;kmemleak: ",
        "> ",
        "> > ",
        ">>| ",
        "ttyS0-7 | ",
        "console 7: ",
        "\t",
        "    12\t",
        "1234:",
        "   9.104133 ::  ",
    ],
)
@given(report=suspects())
@settings(max_examples=15, deadline=None)
def test_prefixes_of_logs_and_mails_come_off(prefix: str, generation: str, report: Suspect) -> None:
    how = GENERATIONS[generation]
    if report.comm != report.comm.strip() or "\n" in report.comm:
        return  # a log prefixes the parts of a broken comm; tested on its own
    text = "".join(f"{prefix}{line}  \r\n" for line in render(report, how).rstrip("\n").split("\n"))
    read = parse(text)
    assert [facts(r) for r in read.objects] == [facts(as_printed(report, how))]
    assert read.problems == ()


@given(st.text())
@settings(max_examples=300, deadline=None)
def test_any_text_is_read_without_raising(text: str) -> None:
    assert parse(text).objects == ()


PIECES = [
    "unreferenced object ",
    "0xffff8880123456c0 (size 64):",
    "(percpu) ",
    '  comm "a", pid 1, jiffies 2',
    " (age 1.234s)",
    "  hex dump (first 32 bytes):",
    "    00 01 02",
    "  backtrace (crc 1):",
    "    foo+0x1/0x2 [m]",
    "[<ffffffff81234567>] ",
    "kmemleak: ",
    "Object 0x1 (size 2):",
    "  count = 007",
    "  ... and 3 more object(s) with the same backtrace",
    "a at b.c:1",
    "[    1.0] ",
    "> ",
    "\n",
    "\r\n",
    "\0",
]


@given(st.lists(st.sampled_from(PIECES), max_size=60))
@settings(max_examples=400, deadline=None)
def test_pieces_of_reports_in_any_order_are_read_without_raising(pieces: list[str]) -> None:
    read = parse("".join(pieces))
    assert all(problem.line >= 1 for problem in read.problems)


@given(report=suspects(), data=st.data())
@settings(max_examples=200, deadline=None)
@pytest.mark.thorough
def test_a_cut_report_is_never_taken_for_a_whole_one(report: Suspect, data: st.DataObject) -> None:
    text = render(report, GENERATIONS["6.13"])
    last_row = text.rindex("\n    62", 0, text.index("  backtrace (crc"))
    cut = data.draw(st.integers(len("unreferenced object "), last_row + len("\n    6")))
    read = parse(text[:cut])
    assert read.problems, text[:cut]
    assert all((s.pid, s.jiffies) == (report.pid, report.jiffies) for s in read.objects)  # no cut numbers


PLAIN = """\
unreferenced object 0xffff888003692380 (size 128):
  comm "tester", pid 762, jiffies 4294831244
  hex dump (first 32 bytes):
    00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00  ................
    00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00  ................
  backtrace (crc 2128895f):
    __kmalloc_cache_noprof+0x236/0x290
    leak_init+0x44/0xf0 [leaky]
    do_one_initcall+0x44/0x330
"""


def only(text: str) -> Suspect:
    read = parse(text)
    assert read.problems == ()
    (suspect,) = read.objects
    return suspect


def test_every_field_of_a_plain_report() -> None:
    suspect = only(PLAIN)
    assert (suspect.address, suspect.size, suspect.kind) == (0xFFFF888003692380, 128, "slab")
    assert (suspect.comm, suspect.pid, suspect.jiffies) == ("tester", 762, 4294831244)
    assert (suspect.age_s, suspect.crc, suspect.line) == (None, 0x2128895F, 1)
    assert [str(f) for f in suspect.frames] == [
        "__kmalloc_cache_noprof+0x236/0x290",
        "leak_init+0x44/0xf0 [leaky]",
        "do_one_initcall+0x44/0x330",
    ]
    assert suspect.frames[1] == KmemleakFrame(None, "leak_init", 0x44, 0xF0, "leaky")
    assert not suspect.truncated


def test_sixteen_frames_are_a_cut_stack() -> None:
    sixteen = PLAIN + "".join(f"    caller_{n}+0x1/0x2\n" for n in range(13))
    assert only(sixteen).truncated
    assert not only(sixteen[: sixteen.rindex("    caller")]).truncated


def test_decoded_inline_frames_do_not_count_as_kept_frames() -> None:
    inlined = "".join(f"    caller_{n} lib/some.c:{n + 1} [inline]\n" for n in range(14))
    suspect = only(PLAIN + inlined)
    assert len(suspect.frames) == 17
    assert not suspect.truncated
    assert suspect.frames[3] == KmemleakFrame(None, "caller_0", source="lib/some.c:1", inline=True)


@pytest.mark.parametrize(
    "end", ["[<ffffffffffffffff>] 0xffffffffffffffff", "0xffffffffffffffff", "[<00000000>] 0x0", "(null)"]
)
def test_end_marks_are_no_frames(end: str) -> None:
    assert len(only(f"{PLAIN}    {end}\n").frames) == 3


@pytest.mark.parametrize(
    ("line", "frame"),
    [
        (
            "[<ffffffff848a2f5f>] sock_kmalloc+0x7f/0xc0 net/core/sock.c:1774",
            KmemleakFrame(
                0xFFFFFFFF848A2F5F, "sock_kmalloc", 0x7F, 0xC0, source="net/core/sock.c:1774",
                printed="ffffffff848a2f5f",
            ),
        ),
        (
            "[<0000000070ad19b0>] kmalloc include/linux/slab.h:557 [inline]",
            KmemleakFrame(
                None, "kmalloc", source="include/linux/slab.h:557", inline=True, printed="0000000070ad19b0"
            ),
        ),
        (
            "xp_assign_dev+0x369/0x670 (net/xdp/xsk_buff_pool.c:226)",
            KmemleakFrame(None, "xp_assign_dev", 0x369, 0x670, source="net/xdp/xsk_buff_pool.c:226"),
        ),
        (
            "probe (drivers/a/b.c:12 (discriminator 3) include/c.h:4) my_drv",
            KmemleakFrame(None, "probe", module="my_drv", source="drivers/a/b.c:12 include/c.h:4"),
        ),
        ("[<1d054583>] 0xbf00102c", KmemleakFrame(0xBF00102C, printed="1d054583")),
        ("[<(ptrval)>] foo.isra.7+0x1/0x2 [mod]", KmemleakFrame(None, "foo.isra.7", 1, 2, "mod", printed="(ptrval)")),
        ("foo+0x1/0x2 [mod 0123456789abcdef]", KmemleakFrame(None, "foo", 1, 2, "mod")),
        ("system_call+0x6e/0x90--", KmemleakFrame(None, "system_call", 0x6E, 0x90)),
    ],
)  # fmt: skip
def test_forms_of_frames(line: str, frame: KmemleakFrame) -> None:
    assert only(f"{PLAIN}    {line}\n").frames[3] == frame


def test_addr2line_lines_belong_to_the_frame_above_them() -> None:
    suspect = only(
        PLAIN + "    create_pte+0x838/0xd20 [kvm]\n"
        "    pmd_alloc at arch/x.c:366\n    (inlined by) create_pte at arch/x.c:590\n"
        "    fault+0x2/0x8 [kvm]\n"
    )
    assert [str(f) for f in suspect.frames[3:]] == [
        "pmd_alloc (arch/x.c:366) [inline]",
        "create_pte+0x838/0xd20 [kvm] (arch/x.c:590)",
        "fault+0x2/0x8 [kvm]",
    ]


def test_eight_digit_addresses_are_raw_only_where_they_lie_together() -> None:
    head = 'unreferenced object 0xc625e000 (size 2048):\n  comm "swapper", pid 1, jiffies 42\n  backtrace:\n'
    raw = only(head + "    [<c00c89f0>] a+0x1/0x2\n    [<c00c6764>] b+0x1/0x2\n    [<c01d78c0>] c+0x1/0x2\n")
    assert [f.address for f in raw.frames] == [0xC00C89F0, 0xC00C6764, 0xC01D78C0]
    hashed = only(head + "    [<db841d9f>] a+0x1/0x2\n    [<a2e2b9fa>] b+0x1/0x2\n    [<c13a28b3>] c+0x1/0x2\n")
    assert [f.address for f in hashed.frames] == [None, None, None]
    assert hashed.frames[0].printed == "db841d9f"


def test_per_cpu_objects_before_they_were_marked() -> None:
    text = PLAIN.replace("32 bytes)", "32 bytes on cpu 2)").replace("0xffff888003692380", "0x00042aa0")
    suspect = only(text)
    assert (suspect.kind, suspect.address) == ("percpu", 0x42AA0)
    assert only(text.replace("\n", " \n")).kind == "percpu"  # line by line as well


@pytest.mark.parametrize("kind", ["percpu", "phys"])
def test_marked_kinds(kind: str) -> None:
    assert only(PLAIN.replace("object 0x", f"object ({kind}) 0x")).kind == kind


def test_an_unknown_kind_is_a_problem_not_a_guess() -> None:
    read = parse(PLAIN.replace("object 0x", "object (remote) 0x") + PLAIN)
    assert len(read.objects) == 1
    assert [p.line for p in read.problems] == [1]


def test_kasan_tags_are_masked() -> None:
    assert only(PLAIN.replace("0xffff888003692380", "0xf5ff000003692380")).untagged == 0xFFFF000003692380
    assert only(PLAIN).untagged == 0xFFFF888003692380
    assert only(PLAIN.replace("0xffff888003692380", "0xc000201c382a1000")).untagged == 0xC000201C382A1000


def test_per_cpu_offsets_have_no_tag_whatever_their_number() -> None:
    suspect = only(PLAIN.replace("object 0xffff888003692380", "object (percpu) 0x00a0000003692380"))
    assert (suspect.kind, suspect.untagged) == ("percpu", 0x00A0000003692380)


def test_no_backtrace_at_all() -> None:
    assert only(PLAIN[: PLAIN.index("  backtrace")]).frames == ()
    assert only(PLAIN[: PLAIN.index("    __kmalloc")]).frames == ()


def test_a_comm_with_newlines_in_a_log() -> None:
    lines = PLAIN.replace('"tester"', '"a", pid\n "b"').splitlines()
    suspect = only("".join(f"[   12.733362] kmemleak: {line}\n" for line in lines))
    assert suspect.comm.split() == ['a",', "pid", '"b']


@pytest.mark.parametrize("prefix", ["", "> ", "box kernel: ", "lava-07 (0012) :: "])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_comm_with_newlines_in_a_mail_or_console(prefix: str, end: str) -> None:
    lines = PLAIN.replace('"tester"', '"a", pid\n "b"').splitlines()
    suspect = only("".join(f"{prefix}{line}{end}" for line in lines))
    assert suspect.comm.split() == ['a",', "pid", '"b']
    assert "\r" not in suspect.comm


def test_colours_around_the_lines() -> None:
    coloured = "".join(f"\x1b[0;33m{line}\x1b[0m\n" for line in PLAIN.splitlines())
    assert facts(only(coloured)) == facts(only(PLAIN))


def test_lines_that_a_mail_client_wrapped() -> None:
    suspect = only(
        'unreferenced object 0xffff888003692380 (size 128):\n  comm "a-long-name", pid 762, jiffies 4294831244 (age\n'
        "12.345s)\n  hex dump (first 16 bytes):\n    00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00\n"
        "................\n  backtrace:\n    [<00000000e105c1d7>]\nprobe+0x84/0x100 [a_module]\n"
        "drivers/base/dd.c:738\n    [<00000000e105c1d8>] really_probe+0x84/0x100\n[b_module]\n"
        "    [<00000000e105c1d9>] attach\ninclude/linux/x.h:1 [inline]\n"
    )
    assert (suspect.comm, suspect.age_s) == ("a-long-name", 12.345)
    assert [str(f) for f in suspect.frames] == [
        "probe+0x84/0x100 [a_module] (drivers/base/dd.c:738)",
        "really_probe+0x84/0x100 [b_module]",
        "attach (include/linux/x.h:1) [inline]",
    ]


def test_dots_at_the_end_are_an_authors_cut() -> None:
    assert len(only(PLAIN + "    ...").frames) == 3


def test_more_objects_with_the_same_backtrace() -> None:
    text = PLAIN + "  ... and 41 more object(s) with the same backtrace\n" + PLAIN
    assert [s.more for s in parse(text).objects] == [41, 0]


def test_lines_of_others_between_the_lines_of_a_report_in_a_log() -> None:
    lines = [f"[   12.733362] kmemleak: {line}\n" for line in PLAIN.splitlines()]
    noise = "[   12.733400] usb 1-1: new device, reading 0x10+0x20/0x30\n"
    suspect = only(noise.join(lines))
    assert len(suspect.frames) == 3


def test_a_line_that_cannot_be_read_is_named_and_the_rest_still_read() -> None:
    text = PLAIN.replace("    leak_init", "    @@garbage@@\n    leak_init")
    read = parse(text)
    assert [f.symbol for f in read.objects[0].frames] == [
        "__kmalloc_cache_noprof",
        "leak_init",
        "do_one_initcall",
    ]
    assert [p.line for p in read.problems] == [8]


def test_a_header_without_body_names_its_line_and_costs_no_neighbour() -> None:
    header = PLAIN[: PLAIN.index("\n") + 1]
    read = parse(PLAIN + header + PLAIN)
    assert [s.line for s in read.objects] == [1, 11]
    assert [p.line for p in read.problems] == [10]


def test_a_report_that_lost_its_header() -> None:
    read = parse(PLAIN[PLAIN.index("\n") + 1 :] + PLAIN)
    assert [s.line for s in read.objects] == [9]
    assert [p.line for p in read.problems] == [1]


def test_a_header_that_cannot_be_read() -> None:
    read = parse(PLAIN.replace("0xffff888003692380", "0x[redacted]"))
    assert read.objects == ()
    assert read.problems[0].line == 1


def test_prose_about_unreferenced_objects_is_not_a_report() -> None:
    read = parse("I keep seeing unreferenced objects here, e.g. unreferenced object in foo_probe:\n\n" + PLAIN)
    assert len(read.objects) == 1
    assert read.problems == ()


def test_console_prompts_around_a_report() -> None:
    read = parse(f"xx__-> cat /sys/kernel/debug/kmemleak\n{PLAIN}xx__-> echo $?\n0\nxx__-> {PLAIN}root@vm:~# ")
    assert [len(s.frames) for s in read.objects] == [3, 3]
    assert read.problems == ()


def test_prose_after_a_report_ends_it() -> None:
    suspect = only(PLAIN + "\nI think this is because of kernel/foo.c:12, see there.\nBob\n")
    assert len(suspect.frames) == 3


DUMP = """\
[   12.733362] kmemleak: Object 0xffffffffa0000000 (size 2097152):
[   12.734800] kmemleak:   comm "modprobe", pid 410, jiffies 4294880489
[   12.736334] kmemleak:   min_count = 2
[   12.737228] kmemleak:   count = 0
[   12.738043] kmemleak:   flags = 0x5
[   12.738917] kmemleak:   checksum = 0
[   12.739783] kmemleak:   backtrace:
[   12.740606]  kmemleak_vmalloc+0x29/0xc0
[   12.741532]  execmem_alloc+0xfb/0x3d0
[   12.748772] kmemleak: Not scanning unknown object at 0xffffffffa000a000
"""


def test_object_dumps_are_read_and_are_no_reports() -> None:
    read = parse(DUMP)
    assert read.objects == ()
    (dump,) = read.dumps
    assert (dump.address, dump.size, dump.comm, dump.pid) == (0xFFFFFFFFA0000000, 2097152, "modprobe", 410)
    assert (dump.min_count, dump.count, dump.flags, dump.checksum) == (2, 0, 5, 0)
    assert [f.symbol for f in dump.frames] == ["kmemleak_vmalloc", "execmem_alloc"]
    assert "0 of 2" in dump.state
    assert [m.line for m in read.messages] == [10]


@pytest.mark.parametrize("before", ["[   12.734800] ", ""])
def test_a_dump_of_an_object_whose_comm_holds_a_newline(before: str) -> None:
    text = DUMP.replace('"modprobe"', f'"a", pid\n{before}"b"')
    assert parse(text).dumps[0].comm == 'a", pid\n"b'


def test_a_dump_whose_comm_line_is_wrapped() -> None:
    text = DUMP.replace('"modprobe", pid', '"modprobe",\npid')
    assert (parse(text).dumps[0].comm, parse(text).dumps[0].pid) == ("modprobe", 410)


@pytest.mark.parametrize(
    ("min_count", "count", "said"),
    [(-1, 0, "ignores"), (0, 0, "never reports"), (1, 1, "referenced"), (1, -1, "not scanned")],
)
def test_what_the_counts_of_a_dump_mean(min_count: int, count: int, said: str) -> None:
    text = DUMP.replace("min_count = 2", f"min_count = {min_count}").replace(" count = 0", f" count = {count}")
    assert said in parse(text).dumps[0].state


def test_a_cut_dump_is_a_problem() -> None:
    read = parse(DUMP[: DUMP.index("[   12.738043]")])
    assert read.dumps == ()
    assert [p.line for p in read.problems] == [1]


def test_long_hostile_lines_are_passed_over() -> None:
    read = parse(("[" * 100_000) + "\n" + ("foo+0x1" * 50_000) + "\n" + PLAIN + "a" * 4_000 + PLAIN)
    assert [s.address for s in read.objects] == [0xFFFF888003692380] * 2


DATA = Path(__file__).parents[3] / "data" / "kmemleak"


@pytest.mark.parametrize("name", sorted(p.name for p in DATA.glob("*.txt")))
def test_recorded_reports(name: str) -> None:
    """Reports recorded from real kernels; the first number in a file's name is its count of objects."""
    read = parse((DATA / name).read_text(errors="backslashreplace"))
    assert len(read.objects) == int(name.split("_", maxsplit=1)[0])
    assert read.problems == ()
