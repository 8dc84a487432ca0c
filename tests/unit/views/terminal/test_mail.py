# SPDX-License-Identifier: GPL-2.0-or-later
"""The mail: its whole text, and that kmemleak's readers can read it."""

from __future__ import annotations

from dataclasses import replace

from recordings import HOSTILE, hostile, nothing, one_leak
from reports import growing_stack, judged

from kleaktrace import __version__
from kleaktrace.core.evidence.evidence import Verdict
from kleaktrace.core.kmemleak.report_parser import parse
from kleaktrace.core.report import CommandResult
from kleaktrace.views.terminal.mail import WIDTH, mail


def test_one_leak() -> None:
    recording, report = one_leak()
    report = replace(report, command=CommandResult(("sh", "-c", "insmod drv.ko; rmmod drv"), 0, runs=3), gaps=["a gap"])
    assert mail(recording, report) == (
        "Subject: memory leak: drv_probe [drv]: 1 object, 128 B\n"
        "\n"
        f"kleaktrace {__version__} watched Linux 6.12.0-made-up (x86_64) allocate and free\n"
        "for 60.0 s: 7 allocations, 5 frees; no event got lost. Verdict: leaks.\n"
        "\n"
        "Confirmed, 1 of 1\n"
        "\n"
        "unreferenced object 0xffff888100000000 (size 128):\n"
        '  comm "insmod", pid 42, jiffies 4295017296 (age 60.000s)\n'
        "  backtrace:\n"
        "    drv_probe+0x22/0x100 [drv]\n"
        "    do_one_initcall+0x22/0x1000\n"
        "\n"
        "What:     128 bytes (100 asked for) from kmalloc-128 at\n"
        "          0xffff888100000000, 60.0 s old\n"
        "Verdict:  confirmed: not freed, and nothing has pointed to it in 2 scans\n"
        "Siblings: same call stack: 5 of 6 freed at drv_free+0x22/0xe00 [drv],\n"
        "          median after 500 ms; 1 outstanding (128 B)\n"
        "Freed at: drv_free+0x22/0xe00 [drv] (5 of 5)\n"
        "Look at:  paths after drv_probe that do not reach the free in drv_free\n"
        "Stack id: ab3001651563cb7b\n"
        "\n"
        "To see it again, as root:\n"
        "\n"
        "  kleaktrace run --repeat 3 -- sh -c 'insmod drv.ko; rmmod drv'\n"
        "\n"
        "Kernel:   6.12.0-made-up x86_64\n"
        "Modules:  drv\n"
        "Missing:  a gap\n"
    )


def test_kmemleak_s_readers_read_it() -> None:
    found = parse(mail(*one_leak()))
    (object_,) = found.objects
    assert (object_.address, object_.size, object_.comm, object_.pid) == (0xFFFF888100000000, 128, "insmod", 42)
    assert object_.age_s == 60.0
    assert [frame.symbol for frame in object_.frames] == ["drv_probe", "do_one_initcall"]


def test_nothing_found() -> None:
    text = mail(*nothing())
    assert text.startswith("Subject: kernel memory: clean\n")
    assert "unreferenced" not in text


def test_what_is_undecided_and_what_grows_is_told_too() -> None:
    recording, report = one_leak()
    undecided = judged(verdict=Verdict.UNDECIDED, reason="2 events were lost")
    dismissed = judged(verdict=Verdict.DISMISSED, reason="freed")
    text = mail(recording, replace(report, suspects=[undecided, dismissed], growing=[growing_stack()]))
    assert "Undecided, 1 of 1" in text
    assert "Verdict:  undecided: 2 events were lost" in text
    assert "freed\n" not in text.partition("Undecided")[2].partition("Growing")[0].partition("Siblings")[0]
    assert "Growing, 1 of 1: drv_probe+0x22/0x100 [drv]" in text
    assert "+1.2 KiB/s" in text


def test_prose_keeps_to_its_columns_and_hostile_names_to_their_lines() -> None:
    lines = mail(*hostile()).split("\n")
    assert all(line.isprintable() and len(line) < 300 for line in lines)
    wide = [line for line in lines if len(line) > WIDTH]
    assert all(line.startswith(("    ", "Subject: ", '  comm "')) for line in wide)
    assert sum(line.startswith("unreferenced object") for line in lines) == len(HOSTILE)


def test_many_leaks_are_counted() -> None:
    recording, report = one_leak()
    many = [judged(stack=(f"f{number}+0x1/0x2",)) for number in range(30)]
    text = mail(recording, replace(report, suspects=many))
    assert "Confirmed, 20 of 30" in text
    assert "… and 10 more call stacks" in text
    assert "and 29 other call stacks" in text.splitlines()[0]
