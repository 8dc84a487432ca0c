# SPDX-License-Identifier: GPL-2.0-or-later
"""The doctor's findings: one line each, the fix below."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from kleaktrace.core.doctor_checks import Check, Health, first_step
from kleaktrace.terminal import clean
from kleaktrace.views.terminal.console import print_line

_STYLES = {Health.OK: "green", Health.MISSING: "yellow", Health.BROKEN: "bold red"}


def show(console: Console, checks: Sequence[Check]) -> None:
    """A line or more for each check, and what it all means."""
    width = max(len(check.name) for check in checks)
    for check in checks:
        first, *more = check.found.split("\n")
        line = Text(f"{check.health:8}", style=_STYLES[check.health])
        line.append(f"{check.name:{width}}  {clean(first)}", style="default")
        print_line(console, line, hanging=8 + width + 2)
        indent = " " * (8 + width + 2)
        for text in more:
            print_line(console, f"{indent}{text}", "dim")
        if check.fix:
            print_line(console, f"{indent}fix: {check.fix}", "bold")
    console.print()
    print_line(console, _summary(checks))
    step = first_step(checks)
    if step is not None:
        by_itself = " (kleaktrace doctor --fix does it)" if step.mount else ""
        print_line(console, f"To do first, for {step.name.removeprefix('probe: ')}: {step.fix}{by_itself}", "bold")


def _summary(checks: Sequence[Check]) -> str:
    broken = [check.name for check in checks if check.health is Health.BROKEN]
    if broken:
        return f"Tracing does not work here: {', '.join(broken)}."
    missing = [check.name.removeprefix("probe: ") for check in checks if check.health is Health.MISSING]
    return f"Tracing works here. Missing: {', '.join(missing)}." if missing else "Everything works here."
