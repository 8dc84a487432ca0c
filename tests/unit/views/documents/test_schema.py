# SPDX-License-Identifier: GPL-2.0-or-later
"""The schema itself, and the command that prints it."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner
from jsonschema import Draft202012Validator, ValidationError
from reports import report
from schemas import validated

from kleaktrace.commands.schema import schema
from kleaktrace.views.documents.report import document


def test_the_command_prints_a_valid_schema_that_documents_meet() -> None:
    printed = json.loads(CliRunner().invoke(schema).output)
    Draft202012Validator.check_schema(printed)
    told = json.loads(json.dumps(document(report())))
    Draft202012Validator(printed).validate(told)
    Draft202012Validator(printed).validate({**told, "added_later": 1})


def test_a_field_that_is_missing_or_of_another_type_is_refused() -> None:
    told = document(report())
    validated(told)
    for broken in (
        {**told, "verdict": "fine"},
        {**told, "forgotten": 1},
        {k: v for k, v in told.items() if k != "loss"},
    ):
        with pytest.raises(ValidationError):
            validated(broken)
