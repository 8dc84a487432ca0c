# SPDX-License-Identifier: GPL-2.0-or-later
"""`kleaktrace schema`: what the JSON documents hold."""

from __future__ import annotations

import click

from kleaktrace.views.documents.schema import schema_text


@click.command()
def schema() -> None:
    """Print the JSON Schema of everything that --json writes."""
    click.echo(schema_text(), nl=False)
