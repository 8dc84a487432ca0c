# SPDX-License-Identifier: GPL-2.0-or-later
"""The command line: finds the command, and turns errors into one line what and one line what to do."""

from __future__ import annotations

import faulthandler
import importlib
import os
import sys
import traceback

import click

from kleaktrace import __version__, logs
from kleaktrace.errors import BUG_FIX, ExitCode, KleaktraceError
from kleaktrace.terminal import clean

# name: (what it does, in the help's words); each lives in kleaktrace/commands/NAME.py as a click object of that name.
_COMMANDS = {
    "trace": "Show outstanding allocations while the kernel runs.",
    "rates": "Show who allocates, frees and grows how fast, next to what the machine says.",
    "run": "Trace while a command runs, then scan and judge.",
    "inject": "Let allocations fail, one in each run of a command, and tell which error paths leak.",
    "mark": "Begin a new round, inside a command under `run`.",
    "confirm": "Give a verdict on every suspect that kmemleak lists now.",
    "record": "Keep what is learned in a capture until Ctrl-C.",
    "pack": "Make one file of a capture that broke off.",
    "report": "Judge and report what a capture holds. Needs no privilege.",
    "diff": "Compare two captures: what leaves more memory behind, and what less.",
    "explain": "Explain a kmemleak report, from any machine. Needs no privilege.",
    "kmemleak": "Talk to the kernel's own leak detector.",
    "export": "Write what a capture holds in another program's format.",
    "query": "Ask captures by SQL.",
    "schema": "Print the JSON Schema of what --json writes.",
    "completion": "Print what bash, zsh or fish need to complete commands.",
    "doctor": "Say what works on this machine, and what to type where it does not.",
}


class _ReaderGone(Exception):
    """Nobody reads our output any more. Not an OSError: click would make exit code 1 of it, which means leaks."""


class _Commands(click.Group):
    """Imports a command's module only when it is used: tracing needs LLVM, explaining a report does not."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            raise _ReaderGone from error

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name.startswith("-") or self.get_command(ctx, name) is not None:
            return super().resolve_command(ctx, args)
        from difflib import get_close_matches

        near = get_close_matches(name, _COMMANDS, 1)
        raise click.UsageError(f"No such command {name!r}." + (f" Did you mean {near[0]!r}?" if near else ""), ctx)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args and not ctx.resilient_parsing:  # click 8.1 would show the help, and end with 0
            click.echo(ctx.get_help(), err=True)
            ctx.exit(ExitCode.USAGE)
        return super().parse_args(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(f"kleaktrace.commands.{cmd_name}")
        command: click.Command = getattr(module, cmd_name)
        if not any(parameter.name == _VERBOSE for parameter in command.params):
            command.params.append(_verbose_option())  # people write it behind the command as well
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


_VERBOSE = "verbose"


def _verbose_option() -> click.Option:
    return click.Option(
        ["-v", f"--{_VERBOSE}"],
        is_flag=True,
        expose_value=False,
        callback=lambda _, __, verbose: logs.configure(True) if verbose else None,
        help="Tell on standard error what happens inside.",
    )


@click.group(cls=_Commands, params=[_verbose_option()], context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="kleaktrace")
def kleaktrace() -> None:
    """Kernel memory leaks as they happen, and a verdict on every suspect that kmemleak names.

    Exit codes: 0 clean, 1 confirmed leaks, 2 wrong usage, 3 this machine can't do it (with the fix), 4 evidence
    incomplete, 70 a bug of kleaktrace.
    """


def main() -> None:
    """Run the command line and exit."""
    faulthandler.enable()  # much of this process is C: say where, should that fail
    sys.exit(_run())


def _run() -> int:
    try:
        logs.configure(False)
        status = kleaktrace.main(standalone_mode=False)
        sys.stdout.flush()
    except KleaktraceError as error:
        if error.exit_code == ExitCode.BUG:
            _show_traceback()
        _complain(error.what, error.fix)
        return int(error.exit_code)
    except click.ClickException as error:
        error.show()
        return int(ExitCode.USAGE)
    except (click.Abort, KeyboardInterrupt):
        _complain("interrupted")
        return 130
    except (BrokenPipeError, _ReaderGone):
        # whoever read our output has seen enough; keep Python from complaining when it flushes at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except Exception as error:
        _show_traceback()
        _complain(f"a bug of kleaktrace: {type(error).__name__}: {error}", BUG_FIX)
        return int(ExitCode.BUG)
    return int(status or 0)


def _show_traceback() -> None:
    if logs.is_shown():
        traceback.print_exc()


def _complain(what: str, fix: str = "") -> None:
    print(f"kleaktrace: {clean(what)}", file=sys.stderr)
    if fix:
        print(f"  {clean(fix)}", file=sys.stderr)
