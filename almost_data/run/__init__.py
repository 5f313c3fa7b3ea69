"""Runs: plan, execute, compare."""
