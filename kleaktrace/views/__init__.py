"""Prints core results. No view computes a verdict."""
