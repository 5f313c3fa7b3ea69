"""Diagnostics of preference data: shortcuts, near twins, contamination."""
