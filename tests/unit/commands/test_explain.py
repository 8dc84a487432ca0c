# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import base64
import bz2
import gzip
import io
import json
import lzma
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from debug_builds import DRIVER, HEADER, MAIN, DebugBuild, build, line_of
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
        "listed": [{"line": 1, "age_s": None, "crc": 0x2128895F}],
        "contents": " ".join(["00"] * 32),
        "facts": ["nothing but zeros in 32 bytes"],
        "points_to": [],
    }
    assert (second["kind"], second["address"], second["crc"]) == ("percpu", "0x607773052bc0", 0)


def test_an_object_that_kmemleak_listed_twice_is_one() -> None:
    first, second = (REPORT.replace("31244\n", f"31244 (age {age}s)\n") for age in ("50.000", "60.000"))
    text = f"$ cat kmemleak\n{first}$ cat kmemleak\n{second}"
    assert "1 object, 128 bytes" in run(text).output
    assert "listed twice, 10 s apart" in run(text).output
    document = validated(json.loads(run(text, "--json").output))
    (one,) = document["objects"]
    assert [(listed["line"], listed["age_s"]) for listed in one["listed"]] == [(2, 50.0), (12, 60.0)]
    assert (document["conclusion"]["objects"], document["groups"][0]["objects"]) == (1, 1)
    assert "listed twice, 10 s apart" in document["groups"][0]["hints"]


def test_groups_modules_and_the_conclusion_in_the_json_document() -> None:
    document = validated(json.loads(run(TWO + OTHER, "--json").output))
    first, second = document["groups"]
    assert (first["requester"], first["module"], first["objects"], first["bytes"]) == (
        "leak_init+0x44/0xf0 [leaky]",
        "leaky",
        2,
        256,
    )
    assert (first["likelihood"], first["lines"], second["likelihood"]) == ("likely", [1, 10], "open")
    assert first["decides"] == "sudo kleaktrace run --repeat 5 -- sh -c 'modprobe leaky && rmmod leaky'"
    assert first["source_command"] == "scripts/faddr2line leaky.ko leak_init+0x44/0xf0"
    assert document["modules"] == [
        {"module": "leaky", "origin": "module", "objects": 2, "bytes": 256},
        {"module": "nf_tables", "origin": "module", "objects": 1, "bytes": 8},
    ]
    conclusion = document["conclusion"]
    assert (conclusion["likely"], conclusion["open"], conclusion["unlikely"]) == (1, 1, 0)
    assert conclusion["decides"] == first["decides"]


def test_the_screen() -> None:
    assert (
        screen(TWO + OTHER)
        == """\
3 objects, 264 bytes, 2 different backtraces: 1 likely a leak, 1 may be a leak
asked for by: leaky 256 bytes in 2; nf_tables 8 bytes in 1
to decide it: sudo kleaktrace run --repeat 5 -- sh -c 'modprobe leaky && rmmod leaky'

1. likely a leak: 2 objects, 256 bytes, 128 each
   asked for by leak_init+0x44/0xf0 [leaky]
   for: asked for by a module's own code (leaky)
   by "insmod" (pid 762), "insmod" (pid 763); jiffies 4295831244
   holds: nothing but zeros in 32 bytes
     __kmalloc_cache_noprof+0x236/0x290
     leak_init+0x44/0xf0 [leaky]
     0xffffffffc03a204b
   · 1 frame without a name: the module was unloaded before kmemleak printed it; `kleaktrace run` keeps the names
   source line: scripts/faddr2line leaky.ko leak_init+0x44/0xf0

2. may be a leak: 1 object (percpu), 8 bytes
   asked for by counter_clone+0x2c/0x330 [nf_tables]
   for: asked for by a module's own code (nf_tables)
   against: crc 0, all bytes zero: such objects can be listed by their first scan already; scan again
   by "softirq" (pid 0); jiffies 4295831250; at 0x607773052bc0
   holds: nothing but zeros in 8 bytes
     pcpu_alloc_noprof+0x5e0/0xf10
     counter_clone+0x2c/0x330 [nf_tables]
   · a per-CPU object: the address is an offset, one copy of the size exists for every CPU
   · allocated in a softirq: comm and pid do not tell who asked
   source line: scripts/faddr2line nf_tables.ko counter_clone+0x2c/0x330
   to decide it: sudo kleaktrace run --repeat 5 -- CMD  (CMD: what made it happen)

kmemleak lists no pages, no DMA memory, nothing that is still pointed to:
`kleaktrace run` looks for those. To hide what is known: --known FILE.
"""
    )


