# SPDX-License-Identifier: GPL-2.0-or-later
"""The report as one HTML file: verdicts as plain HTML, the call stacks as packed data that its scripts draw.

Nothing is fetched. The page's own policy allows the scripts and styles that are in it by their hashes, and no others:
whatever a task or module is called, it runs nothing.
"""

from __future__ import annotations

import base64
import hashlib
from enum import StrEnum
from importlib.resources import files

from kleaktrace import __version__
from kleaktrace.core.overview.stack_details import stack_details
from kleaktrace.core.overview.stack_overview import stack_overview
from kleaktrace.core.recording import Recording
from kleaktrace.core.report import Report
from kleaktrace.views.html.markup import Html, element, joined, text
from kleaktrace.views.html.stack_data import MOST_DETAILED, stack_data
from kleaktrace.views.html.verdicts import answer, evidence, verdicts

_COMMON = (
    "format.js",
    "dom.js",
    "unpack.js",
    "stacks.js",
    "call_trees.js",
    "flame_graph.js",
    "charts.js",
    "stack_table.js",
    "stack_panel.js",
)
"""In the order in which they use each other. They share one scope, as if they were one file."""

STYLES = ("page.css", "charts.css")


class Mode(StrEnum):
    """What a page is about: one recording, or two."""

    REPORT = "report"
    COMPARISON = "comparison"

    @property
    def scripts(self) -> tuple[str, ...]:
        """All scripts of the page."""
        return (*_COMMON, f"{self}_mode.js", "stack_page.js")


_TITLES = {Mode.REPORT: "Outstanding memory", Mode.COMPARISON: "What has changed"}
_TIMELINE = """<h2 id="timeline-title">Over time</h2>
<div id="timeline"></div>
"""


def page(recording: Recording, report: Report) -> str:
    """The whole file. `report` is that of the recording."""
    overview = stack_overview(recording, report)
    details = stack_details(recording, overview.keys[:MOST_DETAILED])
    packed = stack_data(overview, details, recording.seconds, report.source_lines)
    data = Html(packed)  # base64 has nothing to escape
    body = [answer(report), verdicts(report, overview), stacks_section(Mode.REPORT), evidence(report)]
    return html_file(Mode.REPORT, f"kleaktrace: {report.outcome}, Linux {report.kernel.release}", data, body)


def stacks_section(mode: Mode) -> Html:
    """The part of a page that its scripts fill."""
    section = _read("stacks.html").replace("<!-- title -->", _TITLES[mode])
    return Html(section.replace("<!-- timeline -->\n", _TIMELINE if mode is Mode.REPORT else ""))


def html_file(mode: Mode, title: str, data: Html, body: list[Html]) -> str:
    """A file of this title, with packed data for its scripts."""
    script, style = _script(mode), _joined(STYLES)
    policy = f"default-src 'none'; img-src data:; script-src {_hash(script)}; style-src {_hash(style)}"
    head = [
        Html('<meta charset="utf-8">'),
        Html(f'<meta http-equiv="Content-Security-Policy" content="{text(policy)}">'),
        Html('<meta name="viewport" content="width=device-width, initial-scale=1">'),
        Html('<meta name="color-scheme" content="light dark">'),
        Html('<link rel="icon" href="data:,">'),
        element("title", title),
        element("style", Html(style)),
    ]
    parts = [
        element("main", *body, class_=str(mode)),
        element("footer", f"Made by kleaktrace {__version__}."),
        element("script", data, type="text/plain", id="stack-data"),
        element("script", Html(script)),
    ]
    return f'<!doctype html>\n<html lang="en">{element("head", *head)}{element("body", joined(parts))}</html>\n'


def _script(mode: Mode) -> str:
    return f'"use strict";\n(() => {{\n{_joined(mode.scripts)}\n}})();\n'


def _joined(names: tuple[str, ...]) -> str:
    return "\n".join(map(_read, names))


def _read(name: str) -> str:
    return (files("kleaktrace.views.html") / name).read_text("utf-8")


def _hash(content: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"
