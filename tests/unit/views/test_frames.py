# SPDX-License-Identifier: GPL-2.0-or-later
"""Frames with source lines, in everything that shows frames."""

from __future__ import annotations

import gzip
import io
import json
from dataclasses import replace

import pytest
from packed_tables import unpacked
from recordings import one_leak
from reports import growing_stack
from rich.console import Console
from schemas import validated

from kleaktrace.core.kmemleak.report_parser import parse
from kleaktrace.core.recording import Recording
from kleaktrace.core.report import Report
from kleaktrace.core.source_lines.source_lines import SourceLine, SourceLines
from kleaktrace.core.tables.stack_rows import stack_rows
from kleaktrace.views.documents.report import document
from kleaktrace.views.exports import jsonl, pprof, speedscope
from kleaktrace.views.exports.material import Material, frames_of
from kleaktrace.views.html.page import page
from kleaktrace.views.terminal.frames import frame_lines
from kleaktrace.views.terminal.mail import mail
from kleaktrace.views.terminal.report import show

PROBE = "drv_probe+0x22/0x100 [drv]"
LINES = SourceLines(
    {PROBE: (SourceLine("drv_get", "drivers/drv.h", 6, True), SourceLine("drv_probe", "drivers/drv.c", 12))},
    ["no source lines for the kernel: give the directory"],
)
EVIL = "</pre><script>alert(1)</script>\x1b[2J\u202e"


def leak(lines: SourceLines = LINES) -> tuple[Recording, Report]:
    recording, report = one_leak()
    recording.names.build_ids.update({"": "aa" * 20, "drv": "bb" * 20, "other": "cc" * 20})
    return recording, replace(report, source_lines=lines, build_ids=recording.names.build_ids)


def hostile() -> tuple[Recording, Report]:
    return leak(SourceLines({PROBE: (SourceLine(EVIL, EVIL, 1, True), SourceLine("f", EVIL, 2))}, [EVIL]))


def shown(report: Report) -> str:
    console = Console(file=io.StringIO(), width=200)
    show(console, report)
    return console.file.getvalue()  # type: ignore[attr-defined]


def made(recording: Recording, report: Report) -> Material:
    return Material(report, stack_rows(recording, report))


def test_inlined_functions_come_before_the_frame() -> None:
    assert [*frame_lines(PROBE, LINES)] == [
        "drv_get  drivers/drv.h:6 (inlined)",
        f"{PROBE}  drivers/drv.c:12",
    ]
    assert [*frame_lines("kthread+0x1/0x2", LINES)] == ["kthread+0x1/0x2"]


def test_the_report_shows_them_and_what_is_missing() -> None:
    text = shown(leak()[1])
    assert (
        "      drv_get  drivers/drv.h:6 (inlined)\n"
        "      drv_probe+0x22/0x100 [drv]  drivers/drv.c:12\n"
        "      do_one_initcall+0x22/0x1000\n"
    ) in text
    assert "\nno source lines for the kernel: give the directory\n" in text


def test_growing_stacks_have_them() -> None:
    one = growing_stack()
    frame = one.lines()[0]
    lines = SourceLines({frame: (SourceLine("f", "mm/f.c", 3),)})
    recording, report = leak(lines)
    report = replace(report, growing=[one])
    assert f"      {frame}  mm/f.c:3\n" in shown(report)
    assert f"    {frame}  mm/f.c:3\n" in mail(recording, report)
    assert f"{frame}  mm/f.c:3" in page(recording, report)


def test_the_mail_has_them_as_kmemleak_s_readers_know_them() -> None:
    text = mail(*leak())
    assert (
        "  backtrace:\n"
        "    drv_get  drivers/drv.h:6 [inline]\n"
        "    drv_probe+0x22/0x100 [drv]  drivers/drv.c:12\n"
        "    do_one_initcall+0x22/0x1000\n"
    ) in text
    (object_,) = parse(text).objects
    assert [(frame.symbol, frame.source, frame.inline) for frame in object_.frames] == [
        ("drv_get", "drivers/drv.h:6", True),
        ("drv_probe", "drivers/drv.c:12", False),
        ("do_one_initcall", None, False),
    ]


