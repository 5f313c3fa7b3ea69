"""Benchmarks: speed as ratios against the plain way of doing the same, in the same run. No test."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Result:
    """One line of the table; `plain` is the same work done plainly, where there is such a way."""

    label: str
    unit: str
    ours: float
    plain: float | None
    target: str
