"""manifest + tables -> README.md, the human record: YAML for the Hub, then a page from `cards/*.md.jinja`.

Text of models, users and files is hostile here. Whatever a template prints is escaped as prose unless a
filter has already made it inert (`cell`, `code`, `fenced`), and a variable without a value fails.
"""

import random
from collections.abc import Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import jinja2
import msgspec
import polars as pl
from markupsafe import Markup

from ..datasets.builder import Builder
from ..datasets.digest import SPLITS
from ..datasets.ledger import Entry, plural
from ..datasets.manifest import Manifest, Parent, total_usage
from ..datasets.tables import TEST_SHARE, stored_configs
from ..errors import Defect, InputError, one_line
from ..generation import prompts
from . import figures, markdown, rebuild
from .alt_texts import alt_texts
from .front_matter import viewer, with_front_matter

FOLDERS = (Path(__file__).parent / "templates", Path(__file__).parents[2] / "cards")
"""Templates in the wheel, and in a checkout."""


def render(
    builder: Builder,
    manifest: Manifest,
    tables: Mapping[str, pl.DataFrame],
    figures: list[str],
    ancestors: list[Manifest],
) -> str:
    """The text of README.md of a dataset.

    `tables` are the stored configs, `figures` the paths of the figures beside the card, `ancestors`
    the manifests of what it was made from, nearest first, as far as they are in the store.
    Raises Defect where a template names a variable without a value.
    """
    sources = row_sources(manifest, ancestors)
    is_almost = "almost" in builder.tags and follows_paper(sources)
    text = page(
        "empty.md.jinja" if manifest.is_empty else builder.card,
        doc=builder.doc,
        manifest=manifest,
        settings=manifest.config["settings"],
        diagnostics=manifest.diagnostics,
        tables=manifest.tables,
        missing=_missing(manifest),
        dropped_configs=manifest.dropped_configs,
        account=_account(manifest.ledger),
        figures=figures,
        alts=alt_texts(manifest),
        row_sources=sources,
        responders=_responders(manifest),
        is_almost=is_almost,
        scorers=_scorers(manifest),
        usage=total_usage(sources),
        lineage=lineage([manifest, *ancestors]),
        rebuild_commands=rebuild.commands(manifest, ancestors),
        rebuild_needs=rebuild.needs(sources),
        deviations=[deviation for source in sources for deviation in source.diagnostics["deviations"]],
        paper_facts=[fact for source in sources for fact in source.diagnostics["paper_facts"]],
        rows=partial(_rows, manifest, tables),
        stop=prompts.STOP,
        test_share=TEST_SHARE,
        **({} if manifest.is_empty else builder.card_values(manifest, sources)),
    )
    is_true = {"almost": is_almost, "synthetic": not manifest.is_import}
    tags = [tag for tag in builder.tags if is_true.get(tag, True)]
    return with_front_matter(_head(manifest, tags), text)


def follows_paper(sources: Sequence[Manifest]) -> bool:
    """Whether the rows are made as in the paper: from what was made here, or by few-shot prompts.

    Chat models that answered imported prompts have nothing else of the paper.
    """
    responders = list[Any]()
    for source in sources:
        settings = source.config["settings"]
        responders += [*(settings.get("responders") or ()), settings.get("assistant"), settings.get("user")]
    is_few_shot = any(isinstance(item, dict) and item.get("style") == "raw" for item in responders)
    return is_few_shot or not all(source.parents or source.is_import for source in sources)


def _rows(
    manifest: Manifest,
    tables: Mapping[str, pl.DataFrame],
    config: str,
    count: int,
    query_id: str | None = None,
) -> list[dict[str, Any]]:
    """A row each of so many queries of a config, drawn by seed; or the first rows of the query named."""
    if config not in tables:
        return []
    rows, key = tables[config], manifest.table(config).key
    if query_id is not None:
        return rows.filter(pl.col("query_id") == query_id).sort(key).head(count).rows(named=True)
    values = rows[key[0]].unique().sort()
    places = random.Random(0).sample(range(len(values)), min(count, len(values)))
    return [
        row
        for place in places
        for row in rows.filter(pl.col(key[0]) == values[place]).sort(key).head(1).rows(named=True)
    ]


def _account(ledger: Sequence[Entry]) -> list[dict[str, Any]]:
    """For each unit of the ledger: rows in, kept, and dropped by reason."""
    account = []
    for unit in dict.fromkeys(entry.unit for entry in ledger):
        entries = [entry for entry in ledger if entry.unit == unit]
        dropped = [item for entry in entries for item in ({**entry.dropped, "failed": entry.failed}).items()]
        numbers = {"n_in": entries[0].n_in, "kept": entries[-1].kept}
        account.append({"rows": plural(unit), **numbers, "dropped": [item for item in dropped if item[1]]})
    return account


def load_example(manifest: Manifest, repo: str | None = None) -> str:
    """The part of a card that loads the artifact: from a repository of the Hub, or from its folder."""
    return page("load.md.jinja", manifest=manifest, **({"repo": repo} if repo else {}))


