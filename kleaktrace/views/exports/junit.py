# SPDX-License-Identifier: GPL-2.0-or-later
"""JUnit's XML, in the form that Jenkins and GitLab read (Apache Ant's and Maven Surefire's elements).

XML has no way to write a control character; the cases hold none.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections import Counter
from datetime import UTC

from kleaktrace.terminal import clean
from kleaktrace.views.exports.cases import SUITE, Case, Result, about, cases
from kleaktrace.views.exports.material import Material


def export(material: Material) -> str:
    """Return the document, with an element a line."""
    report, found = material.report, cases(material.report)
    results = Counter(case.result for case in found)
    counts = {
        "tests": str(len(found)),
        "failures": str(results[Result.FAILED]),
        "errors": "0",
        "skipped": str(results[Result.SKIPPED]),
        "time": f"{report.window.seconds:.3f}",
    }
    root = ET.Element("testsuites", {"name": SUITE, **counts})
    started = report.window.start.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="seconds")
    suite = ET.SubElement(root, "testsuite", {"name": SUITE, "timestamp": started, **counts})
    properties = ET.SubElement(suite, "properties")
    for name, value in _properties(material).items():
        ET.SubElement(properties, "property", name=name, value=clean(value))
    for case in found:
        _add(suite, case)
    ET.SubElement(suite, "system-out").text = "\n".join(about(report))
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _properties(material: Material) -> dict[str, str]:
    report = material.report
    return {
        "kernel": report.kernel.release,
        "arch": report.kernel.arch,
        "verdict": str(report.outcome),
        "lost_events": str(report.loss.events),
    }


def _add(suite: ET.Element, case: Case) -> None:
    element = ET.SubElement(suite, "testcase", classname=f"{SUITE}.{case.area}", name=case.name, time="0")
    evidence = "\n".join(case.evidence)
    match case.result:
        case Result.FAILED:
            ET.SubElement(element, "failure", type="leak", message=case.reason).text = evidence
            return
        case Result.SKIPPED:
            ET.SubElement(element, "skipped", message=case.reason)
        case Result.PASSED:
            pass
    if evidence:
        ET.SubElement(element, "system-out").text = evidence
