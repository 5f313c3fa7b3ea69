"""How both scripts run: one line on stderr and exit code 2 for wrong input, 1 for what failed."""

import sys
from collections.abc import Sequence

from cyclopts import App, CycloptsError

from almost_data import InputError
from almost_data.cli.ending import end


def run(app: App, arguments: Sequence[str] | None = None) -> None:
    """Run a command with these arguments, or with those of the process."""
    try:
        app(
            sys.argv[1:] if arguments is None else list(arguments),
            exit_on_error=False,
            print_error=False,
            result_action="return_value",
        )
    except (InputError, CycloptsError) as error:
        end(2, str(error))
    except RuntimeError as error:
        end(1, str(error))