@pytest.mark.parametrize(
    ("log", "said"),
    [
        ("kmemleak: Trying to color unknown object at 0xff11000100e918c0 as Black", "no leak by itself"),
        ("kmemleak: Freeing unknown object at 0xff11000100e918c0", "freed twice"),
        ("kmemleak: Found object by alias at 0xffffff80049b5e80", "in the middle of an object"),
        ("kmemleak: Kernel memory leak detector initialized (mem pool available: 15678)", "kmemleak is on"),
        ("kmemleak: Kmemleak disabled without freeing internal data.", "what it had found is still"),
        ("bash: echo: write error: Operation not permitted", "kmemleak=on"),
        ("cat: /sys/kernel/debug/kmemleak: Device or resource busy", "kleaktrace doctor"),
        ("cat: /sys/kernel/debug/kmemleak: No such file or directory", "mount -t debugfs"),
        ("  backtrace:\n    drv_probe+0x1/0x2 [drv]\n    really_probe+0x1/0x2", "first line is missing"),
    ],
)
def test_nothing_of_kmemleak_is_left_without_an_answer(log: str, said: str) -> None:
    result = run(f"{log}\n")
    assert (result.exit_code, said in result.output) == (0, True), result.output
    validated(json.loads(run(f"{log}\n", "--json").output))


def test_counts_of_several_scans_add_up() -> None:
    log = "".join(f"[  {at}.0] kmemleak: {n} new suspected memory leaks\n" for at, n in ((100, 3), (700, 4)))
    assert "7 new suspected memory leaks" in run(log).output
    assert json.loads(run(log, "--json").output)["conclusion"]["new_suspects"] == 7


def test_objects_that_the_log_only_counts_are_bytes_too() -> None:
    assert "6 objects, 768 bytes" in run(f"{REPORT}  ... and 5 more object(s) with the same backtrace\n").output


def test_what_was_found_before_kmemleak_went_off() -> None:
    log = (
        "[  812.5] kmemleak: Cannot allocate a kmemleak_object structure\n"
        "[  812.6] kmemleak: Kernel memory leak detector disabled\n"
    )
    assert "is lost" in run(log).output
    kept = run(f"{log}[  812.7] kmemleak: Kmemleak disabled without freeing internal data.\n").output
    assert "is lost" not in kept
    assert "what it had found is still in" in kept


def test_each_error_of_a_shell_has_its_own_cause() -> None:
    session = (
        "bash: echo: write error: Operation not permitted\n"
        "cat: /sys/kernel/debug/kmemleak: No such file or directory\n"
        "bash: echo: write error: Operation not permitted\n"
    )
    output = run(session).output
    assert "line 1: kmemleak is off: it takes no commands" in output
    assert "the same in line 3" in output
    assert "line 2: debugfs is not mounted, or this kernel has no kmemleak" in output


def test_a_message_that_is_not_known_is_shown() -> None:
    log = "[    1.0] kmemleak: Some brand new message\n"
    assert "Some brand new message: a message of kmemleak's that is not known" in run(log).output
    (message,) = validated(json.loads(run(log, "--json").output))["messages"]
    assert (message["text"], message["meaning"]) == ("Some brand new message", None)


def test_a_pool_that_is_empty_long_after_boot_was_not_too_small() -> None:
    line = "kmemleak: Memory pool empty, consider increasing CONFIG_DEBUG_KMEMLEAK_MEM_POOL_SIZE\n"
    assert "pool was too small" in run(f"[    0.1] {line}").output
    assert "the machine had no memory" in run(f"[ 8123.1] {line}").output


def test_a_detector_that_is_disabled_at_boot_was_never_on() -> None:
    assert "off from the start" in run("[    0.056279] kmemleak: Kernel memory leak detector disabled\n").output


