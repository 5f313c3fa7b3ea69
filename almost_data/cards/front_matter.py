"""The YAML at the head of a card: what the Hub and `datasets` read, written and read back."""

import re
from typing import Any

import msgspec
import yaml

from ..datasets.manifest import Manifest
from ..datasets.tables import features, stored_configs
from ..errors import InputError

MARK = "<!-- almost_data:"
"""Begins the comments that separate our part of a card on the Hub from what people wrote."""
MAX_YAML = 1_000_000
"""Characters of a card's YAML, its aliases expanded."""
BLOCK = re.compile(r"\ufeff?---[ \t]*\r?\n(.*?)^---[ \t]*(\r?\n|\Z)", re.DOTALL | re.MULTILINE)
"""A card's head; its first group is the YAML."""


def with_front_matter(head: dict[str, Any], text: str) -> str:
    """The card's text behind its YAML."""
    block = yaml.safe_dump(head, sort_keys=False, allow_unicode=True, width=100)
    text = text.replace(MARK, MARK.replace("<!--", "<!- -"))  # a reply may contain it
    return f"---\n{block}---\n\n{text}\n"


def front_matter(text: str) -> dict[str, Any]:
    """The YAML at the head of a card. Raises InputError where there is none, or it is broken.

    >>> front_matter("---\\nlicense: mit\\n---\\n# Card")
    {'license': 'mit'}
    """
    block = BLOCK.match(text)
    if not block:
        raise InputError("no YAML between two lines of three dashes at its head: build or push the card anew")
    try:
        head = read_yaml(block[1])
    except yaml.YAMLError as error:
        raise InputError(f"the YAML at its head is broken: {' '.join(str(error).split())}") from None
    if not isinstance(head, dict):
        raise InputError("the YAML at its head is not a mapping of keys to values")
    return head


def read_yaml(text: str) -> Any:
    """Parse untrusted YAML. Raises yaml.YAMLError where it is broken, or its aliases exceed MAX_YAML."""
    sizes: dict[int, int] = {}

    def size(node: yaml.Node) -> int:
        """Characters, about, of a node with its aliases expanded."""
        if id(node) not in sizes:
            sizes[id(node)] = MAX_YAML  # in case it contains itself
            if isinstance(node, yaml.MappingNode):
                sizes[id(node)] = 1 + sum(size(part) for pair in node.value for part in pair)
            elif isinstance(node, yaml.SequenceNode):
                sizes[id(node)] = 1 + sum(map(size, node.value))
            else:
                sizes[id(node)] = 1 + len(node.value)
        return sizes[id(node)]

    loader = yaml.SafeLoader(text)
    try:
        top = loader.get_single_node() if len(text) <= MAX_YAML else None
        if len(text) > MAX_YAML or (top and size(top) > MAX_YAML):
            raise yaml.YAMLError(f"it expands to over {MAX_YAML:,} characters")
        return loader.construct_document(top) if top else None
    except RecursionError:
        raise yaml.YAMLError("it is nested too deep") from None
    except ValueError as error:  # such as the 99th day of a month
        raise yaml.YAMLError(str(error)) from None


def viewer(manifest: Manifest) -> dict[str, Any]:
    """The YAML keys by which `datasets` and the Hub's viewer find and read the files."""
    configs, info = [], []
    for config, by_split in manifest.counts.items():
        files = [{"split": split, "path": _globs(manifest, config, split)} for split in by_split]
        default = {"default": True} if config == "default" else {}
        configs.append({"config_name": config, **default, "data_files": files})
        # `datasets` ignores splits without num_bytes, and verifies num_examples.
        sizes = manifest.sizes.get(config, {})
        splits = [
            {"name": split, "num_bytes": sizes.get(split, 0), "num_examples": rows}
            for split, rows in by_split.items()
        ]
        folders = {f"data/{part}" for part in stored_configs(manifest.tables, config)}
        stored = [file.bytes for path, file in manifest.files.items() if path.rpartition("/")[0] in folders]
        info.append(
            {
                "config_name": config,
                "features": features(manifest.table(config)),
                "splits": splits,
                "download_size": sum(stored),
                "dataset_size": sum(sizes.get(split, 0) for split in by_split),
            }
        )
    # A copy without shared parts: YAML would write those as anchors, which `datasets` cannot read.
    shared = {"configs": configs, "dataset_info": info}
    return msgspec.json.decode(msgspec.json.encode(shared), type=dict[str, Any])


def _globs(manifest: Manifest, config: str, split: str) -> str | list[str]:
    stored = stored_configs(manifest.tables, config)
    if stored == (config,):
        return f"data/{config}/{split}-*.parquet"
    return [f"data/{part}/{split}-*.parquet" for part in stored if split in manifest.counts.get(part, ())]
