"""`almost-data`, or `python -m almost_data`: the command line, which a signal ends in a line at any time."""

import signal

from .cli.ending import SIGNALS, interruptible


def main() -> None:
    """Import the command line and run it."""
    try:
        with interruptible():  # the imports, too
            from .cli import app

            app.main()
    finally:  # nothing is left to interrupt
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)


if __name__ == "__main__":
    main()
