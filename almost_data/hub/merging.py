"""A card on the Hub has two authors: between two marked lines it is ours, above and below it is people's.

In the YAML at its head, the keys that a comment names are ours, the others stay as they stand there, comments
included; `tags` are both. A card without the marked lines is people's: all of it is kept below ours.
"""

import re
from collections.abc import Collection, Mapping
from typing import Any

import yaml

from ..cards.card import read_yaml
from ..errors import InputError

BEGIN = "<!-- almost_data: begin. A push writes this part anew: write above this line, or below its end. -->"
END = "<!-- almost_data: end -->"
PARENTS = "<!-- almost_data: parents -->"
"""What follows in our part depends on where the parents were when it was pushed."""
FILES = {"configs", "dataset_info"}
"""Keys that say where the rows are: never anybody else's, even where we write none."""

KEYS = "# almost_data writes: "
"""How the comment in the YAML begins that names our keys, so that they go when a later version has none."""

_SAID = re.compile(rf"^{KEYS}(.*)\n", re.MULTILINE)
_FRONT = re.compile(r"\ufeff?---[ \t]*\n(.*?)^---[ \t]*(?:\n|\Z)", re.DOTALL | re.MULTILINE)
_MARK = re.compile(r"^[ \t]*<!-- almost_data: (begin|end|parents)\b.*$\n?", re.MULTILINE)


LINKS = ("base_model", "datasets", "source_datasets")
"""Keys that link repositories."""


def merge(
    ours: str,
    theirs: str | None,
    where: str,
    extra: Mapping[str, Any] | None = None,
    tail: str = "",
    hidden: Collection[str] = (),
) -> str:
    """The card to push: ours, with what people wrote on the one that is there.

    `ours` is the README.md of an artifact, `extra` YAML keys over its own, `tail` text for its end, `where`
    the repository, for errors. Our keys link no `hidden` repository. Merging again changes nothing.
    Raises InputError where the YAML at the head of theirs is broken.
    """
    head, text = _split(ours)
    above, body, below = _parts(text)
    if body is None:  # as it was built, where nothing is a mark: all of it is ours
        above, body, below = "", text, ""
    body = body.partition(PARENTS)[0].strip() + (f"\n\n{PARENTS}\n\n{tail}" if tail else "")
    given, said = _keys(head, where)
    mine = {key: block for key, block in given.items() if key in (said or given)}
    mine |= {key: _dump({key: value}) for key, value in (extra or {}).items()}
    for key in LINKS if hidden else ():
        if key in mine:
            linked = yaml.safe_load(mine[key])[key]
            left = [one for one in (linked if isinstance(linked, list) else [linked]) if one not in hidden]
            if left:
                mine[key] = _dump({key: left if isinstance(linked, list) else left[0]})
            else:
                del mine[key]
                given.pop(key, None)
    blocks = mine | {key: block for key, block in given.items() if key not in mine}
    if theirs is not None:
        their_head, their_text = _split(theirs)
        there, old_keys = _keys(their_head, where)
        blocks |= {key: block for key, block in there.items() if key not in {*mine, *old_keys, *FILES}}
        if "tags" in blocks and "tags" in there:
            blocks["tags"] = _tags(blocks["tags"], there["tags"])
        above, old, below = _parts(their_text)
        if old is None:
            above, below = "", "" if above.strip() == text.strip() else above
    front = f"{KEYS}{', '.join(mine)}\n"
    front += "".join(block if block.endswith("\n") else f"{block}\n" for block in blocks.values())
    pieces = [_MARK.sub("", above).strip(), BEGIN, body, END, _MARK.sub("", below).strip()]
    return f"---\n{_checked(front, blocks, where)}---\n\n" + "\n\n".join(filter(None, pieces)) + "\n"


def _split(text: str) -> tuple[str, str]:
    """The YAML at the head, which may be empty, and the rest."""
    text = text.replace("\r\n", "\n")
    found = _FRONT.match(text)
    return (found[1], text[found.end() :]) if found else ("", text)


def _parts(text: str) -> tuple[str, str | None, str]:
    """What is above our part, our part, and what is below; all of it, None, nothing where there is none."""
    marks = list(_MARK.finditer(text))
    begin = next((one for one in marks if one[1] == "begin"), None)
    end = next((one for one in marks if begin and one[1] == "end" and one.start() > begin.start()), None)
    if begin is None or end is None:
        return _MARK.sub("", text), None, ""
    return text[: begin.start()], text[begin.end() : end.start()], text[end.end() :]


def _keys(front: str, where: str) -> tuple[dict[str, str], list[str]]:
    """The YAML's blocks by key, and those keys that the last push wrote, as far as it says so."""
    said = _SAID.search(front)
    return _blocks(_SAID.sub("", front), where), said[1].split(", ") if said else []


def _blocks(front: str, where: str) -> dict[str, str]:
    """Key -> the lines that it stands in, as they are written."""
    try:
        values = read_yaml(front)
        node = yaml.compose(front, Loader=yaml.SafeLoader)
        if node is None:
            return {}
    except yaml.YAMLError as error:
        raise InputError(f"{where}: the YAML of its card is broken: {' '.join(str(error).split())}") from None
    if not isinstance(node, yaml.MappingNode):
        raise InputError(f"{where}: the YAML of its card is no mapping of keys to values: mend it there")
    refers = any(isinstance(token, yaml.AliasToken) for token in yaml.scan(front))
    if node.flow_style or refers:  # all on one line, or a part that refers to another
        return {str(key): _dump({key: value}) for key, value in values.items()}
    starts = [0, *(key.start_mark.index for key, _ in node.value[1:]), len(front)]
    keys = [str(key.value) for key, _ in node.value]
    return {key: front[start:end] for key, start, end in zip(keys, starts[:-1], starts[1:], strict=True)}


def _tags(ours: str, theirs: str) -> str:
    lists = [yaml.safe_load(block)["tags"] or [] for block in (ours, theirs)]
    flat = [str(tag) for some in lists for tag in (some if isinstance(some, list) else [some])]
    return _dump({"tags": list(dict.fromkeys(flat))})


def _checked(front: str, blocks: dict[str, str], where: str) -> str:
    """The front, read once more: whatever people wrote in theirs, it says what the parts say."""
    try:
        alone = {str(key): value for block in blocks.values() for key, value in yaml.safe_load(block).items()}
        if {str(key): value for key, value in yaml.safe_load(front).items()} == alone:
            return front
    except (yaml.YAMLError, AttributeError):
        pass
    raise InputError(f"{where}: the YAML of its card cannot be joined with ours: mend it there")


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        """`datasets` cannot read YAML whose parts refer to each other."""
        return True


def _dump(values: dict[Any, Any]) -> str:
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)
