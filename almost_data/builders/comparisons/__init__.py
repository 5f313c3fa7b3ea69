"""Comparisons builder."""
