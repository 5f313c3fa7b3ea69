"""`python -m almost_data`."""

import signal

from .cli.ending import SIGNALS, interruptible

if __name__ == "__main__":
    with interruptible():  # while the command line is imported, too
        from .cli.app import main

        main()
    for number in SIGNALS:  # it is done: nothing is left to interrupt
        signal.signal(number, signal.SIG_IGN)
