"""The reference pages of the site, made from the code when the site is built, so that they cannot drift.

The notebook becomes a page in the same way.
"""

import inspect
import json
import re
import typing
from collections.abc import Iterable, Iterator
from importlib import resources
from itertools import groupby
from pathlib import Path
from types import FunctionType
from typing import Any

import msgspec
import reasons
import scale
from cyclopts import App

import almost_data
from almost_data import registry
from almost_data.builders import checks
from almost_data.builders.comparisons import by_ratings, ranking, selection, twins
from almost_data.builders.responder import Responder
from almost_data.cli.app import app
from almost_data.datasets.builder import load_builder
from almost_data.datasets.manifest import Manifest
from almost_data.datasets.settings_docs import field_docs
from almost_data.datasets.user_filters import UserFilter
from almost_data.diagnostics.rules import ANY, RULES
from almost_data.readers.layouts import LAYOUTS
from almost_data.run import presets

NOTEBOOK = "tutorials/notebook.ipynb"
NESTED = {Responder: "A responder", UserFilter: "A filter of your own"}
"""Titles of the settings that hold settings."""


def on_files(files: Any, config: Any) -> Any:
    """Called by mkdocs: add a page for each part of the reference."""
    from mkdocs.structure.files import File

    for name, text in pages().items():
        files.append(File.generated(config, f"reference/{name}.md", content=text))
    files.append(File.generated(config, NOTEBOOK.replace(".ipynb", ".md"), content=notebook_page()))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Called by mkdocs: a link to a part of `reference/README.md`, which GitHub shows, leads to its page."""
    return re.sub(r"(\]\((?:\.\./)?reference)/README\.md#(\w+)\)", r"\1/\2.md)", markdown)


def notebook_page() -> str:
    """The cells of the notebook: text as it is, code in blocks."""
    cells = json.loads((Path(__file__).parent / "pages" / NOTEBOOK).read_text("utf-8"))["cells"]
    texts = [(cell["cell_type"], "".join(cell["source"])) for cell in cells]
    parts = [text if kind == "markdown" else f"```python\n{text}\n```" for kind, text in texts]
    return "\n\n".join([*parts, f"[This page as a notebook]({Path(NOTEBOOK).name})"])


def pages() -> dict[str, str]:
    """Name -> Markdown."""
    return {
        "cli": cli(),
        "settings": settings(),
        "presets": presets_page(),
        "filters": filters(),
        "measures": measures(),
        "layouts": layouts(),
        "tables": tables(),
        "manifest": manifest(),
        "python": python(),
        "scale": scale.page(),
    }


def cli() -> str:
    _set_defaults(app)
    text = app.generate_docs(recursive=True, max_heading_level=3)
    text = re.sub(r"## Table of Contents\n.*?(?=\n## )", "", text, count=1, flags=re.DOTALL)
    return text.replace("# almost-data\n", "# Command line\n", 1)


def _set_defaults(parent: App) -> None:
    """What holds for the options of an app holds for its commands; only a call passes it down by itself."""
    for name, command in parent.resolved_commands().items():
        if not name.startswith("-"):
            command.default_parameter = parent.default_parameter
            _set_defaults(command)


def settings() -> str:
    """Set one by `--set NAME.KEY=VALUE`, or in a table `[NAME]` of a TOML file."""
    builders = [load_builder(name) for name in registry.names("builders")]
    sections = {builder.name: (builder.config, builder.doc) for builder in builders}
    nested = {
        kind
        for builder in builders
        for hint in typing.get_type_hints(builder.config).values()
        for kind in (hint, *typing.get_args(hint))
        if isinstance(kind, type) and hasattr(kind, "__struct_fields__")
    }
    for kind in sorted(nested, key=lambda kind: kind.__name__):
        sections[NESTED[kind]] = (kind, inspect.getdoc(kind) or "")
    parts = [
        f"## {title}\n\n{doc}\n\n{_table(('setting', 'default', 'what it is'), _fields(kind))}"
        for title, (kind, doc) in sections.items()
    ]
    return "\n\n".join([f"# Settings\n\n{settings.__doc__}", *parts])


def presets_page() -> str:
    """A preset is a TOML file with the settings of a whole run.

    Lay your own over it with `--config mine.toml`, or change a key with `--set section.key=value`.
    `--limit N` cuts any run to N queries, and `--dry-run` says what it would cost.
    """
    parts = [f"# Presets\n\n{inspect.getdoc(presets_page)}"]
    for name in typing.get_args(presets.PresetName):
        text = resources.files(presets).joinpath(f"{name}.toml").read_text("utf-8")
        parts.append(f"## {name}\n\n```toml\n{text.strip()}\n```")
    return "\n\n".join(parts)


def filters() -> str:
    named = checks.response_checks()
    sets = [
        (f"`{name}`", ", ".join(f"`{check}`" for check in names) or "no check")
        for name, names in checks.SETS.items()
    ]
    rows = [(f"`{name}`", check.description, check.source) for name, check in named.items()]
    return "\n\n".join(
        [
            "# Filters",
            "Response checks: `comparisons.checks` and `filtered.checks` take names of sets and checks, with "
            "commas between. The card of a dataset lists its filters with their counts.",
            "## Sets",
            _table(("set", "checks"), sets),
            "## Checks",
            _table(("check", "what it drops", "source"), rows),
            "How often `refusal`, `identity` and `cut_off` are right was "
            "[measured on real replies](../explanation/verdicts.md#how-often-the-checks-are-right).",
            "## Rules on pairs",
            "Each with an example of its settings; what is not set is not applied.",
            _table(("reason", "rule", "settings", "source"), pair_rules()),
            "## All other reasons",
            "Every other reason in the column `reason` of dropped rows. A filter of yours adds its own name.",
            *(
                f"### {place}\n\n{_table(('reason', 'why the row is dropped', 'source'), rows)}"
                for place, rows in reasons.reasons().items()
            ),
        ]
    )


def pair_rules() -> list[tuple[str, str, str, str]]:
    rules = [
        ranking.ALREADY_CHOSEN,
        ranking.LADDER,
        ranking.EXTREMES,
        by_ratings.rated_higher(1),
        by_ratings.agreement(1, "asis@1.0.0"),
        ranking.EQUAL_SIDES,
        ranking.length_rule(0.5, "survivors"),
        ranking.length_gap(400),
        *by_ratings.thresholds(2, 60, 6),
        twins.NEAR_TWIN_PROMPT,
        twins.NEAR_TWIN_PAIR,
        selection.length_balance(0.5, 0),
        selection.not_needed(10_000, 0),
    ]
    return [
        (
            f"`{rule.name}`",
            rule.description,
            ", ".join(f"`{name} = {value}`" for name, value in rule.params.items()),
            rule.source,
        )
        for rule in rules
    ]


def measures() -> str:
    rows = [(f"`{name}`", rule.measure, thresholds(name)) for name, rule in RULES.items()]
    return "\n\n".join(
        [
            "# Measures",
            "The measures of audits and cards, and where each verdict begins. `audit` has also "
            "`left_out.REASON` and `contamination.FILE`, with the thresholds of `left_out` and "
            "`contamination`. `surface_model` and `surface_beyond_length` are judged by the lower end of "
            "their 95% interval, and `surface_model` by the accuracy of length alone if that is higher. "
            "[How verdicts are decided](../explanation/verdicts.md) says why.",
            _table(("name", "measure", "verdict"), rows),
        ]
    )


def thresholds(name: str) -> str:
    """The steps of a rule, from high to low: `worry from 70%, watch from 60%, fine below`."""
    levels = [
        (level, min(bound for bound, _, _ in steps))
        for level, steps in groupby(RULES[name].steps, key=lambda step: step[1])
    ]
    parts = [f"{level} {_from(name, bound)}" for level, bound in levels[:-1]]
    rest = "always" if not parts else "at 0" if levels[-2][1] == ANY else "below"
    return ", ".join([*parts, f"{levels[-1][0]} {rest}"])


def _from(name: str, bound: float) -> str:
    if bound == ANY:
        return "above 0"
    return f"from {bound:g}" if name == "pairs_per_query" else f"from {100 * bound:g}%"


def layouts() -> str:
    rows = [
        (layout.title, ", ".join(f"`{name}`" for name in layout.columns), layout.source) for layout in LAYOUTS
    ]
    return "\n\n".join(
        [
            "# Layouts",
            "Preference data in these layouts are read by `import preferences`, `audit`, `view`, "
            "`eval preference` and the recipes. The layout is told by its columns; `--columns` decides "
            "where none fits, or two do.",
            _table(("layout", "columns that it needs", "who publishes data in it"), rows),
        ]
    )


def tables() -> str:
    parts = [
        "# Tables",
        "The configs of each dataset, and their columns. `default` is the one that trainers read.",
    ]
    for name in registry.names("builders"):
        for config, table in load_builder(name).tables.items():
            rows = [(f"`{column.name}`", column.type, column.doc) for column in table.columns]
            key = ", ".join(f"`{column}`" for column in table.key)
            doc = table.doc[0].upper() + table.doc[1:]
            parts.append(f"## {name}: {config}\n\n{doc}. Its key is {key}.")
            parts.append(_table(("column", "type", "what it is"), rows))
    return "\n\n".join(parts)


def manifest() -> str:
    docs = field_docs(Manifest)
    rows = [(f"`{name}`", docs.get(name, "")) for name in Manifest.__struct_fields__]
    text = "`manifest.json` is the record for programs; the card is rendered from it."
    return f"# Manifest\n\n{text}\n\n{_table(('key', 'what it is'), rows)}"


def python() -> str:
    parts = ["# Python", "Everything here is imported from `almost_data` itself."]
    for name in almost_data.__all__:
        value = getattr(almost_data, name)
        doc = inspect.getdoc(value) if callable(value) or inspect.isclass(value) else None
        parts.append(f"## {name}\n\n{_code(name, value)}{doc or ''}")
        if inspect.isclass(value):
            parts += _members(value)
    return "\n\n".join(parts)


def _members(kind: type) -> Iterator[str]:
    """The fields of a class that its docstring does not list, then its methods and properties."""
    doc_of_class = inspect.getdoc(kind) or ""
    docs = {name: doc for name, doc in field_docs(kind).items() if doc and doc not in doc_of_class}
    if fields := [(f"`{name}`", doc) for name, doc in docs.items()]:
        yield _table(("field", "what it is"), fields)
    bases = [base for base in reversed(kind.__mro__) if base.__module__.startswith("almost_data")]
    for name, member in {name: vars(base)[name] for base in bases for name in vars(base)}.items():
        is_public = name == "__getitem__" or not (
            name.startswith("_") or name in inspect.get_annotations(kind)
        )
        if is_public and isinstance(member, FunctionType | classmethod | property):
            code = _code(name, getattr(kind, name))
            yield f"### {kind.__name__}.{name}\n\n{code}{inspect.getdoc(member) or ''}"


def _code(name: str, value: object) -> str:
    signature = _signature(value)
    return f"```pycon\n{name}{signature}\n```\n\n" if signature else ""


def _signature(value: object) -> str:
    """The arguments and what is returned, without the modules of the types."""
    try:
        signature = str(inspect.signature(value)) if callable(value) else ""  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return ""
    signature = re.sub(r"<(?:<lambda>|[^<>])* at 0x[0-9a-f]+>", "...", signature)
    return re.sub(r"\b(?:[a-z_][a-z0-9_]*\.)+(?=[A-Z])", "", signature)


def _fields(config: type) -> list[tuple[str, str, str]]:
    docs = field_docs(config)
    rows = []
    for field in msgspec.structs.fields(config):
        default = "required" if field.required else _default(field)
        rows.append((f"`{field.name}`", default, docs.get(field.name, "")))
    return rows


def _default(field: Any) -> str:
    value = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
    text = str(value).lower() if isinstance(value, bool) else value
    return "none" if value is None or value == () else f"`{text}`"


def _table(heading: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    cells = [heading, tuple("---" for _ in heading), *rows]
    return "\n".join(f"| {' | '.join(_cell(text) for text in row)} |" for row in cells)


def _cell(text: object) -> str:
    line = " ".join(str(text).split()).replace("|", "\\|")
    return re.sub("`[^`]*`|<", lambda part: "&lt;" if part[0] == "<" else part[0], line)