def test_a_pid_that_the_text_does_not_tell_is_null() -> None:
    damaged = REPORT.replace('"insmod", pid 762, jiffies 4295831244', '"insmod"')
    (one,) = validated(json.loads(run(damaged, "--json").output))["objects"]
    assert (one["comm"], one["pid"], one["jiffies"]) == ("insmod", None, None)
    assert "pid not told" in run(damaged).output


def test_a_task_that_the_text_does_not_tell() -> None:
    heads = REPORT[: REPORT.index("  comm")] + OTHER[: OTHER.index("  comm")].replace("(percpu) ", "")
    output = run(heads + REPORT[REPORT.index("  comm") :] + OTHER[OTHER.index("  comm") :]).output
    assert "by a task that is not told" in output
    assert "came into each other" in output


def test_whose_code_asked_may_not_be_told() -> None:
    text = REPORT[: REPORT.index("  backtrace")]
    assert "asked for by: not told 128 bytes in 1" in run(text).output
    document = validated(json.loads(run(text, "--json").output))
    assert document["modules"] == [{"module": None, "origin": "not told", "objects": 1, "bytes": 128}]


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
    assert all("pool was too small" in message["meaning"] for message in document["messages"])


def test_a_log_that_only_counts_suspects() -> None:
    result = run("[  99.1] kmemleak: 7 new suspected memory leaks (see /sys/kernel/debug/kmemleak)\n")
    assert result.exit_code == 0
    assert "the report is in /sys/kernel/debug/kmemleak" in result.output
    assert "`sudo kleaktrace confirm`" in result.output


@pytest.mark.parametrize("text", ["", "nothing of interest\n", b"\x7fELF\x02\x01\x00\xff\xfe" * 100])
def test_a_text_without_kmemleak_is_refused(text: str | bytes) -> None:
    result = run(text, "--json")
    assert result.exit_code == 2
    document, end = json.JSONDecoder().raw_decode(result.output)
    assert validated(document)["problems"][0]["what"] == "nothing of kmemleak in this text"
    assert "`sudo cat /sys/kernel/debug/kmemleak > FILE`" in result.output[end:]


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


def test_objects_that_point_to_others() -> None:
    owner = REPORT.replace("00 00 00 00 00 00 00 00  ....", "c0 2b 05 73 77 60 00 00  .+.s", 1)
    document = validated(json.loads(run(owner + OTHER, "--json").output))
    assert [one["points_to"] for one in document["objects"]] == [["0x607773052bc0"], []]
    output = run(owner + OTHER).output
    assert "points to 0x607773052bc0 of this text: mend this one first" in output
    assert "0xffff888003692380 of this text points to it: mend that first" in output


def test_a_mail_in_base64() -> None:
    mail = b"Subject: leak\nContent-Transfer-Encoding: base64\n\n" + base64.encodebytes(REPORT.encode())
    assert "1 object, 128 bytes" in run(mail).output


def test_a_log_that_is_kept_in_gzip(monkeypatch: pytest.MonkeyPatch) -> None:
    packed = gzip.compress(REPORT.encode())
    assert run(packed).output == run(REPORT).output
    assert isinstance(run(packed[:-20]).exception, UsageError)
    monkeypatch.setattr(module, "MAX_BYTES", 100)
    assert "longer than" in str(run(gzip.compress(bytes(1000))).exception)


@pytest.mark.parametrize(
    ("compress", "program"), [(lzma.compress, "xzcat"), (bz2.compress, "bzcat")], ids=["xz", "bzip2"]
)
def test_what_else_is_compressed_is_told(compress: Callable[[bytes], bytes], program: str) -> None:
    error = run(compress(REPORT.encode())).exception
    assert isinstance(error, UsageError)
    assert error.fix == f"{program} - | kleaktrace explain -"


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    result = CliRunner().invoke(explain, [str(tmp_path / "none")])
    assert isinstance(result.exception, UsageError)


def test_a_file_without_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_BYTES", 100)
    assert isinstance(run(REPORT).exception, UsageError)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> DebugBuild:
    if shutil.which("gcc") is None:
        pytest.skip("there is no gcc")
    return build(tmp_path_factory.mktemp("debug"))


