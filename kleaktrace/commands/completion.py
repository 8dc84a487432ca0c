# SPDX-License-Identifier: GPL-2.0-or-later
"""`kleaktrace completion`: what a shell needs to complete our commands and options."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from kleaktrace.errors import UsageError

_PROGRAM = "kleaktrace"


@click.command()
@click.argument("shell", metavar="bash|zsh|fish", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print a script that has a shell complete commands, options and captures.

    \b
    bash, in ~/.bashrc:  eval "$(kleaktrace completion bash)"
    zsh, in ~/.zshrc:    eval "$(kleaktrace completion zsh)"
    fish:                kleaktrace completion fish > ~/.config/fish/completions/kleaktrace.fish
    """
    kind = get_completion_class(shell)
    if kind is None:
        raise UsageError(
            f"this version of click completes nothing for {shell}", "use a newer one: pip install -U click"
        )
    click.echo(kind(ctx.find_root().command, {}, _PROGRAM, f"_{_PROGRAM.upper()}_COMPLETE").source())
