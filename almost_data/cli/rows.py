"""Rows in boxes, as `sample`, `show` and `build` print them."""

from collections.abc import Mapping

from rich.console import Group
from rich.panel import Panel
from rich.text import Text

from ..cards.markdown import clean, short
from ..viewer.rows import PAIR, Row, Side, Turn, note_text
from .console import number, panel, text

STYLES = {"chosen": "bold green", "rejected": "bold red", "assistant": "bold green"}
NO_TEXT = "(the text is not in the store)"


def row_panel(row: Row, rules: Mapping[str, str], limit: int = 1000) -> Panel:
    """A row in a box: its turns and sides, each cut at `limit` characters, and why it was dropped.

    `rules` are the ledger's sentences by reason.
    """
    parts = [_turn(turn, len(row.prompt) == 1, limit) for turn in row.prompt]
    is_pair = [side.label for side in row.sides] == list(PAIR)
    parts += [part for side in row.sides for part in (Text(), _side(side, is_pair, limit))]
    if not row.sides:
        facts = {name: value for name, value in row.facts.items() if not name.endswith("_id")}
        values = {name: number(value) if isinstance(value, float) else value for name, value in facts.items()}
        line = ", ".join(f"{name}: {short(str(value), 60)}" for name, value in values.items())
        parts += [text(line, "dim")] if line else []
    rule = rules.get(row.reason or "")
    if row.reason:
        parts += [Text(), text(f"dropped {row.reason}" + (f": {rule}" if rule else ""), "yellow")]
    if notes := {name: note for name, note in row.notes.items() if note != rule}:
        parts += [Text()] if row.sides and not row.reason else []
        parts.append(text(short(note_text(notes), limit), "dim"))
    if ids := _other_ids(row):
        parts += [Text()] if row.sides and not row.reason and not notes else []
        parts.append(text(ids, "dim"))
    title = f"{'dropped ' if row.reason else ''}{_kind(row)}" + ("" if " " in row.id else f" {row.id}")
    return panel(Group(*parts), title, "yellow" if row.reason else "dim")


def _other_ids(row: Row) -> str:
    """The ids that are not in the title of the box, by what they name: query, chosen, rejected."""
    ids = {name: value for name, value in row.facts.items() if name.endswith("_id") and value != row.id}
    return ", ".join(f"{name.removesuffix('_id').removesuffix('_reply')} {ids[name]}" for name in ids)


def _kind(row: Row) -> str:
    labels = [side.label for side in row.sides]
    if labels == list(PAIR):
        return "comparison"
    if labels == ["response"]:
        return "response"
    return "dialogue" if len(row.prompt) > 1 else "query" if row.prompt else "row"


def _turn(turn: Turn, is_alone: bool, limit: int) -> Text:
    content = clean(short(turn["content"], limit))
    if is_alone:
        return Text(content, style="bold")
    return Text.assemble((f"{clean(turn['role'])} ", STYLES.get(turn["role"], "bold")), content)


def _side(side: Side, is_pair: bool, limit: int) -> Text:
    facts = [side.responder if side.responder != side.label else None]
    facts += [f"{side.measure} {number(side.score)}"] if side.score is not None else []
    facts += [f"{len(side.text):,} characters"] if side.text is not None and is_pair else []
    facts += [side.url]
    label = (f"{clean(side.label)} ", STYLES.get(side.label, "bold"))
    about = (clean(", ".join(fact for fact in facts if fact) + "\n"), "dim")
    absent = NO_TEXT if side.text is None else "" if side.text else "(no text)"
    content = (absent, "dim") if absent else (clean(short(side.text or "", limit)), "")
    return Text.assemble(label, about, content)