def of_the_driver(built: DebugBuild) -> str:
    frames = ["__kmalloc_cache_noprof+0x236/0x290", built.probe, built.initcall]
    return REPORT[: REPORT.index("    __kmalloc")] + "".join(f"    {frame}\n" for frame in frames)


def test_source_lines_of_a_report_from_anywhere(built: DebugBuild) -> None:
    result = run(of_the_driver(built), "--debug-dir", str(built.directory))
    lines = [line.strip() for line in result.output.splitlines()]
    at = lines.index(f"{built.probe}  drivers/drv.c:{line_of(DRIVER, 'drv_probe')}")
    assert lines[at - 1] == f"drv_get  drivers/drv.h:{line_of(HEADER, 'drv_get')} (inlined)"
    assert lines[at + 1] == f"{built.initcall}  init/main.c:{line_of(MAIN, 'do_one_initcall')}"
    assert "__kmalloc_cache_noprof+0x236/0x290" in lines, "no source line"
    assert not any("faddr2line" in line for line in lines)


def test_source_lines_in_the_document(built: DebugBuild) -> None:
    document = validated(json.loads(run(of_the_driver(built), "--json", "--debug-dir", str(built.directory)).output))
    (one,) = document["objects"]
    assert [[line["function"] for line in lines] for lines in one["source_lines"]] == [
        [],
        ["drv_get", "drv_probe"],
        ["do_one_initcall"],
    ]
    assert "source_lines" not in validated(json.loads(run(of_the_driver(built), "--json").output))["objects"][0]


def test_a_module_of_which_there_is_no_file_is_told(built: DebugBuild) -> None:
    result = run(REPORT, "--debug-dir", str(built.directory))
    assert "no source lines for leaky: give the directory of a leaky.ko" in result.output
    assert "faddr2line" in result.output


def test_what_is_known_is_told_apart(tmp_path: Path) -> None:
    report, known = tmp_path / "report.txt", tmp_path / "known.txt"
    report.write_text(TWO + OTHER)
    known.write_text("leak_init [leaky]\nmended\n")
    told = CliRunner().invoke(explain, ["--known", str(known), str(report)])
    assert told.exit_code == 0
    assert told.output.startswith("1 object, 8 bytes, 1 backtrace")
    assert f"known, not counted: leak_init [leaky]: 2 objects, 256 B ({known}, line 1)" in told.output
    assert f"known: mended: nothing of it this time ({known}, line 2)" in told.output
    document = validated(json.loads(CliRunner().invoke(explain, ["--json", "--known", str(known), str(report)]).output))
    assert (len(document["objects"]), document["conclusion"]["objects"]) == (3, 1)
    assert [(one["line"], one["objects"], one["bytes"]) for one in document["known"]] == [(1, 2, 256), (2, 0, 0)]


def test_what_an_interrupt_came_upon_is_not_known(tmp_path: Path) -> None:
    report, known = tmp_path / "report.txt", tmp_path / "known.txt"
    interrupted = "    asm_sysvec_apic_timer_interrupt+0x16/0x20\n    known_leak+0x1/0x2\n"
    report.write_text(REPORT + interrupted)
    known.write_text("known_leak\n")
    assert "asked for by leak_init" in CliRunner().invoke(explain, ["--known", str(known), str(report)]).output


def test_a_bad_file_of_known_leaks_is_refused_by_its_line(tmp_path: Path) -> None:
    known = tmp_path / "known.txt"
    known.write_text("fine\n*\n")
    refused = CliRunner().invoke(explain, ["--known", str(known), "-"])
    assert isinstance(refused.exception, UsageError)
    assert refused.exception.what == f"{known}, line 2: '*' would hide everything"
    known.write_bytes(b"\xef\xbb\xbfkstrdup\r\n" + b"\x1b\xff" * 100)
    refused = CliRunner().invoke(explain, ["--known", str(known), "-"])
    assert isinstance(refused.exception, UsageError)
    assert refused.exception.what.startswith(f"{known}, line 2: no function is named by '\\x1b")
    assert len(refused.exception.what) < len(str(known)) + 150
    missing = CliRunner().invoke(explain, ["--known", str(tmp_path / "none"), "-"])
    assert isinstance(missing.exception, UsageError)
