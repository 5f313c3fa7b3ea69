"""Rows in a file, as imports read them."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def jsonl(file: Path, rows: Iterable[Any]) -> str:
    """Write rows, one JSON object a line. Returns the file's place, as a command takes it."""
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return str(file)
