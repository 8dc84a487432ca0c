# SPDX-License-Identifier: GPL-2.0-or-later
"""`kleaktrace doctor`: what works on this machine, and what to type where it does not."""

from __future__ import annotations

import click

from kleaktrace.core.doctor_checks import Health
from kleaktrace.edge.doctor import examine, mounted, unmounted
from kleaktrace.errors import ExitCode


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print a JSON document instead of text.")
@click.option("--fix", is_flag=True, help="Mount what is not mounted (debugfs, tracefs), then look.")
@click.pass_context
def doctor(ctx: click.Context, as_json: bool, fix: bool) -> None:
    """Check everything that tracing and judging need, by trying it, and give the fix for each thing amiss.

    The last line says what to do first. --fix does what can do no harm by itself.

    Exit code: 0 if tracing works here, 3 if not.
    """
    from kleaktrace.views.documents.doctor import document
    from kleaktrace.views.documents.json_text import dumps
    from kleaktrace.views.terminal import console
    from kleaktrace.views.terminal import doctor as view

    if fix:
        for mount in mounted(unmounted()):
            click.echo(f"kleaktrace: done: {mount.command}", err=True)
    checks = examine()
    if as_json:
        click.echo(dumps(document(checks)), nl=False)
    else:
        view.show(console.make(), checks)
    if any(check.health is Health.BROKEN for check in checks):
        ctx.exit(int(ExitCode.ENVIRONMENT))
