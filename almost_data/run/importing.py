"""Import queries, responses or preferences from a file, a folder or a Hub dataset, checked row by row.

A mistake in the file is an InputError that names file, line and fix; nothing is written then. Rows
that are well-formed but cannot be used (duplicates, empty text) are dropped with a reason and kept.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import polars as pl

from ..builders import queries, responses
from ..builders.comparisons import imported
from ..builders.responses import check_names
from ..datasets.builder import Builder, Built, prompt_id, reply_id
from ..datasets.digest import Rows
from ..datasets.filters import Filter, chain
from ..datasets.ids import IdSet
from ..datasets.ledger import Entry, Unit
from ..datasets.manifest import BuilderId, Manifest
from ..datasets.spool import CARD_ROWS, Spool
from ..errors import InputError
from ..models.chat import Messages
from ..readers import files
from ..readers.conversations import stripped
from ..readers.elsewhere import check_elsewhere
from ..readers.fastchat import is_fastchat, response_rows
from ..readers.files import TABLE_SUFFIXES, WHOLE, HubPart
from ..readers.formats import Row
from ..readers.layout import SIDES, has_value
from ..readers.preferences import read_preferences
from ..readers.queries import COLUMNS, find_queries
from ..readers.reasons import REASONS, Unusable
from ..readers.responses import FINISHED, LONG, ONE_RESPONSE, find_columns, finish_columns
from ..store.publish import existing, new_manifest
from ..store.sources import file_of
from ..store.store import Store
from . import presets
from .build import publish_dataset
from .garbage import rare_collection

QUERY_SUFFIXES = (".txt", *TABLE_SUFFIXES)
_QUERY_REASONS = {
    "empty": "The row has no text.",
    "duplicate": "An earlier row has the same text; a repeated prompt is one query.",
}
_ROWS_FOR_NAMES = 100_000
"""So many rows are read for the names of a file's responders."""
_NAMES = 30
"""So many of them are printed."""
_RESPONSE_REASONS = {
    "not_in_ladder": "The row's responder is not one that the ladder names.",
    "no_prompt": "The row's prompt is empty.",
    "missing": "The responder has no text for this prompt.",
    "duplicate": "An earlier row has the same prompt and responder.",
}


@dataclass(frozen=True)
class Options:
    """What a user says of a source besides its name."""

    columns: Mapping[str, str] = field(default_factory=dict)
    """What a column holds -> its name; decides where it is given."""
    part: HubPart = WHOLE
    """Config and split of a Hub dataset."""
    card: presets.CardConfig = field(default_factory=presets.CardConfig)


@dataclass(frozen=True)
class _Source:
    """A source that was opened: its rows are read once."""

    name: str
    record: dict[str, str]
    options: Options
    columns: list[str]
    sample: Sequence[Mapping[str, Any]]
    rows: Iterator[Row]

    def read_as(self, described: str, columns: Sequence[str]) -> str:
        """How it is read, and which of its columns are none of these."""
        return described + files.not_read([name for name in self.columns if name not in columns])


