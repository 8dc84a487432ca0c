# SPDX-License-Identifier: GPL-2.0-or-later
"""The page's text, by a parser of ours; what a browser makes of it is in tests/browser."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import replace
from importlib.resources import files

import pytest
from html_reader import Reader
from packed_tables import unpacked
from recordings import CASES, HOSTILE, hostile, nothing, one_leak
from reports import growing_stack, judged

from kleaktrace.core.events.coverage import Coverage
from kleaktrace.core.evidence.evidence import Verdict
from kleaktrace.core.report import CommandResult, Outcome
from kleaktrace.terminal import clean
from kleaktrace.views.html.markup import Html, element, text
from kleaktrace.views.html.page import STYLES, Mode, page


@pytest.mark.parametrize("case", CASES)
def test_it_is_one_file_that_asks_nobody(case: str) -> None:
    document = page(*CASES[case]())
    read = Reader(document)
    assert {name for name, _ in read.elements} & {"img", "iframe", "object", "embed", "base"} == set()
    for _, attributes in read.elements:
        assert not [name for name in attributes if name.startswith("on") or name == "style"]
        assert attributes.get("src") is None
        assert attributes.get("href", "data:,") == "data:,"
    assert re.findall(r"https?://[^\"'\s]+", document) == ["http://www.w3.org/2000/svg"]


@pytest.mark.parametrize("case", CASES)
def test_its_policy_allows_what_is_in_it_and_nothing_else(case: str) -> None:
    read = Reader(page(*CASES[case]()))
    (policy,) = [a["content"] for n, a in read.elements if a.get("http-equiv") == "Content-Security-Policy"]
    data, script = read.inside["script"]
    (style,) = read.inside["style"]
    hashes = [base64.b64encode(hashlib.sha256(part.encode()).digest()).decode() for part in (script, style)]
    assert policy == (
        f"default-src 'none'; img-src data:; script-src 'sha256-{hashes[0]}'; style-src 'sha256-{hashes[1]}'"
    )
    assert unpacked(data)["measures"][0]["name"] == "bytes"


def test_a_leak_with_its_evidence() -> None:
    words = Reader(page(*one_leak())).text
    for wanted in (
        "1 leaked object, 128 B, from 1 call stack",
        "Linux 6.12.0-made-up x86_64",
        "Confirmed",
        "drv_probe [drv]",
        "not freed, and nothing has pointed to it in 2 scans",
        "same call stack: 5 of 6 freed at drv_free+0x22/0xe00 [drv], median after 500 ms; 1 outstanding (128 B)",
        "drv_free+0x22/0xe00 [drv]: 5",
        "paths after drv_probe that do not reach the free in drv_free",
        "drv_probe+0x22/0x100 [drv]\ndo_one_initcall+0x22/0x1000",
        "ab3001651563cb7b",
    ):
        assert wanted in words
    assert "Undecided" not in words


def test_every_kind_of_verdict() -> None:
    recording, report = one_leak()
    suspects = [
        *report.suspects,
        judged(verdict=Verdict.UNDECIDED, reason="2 events were lost"),
        judged(verdict=Verdict.DISMISSED, reason="freed later"),
        judged(verdict=Verdict.UNDECIDED, reason="a dentry", counts_against_clean=False),
    ]
    report = replace(
        report,
        suspects=suspects,
        growing=[growing_stack()],
        gaps=["a gap"],
        coverage=[Coverage("vfree", None, "vmalloc frees are not seen")],
        command=CommandResult(("insmod", "<drv>"), 3, runs=2),
    )
    words = Reader(page(recording, report)).text
    assert "2 events were lost" in words.partition("Undecided")[2]
    assert "+1.2 KiB/s" in words.partition("Growing")[2]
    assert "a dentry" in words.partition("Kept on purpose")[2]
    assert "freed later" in words.partition("Dismissed")[2]
    assert "Evidence incomplete: a gap" in words
    assert "vmalloc frees are not seen" in words
    assert "insmod <drv>" in words
    assert "run 2 times, failed: exit status 3" in words


def test_clean_and_incomplete() -> None:
    recording, report = nothing()
    assert "Clean: nothing leaked" in Reader(page(recording, report)).text
    report = replace(report, outcome=Outcome.INCOMPLETE, gaps=["kmemleak was off"])
    assert "Incomplete: nothing is confirmed, but not everything could be seen" in Reader(page(recording, report)).text


def test_hostile_names_are_text() -> None:
    document = page(*hostile())
    read = Reader(document)
    assert len(read.inside["script"]) == 2
    assert all(c.isprintable() or c == "\n" for c in document)
    for name in HOSTILE:
        assert f"{clean(name)}+0x2/0x100" in read.text
    assert {clean(name) for name in HOSTILE} < set(unpacked(read.inside["script"][0])["strings"])


def test_how_many_numbers_there_are() -> None:
    data = unpacked(Reader(page(*one_leak())).inside["script"][0])
    assert data["leaf"] == [1, 3]
    assert data["bytes"] == [128, 4096]
    assert data["suspected"] == [0]
    assert data["curve_steps"] == [1, 0]
    assert data["free_count"] == [5]
    assert [data["strings"][number] for number in data["free_site"]] == ["drv_free+0x22/0xe00 [drv]"]


def test_every_script_and_style_is_used_and_cannot_end_early() -> None:
    here = files("kleaktrace.views.html")
    scripts = {name for mode in Mode for name in mode.scripts}
    assert {path.name for path in here.iterdir() if path.name.endswith((".js", ".css"))} == scripts | {*STYLES}
    for name in (*sorted(scripts), *STYLES):
        content = (here / name).read_text("utf-8")
        assert "SPDX-License-Identifier: GPL-2.0-or-later" in content.splitlines()[0]
        assert not re.search(r"</|<!--|innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", content)


def test_markup_escapes_whatever_is_not_markup() -> None:
    assert element("p", '<b>"\x1b', Html("<i>x</i>"), class_='"&', hidden=False, data_x=1) == (
        '<p class="&quot;&amp;" data-x="1">&lt;b&gt;&quot;\\x1b<i>x</i></p>'
    )
    assert text("a\u202eb") == "a\\u202eb"
