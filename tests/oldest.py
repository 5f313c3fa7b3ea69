"""The lower bounds of pyproject.toml as constraints for pip: `make test-oldest` tests the oldest releases."""

import re
import tomllib
from pathlib import Path

BOUND = re.compile(r"([\w.-]+)(?:\[\w+\])?>=([\w.]+)")


def constraints(pyproject: Path) -> list[str]:
    """`NAME==VERSION` of every dependency with a lower bound, those of extras too."""
    project = tomllib.loads(pyproject.read_text("utf-8"))["project"]
    needs = [
        *project["dependencies"],
        *(need for extra in project["optional-dependencies"].values() for need in extra),
    ]
    return sorted({f"{match[1]}=={match[2]}" for need in needs if (match := BOUND.match(need))})


if __name__ == "__main__":
    print("\n".join(constraints(Path(__file__).parents[1] / "pyproject.toml")))
