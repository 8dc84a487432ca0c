# SPDX-License-Identifier: GPL-2.0-or-later
"""Tables by column, of types that any database has."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt

_MOST = (1 << 63) - 1


class ColumnType(StrEnum):
    """The types, by their names in SQL. There is no unsigned one: Spark and Trino know none."""

    TEXT = "VARCHAR"
    TEXTS = "VARCHAR[]"
    INTEGER = "BIGINT"
    REAL = "DOUBLE"
    TIME = "TIMESTAMP"
    TRUTH = "BOOLEAN"


@dataclass(frozen=True, slots=True)
class Column:
    """Values of one type. Of texts and of integers, None is NULL; of reals, what is not finite."""

    type: ColumnType
    values: npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Table:
    """Columns of the same length, by name."""

    name: str
    columns: Mapping[str, Column]


def texts(values: Iterable[str | None]) -> Column:
    """One text a row."""
    return Column(ColumnType.TEXT, np.fromiter(values, object))


def lists(values: Iterable[Iterable[str]]) -> Column:
    """Several texts a row."""
    return Column(ColumnType.TEXTS, np.fromiter(map(list, values), object))


def integers(values: npt.ArrayLike) -> Column:
    """Numbers of objects, bytes and the like, none below 0; what 63 bits can't hold becomes the most that they can."""
    unsigned = np.asarray(values, np.uint64)
    return Column(ColumnType.INTEGER, np.minimum(unsigned, np.uint64(_MOST)).astype(np.int64))


def optional_integers(values: Iterable[int | None]) -> Column:
    """The same, some of them not known."""
    return Column(
        ColumnType.INTEGER, np.fromiter((value if value is None else min(value, _MOST) for value in values), object)
    )


def reals(values: npt.ArrayLike) -> Column:
    """Seconds and shares."""
    real = np.asarray(values, np.float64)
    return Column(ColumnType.REAL, np.where(np.isfinite(real), real, np.nan))


def truths(values: npt.ArrayLike) -> Column:
    """Yes or no."""
    return Column(ColumnType.TRUTH, np.asarray(values, np.bool_))


def times(values: npt.ArrayLike) -> Column:
    """Moments, UTC, to the microsecond."""
    return Column(ColumnType.TIME, np.asarray(values, "datetime64[us]"))