class _RowCollector:
    """Rows that are imported and rows that are rejected, in files until they are published."""

    def __init__(self, folder: Path, builder: Builder, configs: Mapping[str, str]) -> None:
        """`configs`: config -> the table that it has."""
        tables = {name: builder.tables[table] for name, table in configs.items()}
        self.spools = {name: Spool(folder / name, table) for name, table in tables.items()}
        self.rejected = Spool(folder / "rejected", builder.tables["rejected"])
        self.reasons: Counter[str] = Counter()
        self.first_problem = ""

    def reject(self, row: Mapping[str, Any], reason: str, place: str, detail: str = "") -> None:
        """Keep a row that cannot be used; `detail` says more than its reason."""
        self.rejected.add({**row, "reason": reason})
        self.reasons[reason] += 1
        if not self.first_problem:
            explanation = "" if detail == REASONS.get(reason) else detail
            self.first_problem = ": ".join(filter(None, (Path(place).name, explanation)))

    def check(self, source: str, noun: str, sentences: Mapping[str, str]) -> None:
        """Raise InputError where no row is kept."""
        if not any(spool.rows for spool in self.spools.values()):
            rules = " ".join(f"{reason}: {(REASONS | dict(sentences))[reason]}" for reason in self.reasons)
            problem = f"every row is rejected ({rules.rstrip('.')}), such as {self.first_problem.rstrip('.')}"
            fix = "correct the rows, or name other columns in import.columns"
            raise InputError(f"{source}: no {noun} in it, as {problem}: {fix}")

    def tables(self) -> dict[str, Rows]:
        tables: dict[str, Rows] = {name: spool.by_query(CARD_ROWS) for name, spool in self.spools.items()}
        return tables | ({"rejected": self.rejected.in_order()} if self.rejected.rows else {})

    def ledger(self, unit: Unit, read_as: str, sentences: Mapping[str, str]) -> list[Entry]:
        """How rows are read, the rules that always hold, and those by which a row was rejected."""
        rules = {"layout": f"Rows are read as: {read_as}."} | REASONS | dict(sentences)
        names = dict.fromkeys(["layout", *sentences, *self.reasons])
        filters = [Filter(name, unit, rules[name], "almost_data") for name in names]
        rows = sum(spool.rows for spool in (*self.spools.values(), self.rejected))
        return chain("import", filters, rows, self.reasons)


def import_preferences(
    store: Store, file: str | Path, version: str, options: Options = Options()
) -> Manifest:
    """`comparisons@version` from preferences in any layout of `readers.layouts`, or by named columns.

    What exists from the same import is returned as it is. Raises InputError, as all imports do, for what
    cannot be read, naming file, line and fix.
    """
    file = file_of(store, file)
    record = files.record(file, TABLE_SUFFIXES, options.part)
    preferences = read_preferences(file, options.columns, options.part)
    settings = {"layout": preferences.layout.name}
    draft = _draft(imported.BUILDER, "preferences", version, record, settings, options)
    return _publish(store, imported.BUILDER, draft, lambda folder: imported.build(preferences, folder, file))


def import_queries(store: Store, file: str | Path, version: str, options: Options = Options()) -> Manifest:
    """`queries@version` from a text file (one a line), or a table with a column of prompts.

    A prompt is text, or a list of turns that ends in the user's.
    """
    file = file_of(store, file)
    source = _open(file, QUERY_SUFFIXES, COLUMNS, "query", options)
    query, system = options.columns.get("query"), options.columns.get("system")
    column = find_queries(source.columns, source.sample, file, query, system)

    def build(folder: Path) -> Built:
        collector = _RowCollector(folder, queries.BUILDER, {"default": "default"})
        ids = IdSet()
        for number, row in enumerate(source.rows):
            try:
                prompt = stripped(column.read(*row))
            except Unusable as error:
                reason = "empty" if error.reason == "no_prompt" else error.reason
                dropped: dict[str, Any] = {"query_id": prompt_id(()), "query": _as_text(row[1][column.name])}
                dropped |= {"source": "import", "candidate": number}
                collector.reject(dropped, reason, row[0], str(error))
                continue
            query_id = prompt_id(prompt)
            values = {"query_id": query_id, "source": "import"}
            if ids.add(query_id):
                collector.spools["default"].add(values | {"prompt": prompt})
                continue
            query = _as_text(prompt)
            nearest = {"query": query, "nearest": query, "score": 1.0, "candidate": number}
            collector.reject({**values, **nearest}, "duplicate", row[0])
        collector.check(file, "query", _QUERY_REASONS)
        read_as = source.read_as(f"query ({column.described})", column.columns)
        ledger = collector.ledger("query", read_as, _QUERY_REASONS)
        return Built(collector.tables(), ledger, _of_queries(collector.spools["default"].scan()))

    draft = _draft(queries.BUILDER, "queries", version, source.record, {}, options)
    return _publish(store, queries.BUILDER, draft, build)


