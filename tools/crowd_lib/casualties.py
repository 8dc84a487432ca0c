# SPDX-License-Identifier: GPL-2.0-or-later
"""What the guest died of: that module is left out, and its companions get another chance."""

from __future__ import annotations

import json
from pathlib import Path


def without_culprit(plan: list[list[str]], directory: Path) -> str | None:
    """Take the module that was being tried when the guest died out of the plan, here and in the directory.

    Its group is to be tried again, and has the module among its failures. None: no module was being tried.
    """
    for number, names in enumerate(plan):
        document, failed = directory / f"{number}.json", directory / f"{number}.failed"
        trying = directory / f"{number}.failed.trying"
        if not document.exists() or document.stat().st_size or not trying.exists():
            continue
        culprit = trying.read_text()
        trying.unlink()
        if culprit in names:
            names.remove(culprit)
            with failed.open("a") as log:
                log.write(f"{culprit} ended the guest, or took too long\n")
            document.unlink()
            (directory / "plan.json").write_text(json.dumps(plan))
            return culprit
    return None
