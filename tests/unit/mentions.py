# SPDX-License-Identifier: GPL-2.0-or-later
"""What texts of ours mention: files and names of the program, in docstrings, comments and pages of the manual."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

_PATH = re.compile(r"(?<![\w/.{}*<>~$-])((?:[\w-]+/)*[\w-]+\.(?:py|md|[ch]|cpp|sh|json|toml|config))(?![\w/*])")
_NAME = re.compile(r"(?<![\w./-])(?:kleaktrace\.)?((?:core|edge)(?:\.\w+)+)(?!\w|/)")
_MEMBER = re.compile(r"`(\w+)\.(\w+)(?:\(\))?`")
_WORD = re.compile(r"`(\w*_\w*|[A-Z]+)(?:\(\))?`")
_C_COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)
_SHOWN = re.compile(r"^(?:    |\t).*$|^```.*?^```", re.DOTALL | re.MULTILINE)


def python_texts(source: str) -> Iterator[str]:
    """The comments of Python code, those that stand together as one; and its strings that are statements."""
    lines: list[str] = []
    last = -1
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            if token.start[0] != last + 1:
                yield "\n".join(lines)
                lines = []
            lines.append(token.string.lstrip("# "))
            last = token.start[0]
    yield "\n".join(lines)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node.value.value


def texts(path: Path) -> Iterator[str]:
    """What of a file is written for people: comments, docstrings, and of pages what is not shown output."""
    content = path.read_text()
    if path.suffix == ".py":
        yield from python_texts(content)
    elif path.suffix == ".md":
        yield _SHOWN.sub("", content)
    else:
        yield from _C_COMMENT.findall(content)


def paths(text: str) -> list[str]:
    """The files that a text names, ours and others'."""
    return _PATH.findall(text)


def names(text: str) -> list[str]:
    """The dotted names of core and edge in a text."""
    return _NAME.findall(text)


def members(text: str) -> list[tuple[str, str]]:
    """What is named in backticks as in a module or a class: (module or class, name)."""
    return _MEMBER.findall(text)


def words(text: str) -> list[str]:
    """What is named in backticks by a word that only code has: with underscores, or in capitals."""
    return _WORD.findall(text)


def used_words(path: Path) -> set[str]:
    """All words of a file's code, without its comments and docstrings."""
    content = path.read_text()
    if path.suffix != ".py":
        return set(re.findall(r"\w+", _C_COMMENT.sub("", content)))
    found: set[str] = set()
    for token in tokenize.generate_tokens(io.StringIO(content).readline):
        if token.type == tokenize.NAME or (token.type == tokenize.STRING and "\n" not in token.string):
            found.update(re.findall(r"\w+", token.string))
    return found