def import_responses(
    store: Store, file: str | Path, ladder: list[str], version: str, options: Options = Options()
) -> Manifest:
    """`responses@version` from a table, wide or long.

    Wide rows have a prompt and one column per responder of `ladder`; long rows have a prompt, `responder` and
    `response`. `finish_reason` of long rows and `RESPONDER_finish_reason` of wide ones say how a reply ended.
    `ladder` names the responders, best first: as the file does, or `NAME=NAME IN THE FILE`, which gives one
    another name. A reply is text, a turn of the assistant, or a whole conversation, whose last turn is the
    response.
    """
    file = file_of(store, file)
    names = _ladder_names(ladder)
    rows = response_rows(file) if is_fastchat(file) else None
    needed = COLUMNS | {*names, *LONG, *FINISHED, *finish_columns(None, names)}
    source = _open(file, TABLE_SUFFIXES, needed, "prompt", options, rows)
    if not names:
        check_elsewhere(source.columns, file)
        raise InputError(_ladder_question(source))
    columns = find_columns(source.columns, source.sample, file, names, options.columns)
    ranks = {name: rank for rank, name in enumerate(names.values())}

    def build(folder: Path) -> Built:
        collector = _RowCollector(folder, responses.BUILDER, dict.fromkeys(ranks, "default"))
        responders: set[str] = set()
        problems: dict[str, str] = {}  # responder -> its first
        ids = IdSet()
        prompt: Messages | None = None
        query_id = ""
        for number, row in enumerate(source.rows):
            for response in columns.read(row):
                responders.add(response.responder)
                if response.prompt is not prompt:  # the responses of a row have one prompt
                    prompt, query_id = response.prompt, prompt_id(response.prompt)
                reply = reply_id(query_id, response.responder)
                values = {
                    "query_id": query_id,
                    "prompt": response.prompt,
                    "responder": response.responder,
                    "rank": ranks.get(response.responder),
                    "response": response.text,
                    "finish_reason": response.finish_reason,
                    "reply_id": reply,
                    "row": number,
                }
                if reason := response.reason or (None if ids.add(reply) else "duplicate"):
                    collector.reject(values, reason, row[0], response.detail)
                    detail = response.detail or (_RESPONSE_REASONS | REASONS)[reason]
                    problems.setdefault(response.responder, f"{Path(row[0]).name}: {detail.rstrip('.')}")
                else:
                    collector.spools[response.responder].add(values)
        if absent := next((written for written, name in names.items() if name not in responders), None):
            present = f"; it has {', '.join(sorted(responders)[:_NAMES])}" if columns.reply else ""
            raise InputError(f"{file}: no row of responder {absent!r}, which import.ladder names{present}")
        collector.check(file, "usable response", _RESPONSE_REASONS)
        if mute := next((name for name, spool in collector.spools.items() if not spool.rows), None):
            raise InputError(
                f"{file}: no usable response of {mute!r}, such as {problems[mute]}: correct the rows"
            )
        read_as = source.read_as(columns.described, columns.columns)
        ledger = collector.ledger("response", read_as, _RESPONSE_REASONS)
        by_responder = responses.summaries(collector.spools)
        return Built(collector.tables(), ledger, {"responders": by_responder})

    renamed = {name: written for written, name in names.items() if name != written}
    settings = {"ladder": list(ranks), **({"names_in_file": renamed} if renamed else {})}
    draft = _draft(responses.BUILDER, "responses", version, source.record, settings, options)
    return _publish(store, responses.BUILDER, draft, build)


def _ladder_question(source: _Source) -> str:
    """The error of an import without a ladder: it names the responders to be ordered."""
    if (column := source.options.columns.get("responder", "responder")) in source.columns:
        written = (
            str(row[column]) for _, row in islice(source.rows, _ROWS_FOR_NAMES) if has_value(row.get(column))
        )
        names, instruction = sorted(set(written)), "name the responders, best first; the file has"
    else:
        names = sorted(set(source.columns) - COLUMNS - {*LONG})
        names = [name for name in names if not any(word in name for word in FINISHED)]
        instruction = f"name the columns of the responders, best first; {source.name} has"
    rest = f" and {len(names) - _NAMES} more" if names[_NAMES:] else ""
    listed = ", ".join(names[:_NAMES]) + rest
    odd = next((name for name in names if not responses.NAME.fullmatch(name)), None)
    fix = f"; for one with other signs than letters, digits, '.', '_' and '-': NAME={odd}" if odd else ""
    wide = "" if column in source.columns else f"; {ONE_RESPONSE}"
    return f"import.ladder is missing: {instruction}: {listed}{fix}{wide}"


