# SPDX-License-Identifier: GPL-2.0-or-later
"""The programs that read our files. Each function takes a file and returns what the program understood."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

PROJECT = Path(__file__).resolve().parents[2]
SPEEDSCOPE = PROJECT / ".venv" / "speedscope" / "dist" / "release" / "index.html"
Written = Callable[[str, str], Path]
"""What the fixture `written` gives."""

_SET_UP = "run tools/setup.sh dev"


def run(*command: str | Path, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """The program's exit status, output and errors."""
    environment = {**os.environ, **(env or {})}
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, env=environment)


def pprof(profile: Path, *options: str) -> str:
    """What `go tool pprof` prints of a profile."""
    go = shutil.which("go")
    if go is None:
        pytest.skip(f"there is no go: {_SET_UP}")
    home = str(profile.parent)  # where it would keep copies of what it fetches
    done = run(go, "tool", "pprof", *options, profile, env={"PPROF_TMPDIR": home, "HOME": home})
    assert done.returncode == 0, done.stderr
    return done.stdout


def pprof_top(profile: Path, *options: str) -> dict[str, tuple[str, str]]:
    """The rows of its table: function, its own, and that with what its callees have. Counts are shown as bytes."""
    lines = pprof(profile, "-top", "-unit=B", *options).splitlines()
    head = next(number for number, line in enumerate(lines) if line.split()[:1] == ["flat"])
    rows = (line.split(maxsplit=5) for line in lines[head + 1 :])
    return {name: (flat, cumulated) for flat, _, _, cumulated, _, name in rows}


def kunit(results: Path) -> tuple[int, dict[str, str]]:
    """The exit status of `kunit.py parse`, and the status of each case."""
    told = results.with_suffix(".kunit.json")
    program = _kunit_directory() / "kunit.py"
    done = run(sys.executable, "-B", program, "parse", f"--json={told}", results)
    assert "[ERROR]" not in done.stdout, done.stdout
    assert told.exists(), done.stderr
    (suite,) = json.loads(told.read_text())["sub_groups"]
    return done.returncode, {case["name"]: case["status"] for case in suite["test_cases"]}


@cache
def _kunit_directory() -> Path:
    """Where kunit.py is: in a tree that a guest's kernel was built in, or unpacked from Debian's source now."""
    caches = [Path(os.environ.get("XDG_CACHE_HOME") or "/var/cache"), Path("~/.cache").expanduser()]
    built = [found for cache in caches for found in cache.glob("kleaktrace/guest-*/linux/tools/testing/kunit/kunit.py")]
    if built:
        return sorted(built)[-1].parent
    sources = sorted(Path("/usr/src").glob("linux-source-6*.tar.xz"))
    if not sources:
        pytest.skip("no source of a kernel is here: tools/guest --build-dir gets it")
    home = PROJECT / ".venv" / "kunit"
    if not list(home.glob("*/tools/testing/kunit/kunit.py")):
        home.mkdir(exist_ok=True)
        done = run("tar", "-xJf", sources[-1], "-C", home, "--wildcards", "*/tools/testing/kunit/*.py")
        assert done.returncode == 0, done.stderr
    return next(home.glob("*/tools/testing/kunit"))


class _Texts(HTMLParser):
    """The texts of a page, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.found.append(data.strip())


def speedscope(profile: Path) -> tuple[dict[str, str], dict[str, tuple[str, str]]]:
    """What speedscope shows of a file: its profiles and their weights, and of the first one the table of functions.

    Of a function, the weight with all that it calls, and its own.
    """
    if not SPEEDSCOPE.exists():
        pytest.skip(f"speedscope is not here: {_SET_UP}, on a machine with npm")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip(f"there is no chromium: {_SET_UP}")
    # As speedscope's own command line does it (bin/cli.mjs).
    loader = profile.with_suffix(".js")
    content = base64.b64encode(profile.read_bytes()).decode()
    loader.write_text(f"speedscope.loadFileFromBase64({json.dumps(profile.name)}, {json.dumps(content)})")
    done = run(
        chromium,
        *("--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files", "--enable-logging=stderr"),
        *("--virtual-time-budget=20000", f"--user-data-dir={profile.with_suffix('.chromium')}", "--dump-dom"),
        f"file://{SPEEDSCOPE}#localProfilePath={loader}&view=sandwich",
    )
    assert done.returncode == 0, done.stderr
    assert not re.search(r"ERROR:CONSOLE|Uncaught", done.stderr), done.stderr
    assert "import: " in done.stderr, "speedscope says how long its import took"
    texts = _Texts()
    texts.feed(done.stdout)
    return _profiles(texts.found), _functions(texts.found)


def _profiles(texts: list[str]) -> dict[str, str]:
    """Number, name, weight; number, name, weight; … up to the buttons. Of a single profile there is no such list."""
    if "Total Weight" not in texts:
        return {}
    found = texts[texts.index("Total Weight") + 1 :]
    return {found[place + 1]: found[place + 2] for place in range(0, len(found), 3) if found[place].isdigit()}


def _functions(texts: list[str]) -> dict[str, tuple[str, str]]:
    """Total, own, name; total, own, name; …"""
    cells = texts[texts.index("Symbol Name") + 1 :]
    if cells == ["No symbols found."]:
        return {}
    assert len(cells) % 3 == 0, cells
    rows = (cells[place : place + 3] for place in range(0, len(cells), 3))
    return {name: (total.partition(" (")[0], own.partition(" (")[0]) for total, own, name in rows}


def exposition(text: str) -> dict[str, Any]:
    """The metric families of an OpenMetrics text, by name, as prometheus_client's strict parser has them."""
    from prometheus_client.openmetrics.parser import text_string_to_metric_families

    return {family.name: family for family in text_string_to_metric_families(text)}
