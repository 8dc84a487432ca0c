# SPDX-License-Identifier: GPL-2.0-or-later
"""Build the manual: HTML in build/docs/html, man pages in build/docs/man. Warnings are errors; no network is needed.

tools/docs            build it
tools/docs --update   first make again what is made from the program: the pages of commands, and the output that
                      pages show of commands that need no root; and keep the man pages in docs/man
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys

from docs_lib import command_pages, shown_output

PROJECT = command_pages.PROJECT
BUILD = PROJECT / "build" / "docs"
KEPT_MAN_PAGES = PROJECT / "docs" / "man"


def main() -> int:
    """Run; the exit status is Sphinx's."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(
        prog="tools/docs", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--update", action="store_true", help="make again what is made from the program")
    update = parser.parse_args().update
    if update:
        for path, text in command_pages.pages().items():
            path.write_text(text)
        for page in shown_output.pages():
            page.write_text(shown_output.renewed(page))
    for builder in ("html", "man"):
        status = _sphinx(builder)
        if status:
            return status
    if update:
        _keep_man_pages()
    print(f"{BUILD / 'html' / 'index.html'}\n{BUILD / 'man' / 'kleaktrace.1'}")
    return 0


def _sphinx(builder: str) -> int:
    # One process: the sources are few. All pages are read each time, so that each warning is told each time.
    options = ["--builder", builder, "--fail-on-warning", "--fresh-env", "--write-all", "--quiet"]
    into = [f"--doctree-dir={BUILD / 'doctrees'}", str(PROJECT / "docs"), str(BUILD / builder)]
    shutil.rmtree(BUILD / builder, ignore_errors=True)
    command = [sys.executable, "-m", "sphinx", *options, *into]
    return subprocess.run(command, env={**os.environ, "NO_COLOR": "1"}, check=False).returncode


def _keep_man_pages() -> None:
    KEPT_MAN_PAGES.mkdir(exist_ok=True)
    made = {path.name: path.read_text() for path in (BUILD / "man").glob("*.1")}
    for path in KEPT_MAN_PAGES.glob("*.1"):
        if path.name not in made:
            path.unlink()
    for name, text in made.items():
        (KEPT_MAN_PAGES / name).write_text(text)


sys.exit(main())
