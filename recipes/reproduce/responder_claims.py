"""The claims of a study: the paper's, with those of Table 2 about the responders that are there."""

import re
from collections.abc import Iterator

from claims import CLAIMS, VICUNA, WIN, Claim, Measure

BASELINE = "baseline"
"""Role of a file of answers."""
_RESPONDER = re.compile(r"(?P<size>\d+(?:\.\d+)?)(?P<unit>[MB])-(?P<prompt>.+)-(?P<shots>\d+)shot")
_UNIT = {"M": 1e6, "B": 1e9}


def claims(responders: list[str]) -> Iterator[Claim]:
    """Every claim in the order of the paper; those of Table 2 compare the responders that are there.

    >>> [claim.says for claim in claims(["30B-HHH-5shot", "13B-HHH-5shot"]) if claim.table == "Table 2"]
    ['30B-HHH-5shot is better than 13B-HHH-5shot: a larger model']
    """
    before = [claim for claim in CLAIMS if claim.table.startswith(("Table 1", "Figure 3"))]
    yield from before
    named = [(name, match) for name in responders if (match := _RESPONDER.fullmatch(name))]
    yield from _orders(named)
    yield from _steps(named)
    if len(named) < 2:
        large, middle, small = (f"{size}-Faithful-3shot" for size in ("30B", "13B", "7B"))
        says = "the win rate over a baseline grows with the model's size"
        yield Claim("Table 2", says, _against_baseline(large), _against_baseline(middle))
        yield _step("13B to 30B is a larger step than 7B to 13B", large, middle, small)
    yield from (claim for claim in CLAIMS if claim not in before)


Responders = list[tuple[str, "re.Match[str]"]]
"""Name of each responder, and its parts."""


def _orders(responders: Responders) -> Iterator[Claim]:
    """Which responder is better than which, and why."""
    for name, a in responders:
        for rival, b in responders:
            larger = _size(a) - _size(b)
            why = ""
            if a["prompt"] == b["prompt"]:
                if larger > 0 and a["shots"] == b["shots"]:
                    why = "a larger model"
                elif larger == 0 and int(a["shots"]) > int(b["shots"]):
                    why = "more shots"
            elif a["prompt"] == "Faithful" and larger < 0:
                why = "a better prompt beats a larger model"
            if why:
                says = f"{name} is better than {rival}: {why}"
                yield Claim("Table 2", says, _against_baseline(name), _against_baseline(rival))


def _steps(responders: Responders) -> Iterator[Claim]:
    """Of three sizes under one prompt, the step to the largest is the larger one."""
    alike: dict[str, list[re.Match[str]]] = {}
    for name, match in sorted(responders, key=lambda pair: -_size(pair[1])):
        alike.setdefault(name[match.end("unit") + 1 :], []).append(match)
    for prompt, matches in alike.items():
        for three in zip(matches, matches[1:], matches[2:], strict=False):
            large, middle, small = (match["size"] + match["unit"] for match in three)
            says = f"{prompt}: {middle} to {large} is a larger step than {small} to {middle}"
            yield _step(says, *(match[0] for match in three))


def _step(says: str, *names: str) -> Claim:
    large, middle, small = map(_against_baseline, names)
    return Claim("Table 2", says, large, middle, part=2.0, plus=small)


def _against_baseline(name: str) -> Measure:
    return Measure(f"{name} against {BASELINE}", VICUNA, metric=WIN)


def _size(match: "re.Match[str]") -> float:
    return float(match["size"]) * _UNIT[match["unit"]]
