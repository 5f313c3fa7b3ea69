"""Demonstrations builder."""
