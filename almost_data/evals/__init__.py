"""Evaluations of any model, one file a benchmark, beside the baselines that expose shortcuts.

An `Evaluation` pins models and data, and says how to measure. The result is an artifact of the store: lines
with intervals, and a row for each item. Texts of a benchmark stay out of it.
"""
