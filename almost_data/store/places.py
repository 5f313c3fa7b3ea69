"""Where artifacts of a store are on the Hub: `<root>/hub/name@version.json`, written by push and pull."""

from typing import Literal

import msgspec

from ..errors import InputError
from .names import parse_ref
from .store import Store


class Place(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An artifact's repository, and the commit that holds it."""

    kind: Literal["dataset", "model", "evaluation"]
    repo: str
    revision: str
    """Tag, branch or commit, as the command named it."""
    commit: str
    digest: str


def place(store: Store, ref: str, digest: str | None = None) -> Place | None:
    """Where `ref`, with this digest, was last pushed to or pulled from; None where that is not recorded."""
    name, version = parse_ref(ref)
    file = store.root / "hub" / f"{name}@{version}.json"
    if not file.is_file():
        return None
    try:
        recorded = msgspec.json.decode(file.read_bytes(), type=Place)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise InputError(f"{file}: not a record of push or pull: delete it") from None
    return recorded if digest in (None, recorded.digest) else None


def remember(store: Store, ref: str, location: Place) -> None:
    """Record where `ref` is on the Hub."""
    file = store.root / "hub" / f"{ref}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    content = msgspec.json.format(msgspec.json.encode(location), indent=2) + b"\n"
    store.replace(file, content, f"{ref}.place")
