"""`make stress`: kill every verb that writes.

python -m tests.stress --kills 200
"""

import argparse
import random

from rich.console import Console

from tests.stress import stress


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    raise SystemExit(int(stress(options.kills, random.Random(options.seed), Console()) > 0))


if __name__ == "__main__":
    main()
