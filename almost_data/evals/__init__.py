"""Benchmarks of the paper, on any model: one file each, beside the baselines that expose shortcuts.

A benchmark makes dialogues of its items, has a `Subject` score them, and returns a `Result`: lines with
intervals, and what was asked for each item. Texts of a benchmark stay out of it, but for their ids.
"""
