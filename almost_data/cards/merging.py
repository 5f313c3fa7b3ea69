"""Merge a card with the one on the Hub: between two marked lines it is ours, above and below it is people's.

In the YAML at its head, the keys that a comment names are ours, the others are kept as they are written,
comments included; `tags` are joined. A card without the marked lines is people's, and is kept below ours.
"""

import re
from collections.abc import Collection, Mapping
from typing import Any

import yaml

from ..errors import InputError
from .front_matter import BLOCK, read_yaml

BEGIN = "<!-- almost_data: begin. A push writes this part anew: write above this line, or below its end. -->"
END = "<!-- almost_data: end -->"
PARENTS = "<!-- almost_data: parents -->"
"""The rest of our part depends on where the parents were at the push."""
KEYS = "# almost_data writes: "
"""Start of the comment in the YAML that names our keys, so that they go when a later version has none."""
FILES = {"configs", "dataset_info"}
"""Keys that locate the rows: never kept from the card on the Hub, even if we write none."""
LINKS = ("base_model", "datasets", "source_datasets")
"""Keys that link repositories."""

_OUR_KEYS = re.compile(rf"^{KEYS}(.*)\n", re.MULTILINE)
_MARK = re.compile(r"^[ \t]*<!-- almost_data: (begin|end|parents)\b.*$\n?", re.MULTILINE)

Blocks = dict[str, str]
"""Key -> the lines of the YAML that it is written in."""


def merge(
    ours: str,
    theirs: str | None,
    repo: str,
    extra: Mapping[str, Any] | None = None,
    tail: str = "",
    hidden: Collection[str] = (),
) -> str:
    """The card to push: ours, with what people wrote on the one that is on the Hub.

    `ours` is the README.md of an artifact, `extra` YAML keys over its own, `tail` text for its end, `repo`
    the repository, for errors. Our keys link no `hidden` repository. Merging again changes nothing.
    Raises InputError where the YAML at the head of theirs is broken.
    """
    head, text = _split(ours)
    before, body, after = _parts(text)
    if body is None:  # as it was built, without marks: all of it is ours
        before, body, after = "", text, ""
    body = body.partition(PARENTS)[0].strip() + (f"\n\n{PARENTS}\n\n{tail}" if tail else "")
    blocks, our_keys = _keys(head, repo)
    blocks |= {key: _dump({key: value}) for key, value in (extra or {}).items()}
    our_keys = [*(our_keys or blocks), *(extra or {})]
    for key in [key for key in LINKS if hidden and key in our_keys and key in blocks]:
        blocks[key] = _without(hidden, key, blocks[key])
    blocks = {key: block for key, block in blocks.items() if block}
    mine = [key for key in blocks if key in our_keys]
    blocks = {key: blocks[key] for key in [*mine, *blocks]}
    if theirs is not None:
        their_head, their_text = _split(theirs)
        their_blocks, old_keys = _keys(their_head, repo)
        kept = their_blocks.keys() - {*mine, *old_keys, *FILES}
        blocks |= {key: block for key, block in their_blocks.items() if key in kept}
        if "tags" in blocks and "tags" in their_blocks:
            blocks["tags"] = _tags(blocks["tags"], their_blocks["tags"])
        before, old_body, after = _parts(their_text)
        if old_body is None:
            before, after = "", "" if before.strip() == text.strip() else before
    front = f"{KEYS}{', '.join(mine)}\n"
    front += "".join(block if block.endswith("\n") else f"{block}\n" for block in blocks.values())
    _check(front, blocks, repo)
    pieces = [_MARK.sub("", before).strip(), BEGIN, body, END, _MARK.sub("", after).strip()]
    return f"---\n{front}---\n\n" + "\n\n".join(filter(None, pieces)) + "\n"


def _split(text: str) -> tuple[str, str]:
    """The YAML at the head, which may be empty, and the rest."""
    text = text.replace("\r\n", "\n")
    head = BLOCK.match(text)
    return (head[1], text[head.end() :]) if head else ("", text)


def _parts(text: str) -> tuple[str, str | None, str]:
    """The text above our part, our part, and the text below; all of it, None and "" without the marks."""
    marks = list(_MARK.finditer(text))
    begin = next((mark for mark in marks if mark[1] == "begin"), None)
    end = next((mark for mark in marks if begin and mark[1] == "end" and mark.start() > begin.start()), None)
    if begin is None or end is None:
        return _MARK.sub("", text), None, ""
    return text[: begin.start()], text[begin.end() : end.start()], text[end.end() :]


def _keys(head: str, repo: str) -> tuple[Blocks, list[str]]:
    """The YAML's blocks by key, and the keys that the comment of an earlier push names."""
    comment = _OUR_KEYS.search(head)
    return _blocks(_OUR_KEYS.sub("", head), repo), comment[1].split(", ") if comment else []


def _blocks(head: str, repo: str) -> Blocks:
    try:
        values = read_yaml(head)
        node = yaml.compose(head, Loader=yaml.SafeLoader)
        if node is None:
            return {}
    except yaml.YAMLError as error:
        raise InputError(f"{repo}: the YAML of its card is broken: {' '.join(str(error).split())}") from None
    if not isinstance(node, yaml.MappingNode):
        raise InputError(f"{repo}: the YAML of its card has no keys and values: correct it there")
    has_aliases = any(isinstance(token, yaml.AliasToken) for token in yaml.scan(head))
    if node.flow_style or has_aliases:  # all on one line, or a part that refers to another
        return {str(key): _dump({key: value}) for key, value in values.items()}
    starts = [0, *(key.start_mark.index for key, _ in node.value[1:]), len(head)]
    keys = [str(key.value) for key, _ in node.value]
    return {key: head[start:end] for key, start, end in zip(keys, starts[:-1], starts[1:], strict=True)}


def _without(hidden: Collection[str], key: str, block: str) -> str:
    """The block without links to hidden repositories; empty where none remains."""
    linked = yaml.safe_load(block)[key]
    visible = [repo for repo in (linked if isinstance(linked, list) else [linked]) if repo not in hidden]
    return _dump({key: visible if isinstance(linked, list) else visible[0]}) if visible else ""


def _tags(*blocks: str) -> str:
    tags = [yaml.safe_load(block)["tags"] or [] for block in blocks]
    flat = [str(tag) for value in tags for tag in (value if isinstance(value, list) else [value])]
    return _dump({"tags": list(dict.fromkeys(flat))})


def _check(front: str, blocks: Blocks, repo: str) -> None:
    """Raise InputError where the joined YAML does not mean what its blocks mean apart."""
    try:
        apart = {str(key): value for block in blocks.values() for key, value in yaml.safe_load(block).items()}
        if {str(key): value for key, value in yaml.safe_load(front).items()} == apart:
            return
    except (yaml.YAMLError, AttributeError):
        pass
    raise InputError(f"{repo}: the YAML of its card cannot be joined with ours: correct it there")


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        """`datasets` cannot read YAML whose parts refer to each other."""
        return True


def _dump(values: dict[Any, Any]) -> str:
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)
