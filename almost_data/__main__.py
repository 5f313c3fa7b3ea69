"""`python -m almost_data`."""

from .cli.app import main

if __name__ == "__main__":
    main()
