# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from rich.console import Console
from schemas import validated

from kleaktrace.commands import explain as module
from kleaktrace.commands.explain import explain
from kleaktrace.core.kmemleak.report_parser import parse
from kleaktrace.errors import UsageError
from kleaktrace.views.terminal import kmemleak as view

REPORT = """\
unreferenced object 0xffff888003692380 (size 128):
  comm "insmod", pid 762, jiffies 4295831244
  hex dump (first 32 bytes):
    00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00  ................
    00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00  ................
  backtrace (crc 2128895f):
    __kmalloc_cache_noprof+0x236/0x290
    leak_init+0x44/0xf0 [leaky]
    0xffffffffc03a204b
"""
TWO = REPORT + REPORT.replace("2380", "2400").replace("762", "763")
OTHER = """\
unreferenced object (percpu) 0x607773052bc0 (size 8):
  comm "softirq", pid 0, jiffies 4295831250
  hex dump (first 8 bytes on cpu 9):
    00 00 00 00 00 00 00 00                          ........
  backtrace (crc 0):
    pcpu_alloc_noprof+0x5e0/0xf10
    counter_clone+0x2c/0x330 [nf_tables]
"""


def run(text: str | bytes, *options: str) -> Result:
    return CliRunner().invoke(explain, [*options, "-"], input=text)


def screen(text: str) -> str:
    out = io.StringIO()
    read = parse(text)
    view.show(Console(file=out, width=80), read, view.explained_problems(read))
    return out.getvalue()


def test_the_json_document() -> None:
    result = run(REPORT + OTHER, "--json")
    assert result.exit_code == 0
    document = validated(json.loads(result.output))
    assert document["problems"] == []
    first, second = document["objects"]
    assert first == {
        "address": "0xffff888003692380",
        "size": 128,
        "kind": "slab",
        "comm": "insmod",
        "pid": 762,
        "jiffies": 4295831244,
        "age_s": None,
        "crc": 0x2128895F,
        "frames": [
            "__kmalloc_cache_noprof+0x236/0x290",
            "leak_init+0x44/0xf0 [leaky]",
            "0xffffffffc03a204b",
        ],
        "truncated": False,
        "more": 0,
        "line": 1,
    }
    assert (second["kind"], second["address"], second["crc"]) == ("percpu", "0x607773052bc0", 0)


def test_the_screen() -> None:
    assert (
        screen(TWO + OTHER)
        == """\
3 objects, 264 bytes, 2 different backtraces

1. 2 objects, 256 bytes, 128 each
   by "insmod" (pid 762), "insmod" (pid 763); jiffies 4295831244
     __kmalloc_cache_noprof+0x236/0x290
     leak_init+0x44/0xf0 [leaky]
     0xffffffffc03a204b
   · 1 frame without a name: the module was unloaded before kmemleak printed it; `kleaktrace run` keeps the names

2. 1 object (percpu), 8 bytes
   by "softirq" (pid 0); jiffies 4295831250
   at 0x607773052bc0
     pcpu_alloc_noprof+0x5e0/0xf10
     counter_clone+0x2c/0x330 [nf_tables]
   · a per-CPU object: the address is an offset, one copy of the size exists for every CPU
   · allocated in a softirq: comm and pid do not tell who asked
   · crc 0, all bytes zero: such objects can be listed by their first scan already; scan again
"""
    )


def test_a_hostile_comm_does_not_reach_the_terminal() -> None:
    hostile = REPORT.replace('"insmod"', '"\x1b]0;x\x07[red]"')
    result = run(hostile)
    assert "\x1b" not in result.output
    assert r'"\x1b]0;x\x07[red]"' in result.output
    assert validated(json.loads(run(hostile, "--json").output))["objects"][0]["comm"] == "\x1b]0;x\x07[red]"


def test_a_log_that_says_why_kmemleak_is_off() -> None:
    log = (
        "[    0.0] kmemleak: Memory pool empty, consider increasing CONFIG_DEBUG_KMEMLEAK_MEM_POOL_SIZE\n"
        "[    0.0] kmemleak: Cannot allocate a kmemleak_object structure\n"
        "[    0.0] kmemleak: Kernel memory leak detector disabled\n"
    )
    result = run(log, "--json")
    document = validated(json.loads(result.output))
    assert (result.exit_code, document["objects"]) == (0, [])
    (problem,) = document["problems"]
    assert problem["line"] == 1
    assert "pool was too small" in problem["what"]


def test_a_log_that_only_counts_suspects() -> None:
    result = run("[  99.1] kmemleak: 7 new suspected memory leaks (see /sys/kernel/debug/kmemleak)\n")
    assert result.exit_code == 0
    assert "the report is in /sys/kernel/debug/kmemleak" in result.output


@pytest.mark.parametrize("text", ["", "nothing of interest\n", b"\x7fELF\x02\x01\x00\xff\xfe" * 100])
def test_a_text_without_kmemleak_is_refused(text: str | bytes) -> None:
    result = run(text, "--json")
    assert result.exit_code == 2
    assert validated(json.loads(result.output))["problems"][0]["what"] == "nothing of kmemleak in this text"


def test_a_text_of_which_nothing_can_be_read_is_refused_with_its_line() -> None:
    result = run("\n" + REPORT[: REPORT.index("  comm")] + "\nnothing more\n", "--json")
    assert result.exit_code == 2
    assert validated(json.loads(result.output))["problems"][0]["line"] == 2


def test_a_broken_report_beside_a_whole_one_is_named() -> None:
    result = run(REPORT + REPORT[:60], "--json")
    document = validated(json.loads(result.output))
    assert (result.exit_code, len(document["objects"]), len(document["problems"])) == (0, 1, 1)


def test_utf_16_as_windows_shells_write_it() -> None:
    assert len(validated(json.loads(run(REPORT.encode("utf-16"), "--json").output))["objects"]) == 1


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    result = CliRunner().invoke(explain, [str(tmp_path / "none")])
    assert isinstance(result.exception, UsageError)


def test_a_file_without_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_BYTES", 100)
    assert isinstance(run(REPORT).exception, UsageError)