def _ladder_names(ladder: Sequence[str]) -> dict[str, str]:
    """A responder's name in the file -> its name in the dataset, best first."""
    if not isinstance(ladder, list | tuple) or not all(isinstance(name, str) for name in ladder):
        raise InputError(f"import.ladder {ladder!r}: give a list of names, best first")
    if not ladder:
        return {}
    if set(SIDES) <= set(ladder):
        raise InputError(
            "import.ladder: a file of chosen and rejected is read by `import preferences`, and `build "
            "filtered` filters it"
        )
    parts = [name.partition("=") for name in ladder]
    check_names([name for name, _, _ in parts])
    if comma := next((name for name in ladder if "," in name), None):
        raise InputError(f"import.ladder {comma!r}: rename it in the file, to a name without a comma")
    names = {written or name: name for name, _, written in parts}
    if len(names) < len(ladder):
        raise InputError("import.ladder: name each responder of the file once")
    if clash := {"prompt", *LONG} & {*names, *names.values()}:
        raise InputError(f"import.ladder: {min(clash)!r} is a column of its own: name responders")
    if len(ladder) < 2:
        raise InputError("import.ladder: name at least two responders, best first")
    return names


def _open(
    file: str,
    suffixes: tuple[str, ...],
    needed: frozenset[str],
    setting: str,
    options: Options,
    rows: Iterator[Row] | None = None,
) -> _Source:
    """A source of which the columns are known, `setting` being the prompt's in `import.columns`.

    Raises InputError where it has no row.
    """
    record = files.record(file, suffixes, options.part)
    needed = needed | set(options.columns.values())
    needs: files.Needs = needed.__contains__
    if setting not in options.columns:
        fix = f"say which column holds the {setting}: import.columns {setting}=NAME"
        needs = files.without_images(needed, file, fix)
    opened = files.open_rows(
        lambda needs: rows or files.read_rows(file, suffixes, needs, part=options.part), needs
    )
    if not opened.sample:
        raise InputError(f"{file}: no row in it")
    return _Source(file, record, options, opened.columns, opened.sample, opened.rows)


def _as_text(prompt: Any) -> str:
    """A prompt, or a cell that is none, as text: a single turn's text, else JSON."""
    if isinstance(prompt, tuple) and len(prompt) == 1:
        return str(prompt[0]["content"])
    if isinstance(prompt, str):
        return prompt.strip()
    return msgspec.json.encode(prompt).decode() if prompt else ""


def _of_queries(rows: pl.LazyFrame) -> dict[str, Any]:
    characters = pl.col("prompt").list.eval(pl.element().struct.field("content").str.len_chars()).list.sum()
    several = (pl.col("prompt").list.len() > 1).mean()
    numbers = rows.select(several_turns=several, mean_prompt_chars=characters.mean())
    return dict(numbers.collect().row(0, named=True))


def _draft(
    builder: Builder,
    kind: str,
    version: str,
    record: dict[str, str],
    settings: dict[str, Any],
    options: Options,
) -> Manifest:
    """The dataset before it has rows; `kind` is what was imported."""
    columns = {"columns": dict(options.columns)} if options.columns else {}
    config = {"settings": settings | columns, "file": record, "card": msgspec.to_builtins(options.card)}
    ref = f"{builder.name}@{version}"
    return new_manifest("dataset", ref, BuilderId(f"import-{kind}", 1), config, [], builder.tables)


def _publish(store: Store, builder: Builder, draft: Manifest, build: Callable[[Path], Built]) -> Manifest:
    """The dataset of that recipe; `build` is called with a folder for its rows, where there is none yet."""
    store.sweep()
    with store.lock(draft.ref):
        if present := existing(store, draft):
            return present
        with store.scratch(f"{draft.ref}.rows") as folder, rare_collection():
            return publish_dataset(store, builder, draft, [], build(folder), {})