def page(template: str | Path, **values: Any) -> str:
    """A template, shipped or a file, filled in: all text is escaped, and a missing value is an error."""
    folders = (template.parent, *FOLDERS) if isinstance(template, Path) else FOLDERS
    environment = _environment(folders)
    try:
        return environment.get_template(Path(template).name).render(values).strip()
    except Exception as error:  # a template's mistake, or a manifest without what it prints
        raise Defect(f"card {template}: it cannot be filled in: {one_line(error)}") from error


@cache
def _environment(folders: tuple[Path, ...]) -> jinja2.Environment:
    """What compiles the templates of folders: each once, and again where its file changed."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folders),
        undefined=jinja2.StrictUndefined,
        autoescape=True,
        finalize=lambda value: value.strip() if isinstance(value, Markup) else markdown.prose(str(value)),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {text_filter.__name__: text_filter for text_filter in markdown.FILTERS}
    return environment


def require_template(template: str | Path) -> None:
    """Raise InputError where there is no such template."""
    folders = [template.parent] if isinstance(template, Path) else FOLDERS
    if not any((folder / Path(template).name).is_file() for folder in folders):
        raise InputError(f"{template}: no such card template")


def audit_page(result: Mapping[str, Any]) -> str:
    """The result of an audit as one HTML page, which needs no network."""
    import base64

    images = figures.as_files(figures.shortcut_figures(result))
    names = {"plots/length_gap.png": "Length of chosen minus rejected", "plots/shortcuts.png": "Shortcuts"}
    environment = _environment(FOLDERS).overlay(
        finalize=lambda value: markdown.clean(value) if type(value) is str else value
    )
    pictures = [
        {"name": names[path], "base64": base64.b64encode(content).decode()}
        for path, content in images.items()
    ]
    return environment.get_template("audit.html.jinja").render(**result, figures=pictures)


def _head(manifest: Manifest, tags: Sequence[str]) -> dict[str, Any]:
    license = manifest.diagnostics.get("license")
    prefix = "ALMoST " if "almost" in tags else ""
    return {
        "pretty_name": f"{prefix}{manifest.name}",
        **({"license": license} if license else {}),
        **card_settings(manifest),
        "task_categories": ["text-generation"],
        "size_categories": [_size(sum(manifest.counts.get("default", {}).values()))],
        "tags": [*tags, "almost_data"],
        **viewer(manifest),
    }


def card_settings(manifest: Manifest) -> dict[str, Any]:
    """Licence and language, where the settings name them."""
    return {key: value for key, value in manifest.config["card"].items() if value}


def _size(rows: int) -> str:
    steps = ["1K", "10K", "100K", "1M", "10M", "100M", "1B", "10B"]
    place = sum(rows >= 10 ** (3 + i) for i in range(len(steps)))
    return f"{steps[place - 1]}<n<{steps[place]}" if place else "n<1K"


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


def row_sources(manifest: Manifest, ancestors: list[Manifest]) -> list[Manifest]:
    """A dataset and those that its rows come from, without those on which its reward models were trained."""
    datasets = {ancestor.ref: ancestor for ancestor in ancestors if ancestor.kind == "dataset"}
    sources = [manifest]
    for source in sources:
        parents = [datasets[parent.ref] for parent in source.parents if parent.ref in datasets]
        sources += [parent for parent in parents if parent not in sources]
    return sources


def _responders(manifest: Manifest) -> list[str]:
    """The names of those that wrote the replies, as far as they are known."""
    diagnostics = manifest.diagnostics
    names = {row if isinstance(row, str) else row["responder"] for row in diagnostics.get("responders", ())}
    for pair in diagnostics.get("responder_pairs", ()):
        names |= {pair["chosen_responder"], pair["rejected_responder"]}
    return sorted(names)


def _scorers(manifest: Manifest) -> list[str]:
    """Keywords of the reward models that a builder asked, as config and environment name them."""
    environment = manifest.environment
    return [name for name, record in environment.items() if isinstance(record, dict) and "scores" in record]


def lineage(manifests: list[Manifest]) -> list[dict[str, Any]]:
    """The first artifact, then all that it was made from. `made_from` is None without a manifest."""
    made_from = {manifest.ref: [parent.ref for parent in manifest.parents] for manifest in manifests}
    models = {manifest.ref: manifest for manifest in manifests if manifest.kind == "model"}
    for model in models.values():
        base = model.config["base"]["id"]
        made_from[model.ref] += [base] if base not in made_from[model.ref] else []
    first = Parent(manifests[0].ref, manifests[0].digest, manifests[0].fingerprint)
    parents = [first, *(parent for manifest in manifests for parent in manifest.parents)]
    return [
        msgspec.structs.asdict(parent) | {"made_from": made_from.get(ref), "is_model": ref in models}
        for ref, parent in {parent.ref: parent for parent in parents}.items()
    ]
