# SPDX-License-Identifier: GPL-2.0-or-later
"""Tables in DuckDB, and as Parquet files."""
