# SPDX-License-Identifier: GPL-2.0-or-later
"""`kleaktrace kmemleak`: the kernel's own leak detector by hand, with the traps taken out."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

import click

from kleaktrace.core.kmemleak.diagnosis import State
from kleaktrace.edge.kmemleak.client import KmemleakClient
from kleaktrace.edge.kmemleak.diagnosis import diagnose
from kleaktrace.errors import EnvironmentRefusal, ExitCode, UsageError

if TYPE_CHECKING:
    from rich.console import Console


@click.group()
def kmemleak() -> None:
    """Talk to the kernel's kmemleak."""


@kmemleak.command()
@click.pass_context
def status(ctx: click.Context) -> None:
    """Say whether kmemleak is on, and if not, why and what to do."""
    from kleaktrace.views.terminal import kmemleak as view

    client = KmemleakClient()
    health = diagnose(client)
    console = _console()
    view.show_health(console, health)
    if health.state is not State.ON:
        ctx.exit(ExitCode.ENVIRONMENT)
    listed = len(client.read().objects)
    click.echo(f"  {listed} suspect{'s' * (listed != 1)} listed by the scans so far (kleaktrace kmemleak show)")
    if client.min_unref_scans > 1:
        click.echo(f"  an object is listed after {client.min_unref_scans} scans without a reference to it")


@kmemleak.command()
@click.argument("automatic", metavar="[on|off|SECONDS]", required=False)
def scan(automatic: str | None) -> None:
    """Scan now; with an argument, switch the automatic scan on or off or set its period.

    A leak is listed by the second scan after it at the earliest, if it is 5 s old by then.
    """
    client = KmemleakClient()
    if automatic is not None:
        if automatic not in ("on", "off") and not (automatic.isascii() and automatic.isdigit()):
            raise UsageError(f"{automatic!r} is no scan setting", "kleaktrace kmemleak scan [on|off|SECONDS]")
        client.command(f"scan={automatic}")
        return
    start = time.monotonic()
    client.scan()
    listed = len(client.read().objects)
    click.echo(
        f"scanned in {time.monotonic() - start:.1f} s; {listed} suspect{'s' * (listed != 1)} listed "
        "(kleaktrace kmemleak show)"
    )


@kmemleak.command()
@click.option("--json", "as_json", is_flag=True, help="Print a JSON document, as explain does.")
def show(as_json: bool) -> None:
    """Show what is listed now, identical backtraces together. Does not scan."""
    from kleaktrace.views.documents.json_text import dumps
    from kleaktrace.views.documents.kmemleak import document
    from kleaktrace.views.terminal import kmemleak as view

    client = KmemleakClient()
    client.require_on()
    text = client.read()
    if as_json:
        click.echo(dumps(document(text, text.problems)), nl=False)
    elif not text.objects:
        click.echo("kmemleak lists nothing. Two scans, 6 s apart, list what leaked before the first.")
    else:
        view.show(_console(), text, text.problems)


@kmemleak.command()
@click.argument("address", metavar="ADDRESS")
def dump(address: str) -> None:
    """Show what kmemleak knows of the object that starts at ADDRESS (hexadecimal).

    The kernel writes it to its log; per-CPU objects cannot be asked for.
    """
    from kleaktrace.views.terminal import kmemleak as view

    where = _address(address)
    client = KmemleakClient()
    client.require_on()
    answer = client.dump(where)
    if not answer.tracked:
        click.echo(f"kmemleak has no object that starts at 0x{where:x}: never tracked, or freed")
    elif answer.dump is None:
        raise EnvironmentRefusal(
            f"kmemleak has an object at 0x{where:x}, but its answer in the kernel log cannot be read",
            "look with: dmesg | tail -n 30",
        )
    else:
        view.show_dump(_console(), answer.dump)


@kmemleak.command()
def clear() -> None:
    """Have kmemleak forget what it lists now, for all users of this machine."""
    client = KmemleakClient()
    listed = len(client.read().objects)
    client.clear()
    click.echo(f"{listed} suspect{'s' * (listed != 1)} will not be listed again")


@kmemleak.command()
def on() -> None:
    """Say how to switch kmemleak on: a running kernel cannot."""
    health = diagnose()
    if health.state is State.ON:
        click.echo("kmemleak is on")
        return
    raise EnvironmentRefusal(f"kmemleak cannot be switched on in a running kernel: {health.what}", health.fix)


@kmemleak.command()
@click.option("--yes", is_flag=True, help="Do not ask.")
def off(yes: bool) -> None:
    """Switch kmemleak off until the next boot."""
    client = KmemleakClient()
    client.require_on()
    if not yes:
        if not _on_terminal():
            raise UsageError(
                "kmemleak cannot be switched on again before the next boot",
                "say kleaktrace kmemleak off --yes if that is meant",
            )
        click.confirm("kmemleak cannot be switched on again before the next boot. Switch it off?", abort=True)
    client.command("off")
    click.echo("kmemleak is off until the next boot")


@kmemleak.command()
@click.argument("setting", type=click.Choice(["on", "off"]))
def stack(setting: str) -> None:
    """Switch the scanning of task stacks on or off. Off, objects only held by a running function are listed."""
    KmemleakClient().command(f"stack={setting}")


def _address(text: str) -> int:
    try:
        address = int(text, 16)
    except ValueError:
        address = -1
    if not 0 <= address < 1 << 64:
        raise UsageError(f"{text!r} is no address", "give it as kmemleak prints it: 0xffff888012345678")
    return address


def _on_terminal() -> bool:
    return sys.stdin.isatty()


def _console() -> Console:
    from rich.console import Console

    return Console()
