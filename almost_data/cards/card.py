"""manifest + tables -> README.md, the human record: YAML for the Hub, then a page from `cards/*.md.jinja`.

Text of models, users and files is hostile here. Whatever a template prints is escaped as prose unless a
filter has already made it inert (`cell`, `code`, `fenced`), and a variable without a value fails.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import yaml

from ..datasets.builder import Builder
from ..datasets.manifest import Manifest, Parent, total_usage
from ..datasets.tables import TEST_SHARE, features, stored_configs
from ..errors import InputError
from ..generation import prompts
from . import markdown

if TYPE_CHECKING:
    import polars as pl

FOLDERS = (Path(__file__).parent / "templates", Path(__file__).parents[2] / "cards")
"""In the wheel; in a checkout."""
MARK = "<!-- almost_data:"
"""How the lines begin by which a push tells our part of a card on the Hub from people's."""
SPLITS = ("train", "test")
_HUB = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
MOST_YAML = 1_000_000
"""Characters of the YAML at the head of a card, its parts written out."""
_FRONT = re.compile(r"\ufeff?---[ \t]*\r?\n(.*?)^---[ \t]*(\r?\n|\Z)", re.DOTALL | re.MULTILINE)


def render(
    builder: Builder,
    manifest: Manifest,
    tables: "Mapping[str, pl.DataFrame]",
    figures: list[str],
    ancestors: list[Manifest],
) -> str:
    """The text of README.md of a dataset.

    `tables` are the stored configs, `figures` the paths of the figures beside the card, `ancestors`
    the manifests of what it was made from, nearest first, as far as they are in the store.
    Raises jinja2.UndefinedError where a template names what has no value.
    """

    def rows(config: str, count: int) -> list[dict[str, Any]]:
        """The rows of a config with the lowest keys: hashes of text, so neither best nor worst."""
        if config not in tables:
            return []
        key = manifest.table(config).key
        return tables[config].bottom_k(count, by=key).sort(key).rows(named=True)

    line = dataset_line(manifest, ancestors)
    text = page(
        builder.card,
        doc=builder.doc,
        manifest=manifest,
        settings=manifest.config["settings"],
        diagnostics=manifest.diagnostics,
        tables=manifest.tables,
        missing=_missing(manifest),
        figures=figures,
        line=line,
        usage=total_usage(line),
        lineage=_lineage([manifest, *ancestors]),
        deviations=[deviation for above in line for deviation in above.diagnostics["deviations"]],
        paper_facts=[fact for above in line for fact in above.diagnostics["paper_facts"]],
        rows=rows,
        stop=prompts.STOP,
        test_share=TEST_SHARE,
        **builder.card_values(manifest, line),
    )
    return with_front_matter(_head(manifest, builder.tags), text)


def render_model(
    manifest: Manifest,
    figures: list[str],
    ancestors: list[Manifest],
    evaluations: Sequence[dict[str, Any]] = (),
    index: Sequence[dict[str, Any]] = (),
) -> str:
    """The text of README.md of a trained model.

    `figures` are the paths of the figures beside the card (`plots_model.render`), `ancestors` the
    manifests of what it was made from, nearest first, as far as they are in the store; `evaluations` and
    `index` what benchmarks said of it, for people and as the Hub's `model-index` (see `evals.on_card`).
    """
    recipe = recipe_name(manifest)
    text = page(
        "model.md.jinja",
        manifest=manifest,
        settings=manifest.config["settings"],
        diagnostics=manifest.diagnostics,
        figures=figures,
        recipe=recipe,
        inputs=_inputs(manifest),
        lineage=_lineage([manifest, *ancestors]),
        evaluations=evaluations,
    )
    head = _model_head(manifest, recipe) | ({"model-index": list(index)} if index else {})
    return with_front_matter(head, text)


def recipe_name(manifest: Manifest) -> str:
    """What trained a model: `rm`, `sft`, `ppo`, `rloo`."""
    return manifest.builder.name.rpartition("/")[2]


