# SPDX-License-Identifier: GPL-2.0-or-later
"""The page of each command in docs/commands, made from what click knows of it; the man pages are made from these.

What is written by hand, examples above all, stands behind a line in the page, and is kept.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import click

from kleaktrace.cli import _COMMANDS, kleaktrace

PROJECT = Path(__file__).resolve().parents[2]
PAGES = PROJECT / "docs" / "commands"
_END = "<!-- Above: made by tools/docs --update from the command itself. Below: written by hand. -->"
_ROOT = click.Context(kleaktrace, info_name="kleaktrace", **kleaktrace.context_settings)
_EXIT = re.compile(r"Exit codes?[^:]*:\s*")


def man_pages() -> list[tuple[str, str, str, str, int]]:
    """What Sphinx's `man_pages` is to be: a page for kleaktrace and one for each of its commands."""
    return [
        (f"commands/{path.stem}", path.stem, _summary(path.stem, command), "", 1)
        for path, command in _commands().items()
    ]


def pages() -> dict[Path, str]:
    """The text that each page should have, by its path."""
    return {path: _page(path, command) for path, command in _commands().items()}


def _commands() -> dict[Path, click.Command]:
    found: dict[Path, click.Command] = {PAGES / "kleaktrace.md": kleaktrace}
    for name in kleaktrace.list_commands(_ROOT):
        command = kleaktrace.get_command(_ROOT, name)
        assert command is not None
        found[PAGES / f"kleaktrace-{name}.md"] = command
    return found


def _page(path: Path, command: click.Command) -> str:
    known = path.read_text() if path.exists() else ""
    by_hand = known.partition(_END)[2] if _END in known else "\n"
    return "\n".join([*_made(path.stem.replace("-", " "), command), _END]) + by_hand


def _made(name: str, command: click.Command) -> Iterator[str]:
    yield f"# {name}\n"
    description, status = _described(command)
    yield "## Synopsis\n"
    yield f"    {_usage(name, command)}\n"
    yield "## Description\n"
    yield from (f"{paragraph}\n" for paragraph in description)
    yield from _options("##", command)
    if isinstance(command, click.Group):
        yield "## Commands\n"
        yield from _subcommands(name, command)
    if status:
        yield "## Exit status\n"
        yield f"{status}\n"


def _subcommands(name: str, group: click.Group) -> Iterator[str]:
    context = click.Context(group, info_name=name, parent=_ROOT)
    for sub in group.list_commands(context):
        command = group.get_command(context, sub)
        assert command is not None
        if group is kleaktrace:
            yield f"[{sub}](kleaktrace-{sub}.md)\n: {_COMMANDS[sub]}\n"
            continue
        description, _ = _described(command)
        yield f"### {name} {sub}\n"
        yield f"    {_usage(f'{name} {sub}', command)}\n"
        yield from (f"{paragraph}\n" for paragraph in description)
        yield from _options("####", command)


def _usage(name: str, command: click.Command) -> str:
    context = click.Context(command, info_name=name, parent=_ROOT)
    return " ".join([name, *command.collect_usage_pieces(context)])


def _options(heading: str, command: click.Command) -> Iterator[str]:
    """What each option does; of subcommands, without those that all have."""
    context = click.Context(command, info_name="", parent=_ROOT)
    options = [option for option in command.get_params(context) if isinstance(option, click.Option)]
    if heading == "####":
        options = [option for option in options if "--help" not in option.opts]
    records = [record for option in options if (record := option.get_help_record(context))]
    if records:
        yield f"{heading} Options\n"
        yield from (f"`{names}`\n: {_escaped(' '.join(words.split()))}\n" for names, words in records)


def _summary(page: str, command: click.Command) -> str:
    """One line without a full stop: what `apropos` shows."""
    words = _COMMANDS.get(page.removeprefix("kleaktrace-")) or _described(command)[0][0]
    return words.replace("`", "").removesuffix(".")


def _described(command: click.Command) -> tuple[list[str], str]:
    """The paragraphs of its help text, and what they say of exit codes."""
    text = inspect.cleandoc(command.help or "").split("\f")[0]
    paragraphs = [_paragraph(part) for part in text.split("\n\n")]
    if command.epilog:
        paragraphs += [_paragraph(part) for part in inspect.cleandoc(command.epilog).split("\n\n")]
    status = [_capital(_EXIT.sub("", part, count=1)) for part in paragraphs if _EXIT.match(part)]
    return [part for part in paragraphs if not _EXIT.match(part)], "\n\n".join(status)


def _paragraph(part: str) -> str:
    """A paragraph in one line; behind click's mark, its lines stay as they are."""
    if part.startswith("\b"):
        return "\n".join(f"    {line}".rstrip() for line in part.splitlines()[1:])
    return _escaped(" ".join(part.split()))


def _escaped(words: str) -> str:
    """Words in which nothing but backticks means anything to Markdown."""
    parts = re.split(r"(`[^`]*`)", words)
    return "".join(part if part.startswith("`") else re.sub(r"([\[\]*_<>#\\])", r"\\\1", part) for part in parts)


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:]
