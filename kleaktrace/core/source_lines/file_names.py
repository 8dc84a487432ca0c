# SPDX-License-Identifier: GPL-2.0-or-later
"""Names of source files as people know them: below the kernel's own directory, without the compiler's detours."""

from __future__ import annotations

import posixpath

_LONGEST = 256


def source_root(file: str, below: str) -> str:
    """The directory of all sources, told by one of which it is known where it is below; empty: it can't be told."""
    path = posixpath.normpath(file)
    return path.removesuffix(below) if path.endswith(f"/{below}") else ""


def short_name(file: str, root: str) -> str:
    """The file's name without the root, which ends with a slash; one that is not below it stays whole."""
    path = posixpath.normpath(file) if "/" in file else file
    if root and path.startswith(root):
        path = path[len(root) :]
    return path if len(path) <= _LONGEST else f"…{path[-_LONGEST:]}"
