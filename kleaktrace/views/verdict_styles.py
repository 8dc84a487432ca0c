# SPDX-License-Identifier: GPL-2.0-or-later
"""How verdicts look on terminals: the same in reports as on the screen of trace."""

from __future__ import annotations

from kleaktrace.core.evidence.evidence import Verdict

VERDICT_STYLES = {Verdict.CONFIRMED: "bold red", Verdict.UNDECIDED: "yellow", Verdict.DISMISSED: "green"}
"""A style of rich for each."""
