"""`make stress`: kill builds at every step, with a look at the journal, and every verb that writes.

python -m tests.stress --kills 200
"""

import argparse
import random

from rich.console import Console

from tests import stress
from tests.stress import verbs


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=200, help="A third of them hit builds.")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng, console = random.Random(options.seed), Console()
    builds = options.kills // 3
    bad = stress.stress(builds, rng, console) + verbs.stress(options.kills - builds, rng, console)
    raise SystemExit(int(bad > 0))


if __name__ == "__main__":
    main()