def with_front_matter(head: dict[str, Any], text: str) -> str:
    """The card's text behind its YAML."""
    shown = yaml.safe_dump(head, sort_keys=False, allow_unicode=True, width=100)
    text = text.replace(MARK, MARK.replace("<!--", "<!- -"))  # a reply may hold one
    return f"---\n{shown}---\n\n{text}\n"


def page(template: str | Path, **values: Any) -> str:
    """A template, shipped or a file, filled in: all text is escaped, and a missing value is an error."""
    import jinja2
    from markupsafe import Markup

    folders = [template.parent] if isinstance(template, Path) else []
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([*folders, *FOLDERS]),
        undefined=jinja2.StrictUndefined,
        autoescape=True,
        finalize=lambda value: value.strip() if isinstance(value, Markup) else markdown.prose(str(value)),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {f.__name__: f for f in markdown.FILTERS}
    return environment.get_template(Path(template).name).render(values).strip()


def viewer(manifest: Manifest) -> dict[str, Any]:
    """The YAML keys by which `datasets` and the Hub's viewer find and read the files."""
    configs, info = [], []
    for config, by_split in manifest.counts.items():
        files = [{"split": split, "path": _globs(manifest, config, split)} for split in by_split]
        default = {"default": True} if config == "default" else {}
        configs.append({"config_name": config, **default, "data_files": files})
        # `datasets` ignores splits without num_bytes, 0 is its own "unknown"; it verifies num_examples.
        splits = [{"name": split, "num_bytes": 0, "num_examples": rows} for split, rows in by_split.items()]
        columns = features(manifest.table(config))
        info.append({"config_name": config, "features": columns, "splits": splits})
    # A copy without shared parts: YAML would write those as anchors, which `datasets` cannot read.
    shared = {"configs": configs, "dataset_info": info}
    return msgspec.json.decode(msgspec.json.encode(shared), type=dict[str, Any])


def front_matter(text: str) -> dict[str, Any]:
    """The YAML at the head of a card. Raises InputError where there is none, or it is broken.

    >>> front_matter("---\\nlicense: mit\\n---\\n# Card")
    {'license': 'mit'}
    """
    found = _FRONT.match(text)
    if not found:
        raise InputError("no YAML between two lines of three dashes at its head: build or push the card anew")
    try:
        head = read_yaml(found[1])
    except yaml.YAMLError as error:
        raise InputError(f"the YAML at its head is broken: {' '.join(str(error).split())}") from None
    if not isinstance(head, dict):
        raise InputError("the YAML at its head is no mapping of keys to values")
    return head


def read_yaml(text: str) -> Any:
    """What YAML of anybody's says. Raises yaml.YAMLError where it is broken, or parts that stand for others
    make it over MOST_YAML characters.
    """
    sizes: dict[int, int] = {}

    def size(node: yaml.Node) -> int:
        if id(node) not in sizes:
            sizes[id(node)] = MOST_YAML  # of a part that holds itself
            if isinstance(node, yaml.MappingNode):
                sizes[id(node)] = 1 + sum(size(part) for pair in node.value for part in pair)
            elif isinstance(node, yaml.SequenceNode):
                sizes[id(node)] = 1 + sum(map(size, node.value))
            else:
                sizes[id(node)] = 1 + len(node.value)
        return sizes[id(node)]

    try:
        if len(text) > MOST_YAML or ((top := yaml.compose(text, yaml.SafeLoader)) and size(top) > MOST_YAML):
            raise yaml.YAMLError(f"it stands for over {MOST_YAML:,} characters")
        return yaml.safe_load(text)
    except RecursionError:
        raise yaml.YAMLError("it is nested too deep") from None


def _head(manifest: Manifest, tags: Sequence[str]) -> dict[str, Any]:
    found = {key: manifest.diagnostics[key] for key in ("license",) if key in manifest.diagnostics}
    return {
        "pretty_name": f"ALMoST {manifest.name}",
        **found,
        **_said(manifest),
        "task_categories": ["text-generation"],
        "size_categories": [_size(sum(manifest.counts.get("default", {}).values()))],
        "tags": [*tags, "almost", "almost_data"],
        **viewer(manifest),
    }


