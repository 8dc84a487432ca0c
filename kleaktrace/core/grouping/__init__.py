"""Allocations grouped by what a reader asks for."""