def test_the_mail_has_the_build_ids_of_what_it_tells_of() -> None:
    text = mail(*leak())
    assert f"Build id: {'aa' * 20} vmlinux\nBuild id: {'bb' * 20} drv\n" in text
    assert "cc" * 20 not in text


def test_the_document_has_them_beside_the_stack() -> None:
    recording, report = leak()
    told = validated(json.loads(json.dumps(document(report))))
    inlined = {"function": "drv_get", "file": "drivers/drv.h", "line": 6, "inlined": True}
    own = {"function": "drv_probe", "file": "drivers/drv.c", "line": 12, "inlined": False}
    (suspect,) = told["suspects"]
    assert suspect["source_lines"] == [[inlined, own], []]
    assert suspect["stack"] == [PROBE, "do_one_initcall+0x22/0x1000"]
    assert told["leaks"][0]["source_lines"] == [[inlined, own], []]
    assert [one["source_lines"] for one in told["outstanding"] if PROBE in one["stack"]] == [[[inlined, own], []]]
    assert told["source_lines_missing"] == list(LINES.missing)
    assert told["build_ids"] == {"kernel": "aa" * 20, "modules": {"drv": "bb" * 20, "other": "cc" * 20}}
    lines = [json.loads(line) for line in jsonl.export(made(recording, report)).splitlines()]
    (stack,) = [line for line in lines if line["type"] == "stack" and PROBE in line["stack"]]
    assert stack["source_lines"] == [[inlined, own], []]


def test_without_any_the_document_has_no_such_field() -> None:
    told = validated(document(one_leak()[1]))
    assert not any("source_lines" in one for one in (*told["suspects"], *told["outstanding"], *told["leaks"]))


def test_the_page_has_them_in_its_cards_and_its_data() -> None:
    recording, report = leak()
    text = page(recording, report)
    assert "drv_get  drivers/drv.h:6 (inlined)\ndrv_probe+0x22/0x100 [drv]  drivers/drv.c:12\ndo_one" in text
    assert "No source lines for the kernel: give the directory." in text
    data = unpacked(text.partition('id="stack-data">')[2].partition("<")[0])
    assert sorted(data["frame_sources"])[-2:] == [0, 2]
    assert [data["strings"][number] for number in data["source"]] == [
        "drv_get  drivers/drv.h:6 (inlined)",
        "drivers/drv.c:12",
    ]


def test_speedscope_has_inlined_functions_as_frames() -> None:
    recording, report = leak()
    told = json.loads(speedscope.export(made(recording, report)))
    frames = told["shared"]["frames"]
    samples = [[frames[place] for place in sample] for sample in told["profiles"][0]["samples"]]
    assert [sample for sample in samples if len(sample) == 3] == [
        [
            {"name": "do_one_initcall", "file": "[kernel.kallsyms]"},
            {"name": "drv_probe [drv]", "file": "drivers/drv.c"},
            {"name": "drv_get [drv]", "file": "drivers/drv.h"},
        ]
    ]


def test_pprof_has_them_as_lines_of_a_location() -> None:
    profile = gzip.decompress(pprof.export(made(*leak())))
    for text in (b"drivers/drv.h", b"drivers/drv.c", b"drv_get [drv]"):
        assert text in profile


def test_exports_ask_for_all_frames() -> None:
    assert frames_of(made(*leak())) >= {PROBE, "do_one_initcall+0x22/0x1000"}


@pytest.mark.parametrize("view", [lambda r: shown(r[1]), lambda r: mail(*r), lambda r: page(*r)])
def test_nothing_from_a_file_is_shown_raw(view: object) -> None:
    text = view(hostile())  # type: ignore[operator]
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "<script>alert" not in text or "<!doctype" not in text
    assert "alert(1)" in text
    exported = speedscope.export(made(*hostile()))
    assert "\\u001b" not in exported