def _model_head(manifest: Manifest, recipe: str) -> dict[str, Any]:
    base, dataset = manifest.config["base"]["id"], manifest.config["dataset"]["ref"].partition("@")[0]
    on_hub = {"base_model": base, "datasets": [dataset]}
    tags = ["almost", "almost_data", "trl", recipe, *(["reward-model"] if recipe == "rm" else [])]
    return {
        **_said(manifest),
        **{
            key: on_hub[key]
            for key, name in (("base_model", base), ("datasets", dataset))
            if _HUB.fullmatch(name)
        },
        "library_name": "transformers",
        "pipeline_tag": "text-classification" if recipe == "rm" else "text-generation",
        "tags": tags,
    }


def _said(manifest: Manifest) -> dict[str, Any]:
    """Licence and language, where whoever built it said them."""
    return {key: value for key, value in manifest.config["card"].items() if value}


def _inputs(manifest: Manifest) -> list[dict[str, Any]]:
    """What a model was made from: a base, a dataset, other models; what each is, and what pins it."""
    config, digests = manifest.config, {parent.ref: parent.digest for parent in manifest.parents}
    base, data = config["base"], config["dataset"]
    found = [
        {"what": "base model", "ref": base["id"], "revision": base["revision"], "pinned": True},
        {"what": "dataset", **{key: data[key] for key in ("ref", "revision", "pinned")}},
    ]
    if one := config.get("reward_model"):
        found.append({"what": "reward model", "ref": one["id"], "revision": one["revision"], "pinned": True})
    known = {one["ref"] for one in found}
    found += [
        {"what": "parent", "ref": parent.ref, "revision": None, "pinned": True}
        for parent in manifest.parents
        if parent.ref not in known
    ]
    return [one | {"digest": digests.get(one["ref"])} for one in found]


def _size(rows: int) -> str:
    steps = ["1K", "10K", "100K", "1M", "10M", "100M", "1B", "10B"]
    place = sum(rows >= 10 ** (3 + i) for i in range(len(steps)))
    return f"{steps[place - 1]}<n<{steps[place]}" if place else "n<1K"


def _globs(manifest: Manifest, config: str, split: str) -> str | list[str]:
    stored = stored_configs(manifest.tables, config)
    if stored == (config,):
        return f"data/{config}/{split}-*.parquet"
    return [f"data/{part}/{split}-*.parquet" for part in stored if split in manifest.counts[part]]


def _missing(manifest: Manifest) -> list[dict[str, Any]]:
    """Configs and splits that have no row, so that no file was written."""
    absent: list[dict[str, Any]] = [
        {"config": config, "split": None}
        for config in (*manifest.tables, *stored_configs(manifest.tables, "default"))
        if config not in manifest.counts
    ]
    return absent + [
        {"config": config, "split": split}
        for config, by_split in manifest.counts.items()
        for split in (SPLITS if manifest.table(config).split_key else ())
        if split not in by_split
    ]


def dataset_line(manifest: Manifest, ancestors: list[Manifest]) -> list[Manifest]:
    """A dataset and those that its rows come from: not what a model that judged them was trained on."""
    here = {one.ref: one for one in ancestors if one.kind == "dataset"}
    line = [manifest]
    for one in line:
        above = [here[parent.ref] for parent in one.parents if parent.ref in here]
        line += [other for other in above if other not in line]
    return line


def _lineage(line: list[Manifest]) -> list[dict[str, Any]]:
    """This artifact, then what it was made from. `made_from` is None where its manifest is not here."""
    made_from = {one.ref: [parent.ref for parent in one.parents] for one in line}
    models = {one.ref: one for one in line if one.kind == "model"}
    for one in models.values():
        base = one.config["base"]["id"]
        made_from[one.ref] += [base] if base not in made_from[one.ref] else []
    first = Parent(line[0].ref, line[0].digest, line[0].fingerprint)
    found = {parent.ref: parent for parent in [first, *(parent for one in line for parent in one.parents)]}
    return [
        msgspec.structs.asdict(one) | {"made_from": made_from.get(ref), "is_model": ref in models}
        for ref, one in found.items()
    ]
