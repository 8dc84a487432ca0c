# SPDX-License-Identifier: GPL-2.0-or-later
"""In the guest: loads, uses and unloads modules, round by round, under kleaktrace.

    python -m crowd_lib.worker DIRECTORY

DIRECTORY/plan.json is a list of groups of module names. Leaves DIRECTORY/N.json and N.txt for the N-th, and N.failed:
lines `MODULE REASON`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROUNDS = 6
ROUND = Path(__file__).with_name("one_round.py")


def main() -> None:
    """Run all groups of the plan that have no result yet: the guest may have died of one before."""
    directory = Path(sys.argv[1])
    for number, names in enumerate(json.loads((directory / "plan.json").read_text())):
        document = directory / f"{number}.json"
        if document.exists():
            continue
        print(f"crowd: {', '.join(names)}", file=sys.stderr, flush=True)
        document.touch()
        command = [sys.executable, "-m", "kleaktrace", "run", "--repeat", str(ROUNDS), "--json", str(document), "--"]
        command += [sys.executable, "-IS", str(ROUND), str(directory / f"{number}.failed"), *names]
        with (directory / f"{number}.txt").open("w") as log:
            subprocess.run(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=False)


if __name__ == "__main__":
    main()
