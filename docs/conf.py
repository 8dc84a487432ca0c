# SPDX-License-Identifier: GPL-2.0-or-later
"""How Sphinx makes the manual: `tools/docs` runs it. The pages are Markdown, and read well without it."""

from __future__ import annotations

import sys
from pathlib import Path

_PROJECT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(_PROJECT), str(_PROJECT / "tools")]

from docs_lib.command_pages import man_pages as _man_pages  # noqa: E402
from docutils import nodes  # noqa: E402
from sphinx.application import Sphinx  # noqa: E402

from kleaktrace import __version__  # noqa: E402

project = "kleaktrace"
release = version = __version__
# Neither names nor dates in what is built: the same sources make the same pages on every day.
author = copyright = ""
html_show_copyright = False
today = " "
html_last_updated_fmt = None

extensions = ["myst_parser"]
myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3
exclude_patterns = ["first-leak/*", "man/*"]
nitpicky = True
smartquotes = False  # of --repeat they would make a dash

html_theme = "furo"
html_title = f"kleaktrace {release}"
html_copy_source = html_show_sourcelink = html_show_sphinx = False
pygments_style, pygments_dark_style = "friendly", "github-dark"

man_pages = _man_pages()
man_show_urls = False


def _without_links(app: Sphinx, page: nodes.document, _: str) -> None:
    """A man page has no links: what they are called is all that is left of them."""
    if app.builder.name == "man":
        for link in list(page.findall(nodes.reference)):
            link.replace_self(link.children)


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("doctree-resolved", _without_links)
