"""A row as people look at it, of any dataset: the prompt's turns, texts side by side, why it was dropped.

The columns decide what is shown, so a dataset of another package's builder is shown as the built-in ones are.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ..cards.markdown import short

Turn = Mapping[str, str]
PROMPTS = ("messages", "prompt", "query")
"""Columns that hold what came before the texts, the first that a row has."""
PAIR = ("chosen", "rejected")
SCORES = ("{}_score", "{}_rating")
"""Columns that score a side."""
REPLY_SCORES = ("score", "rating", "rm_score")
NOTES = (
    *("place", "error", "detail", "nearest", "finish_reason", "chosen_finish_reason"),
    *("verdict", "swapped_verdict", "explanation", "swapped_explanation"),
)
"""Columns that say where a row stands in its file, and more of why it was dropped, or rated so."""
ADDED = ("config", "split")
"""Columns that a selection adds to the stored ones."""
MOST_CHARS = 320
"""Of a text in `Row.text`."""


@dataclass(frozen=True)
class Side:
    """A text, who wrote it, and its score or rating."""

    label: str
    text: str | None
    """None where the store does not have it."""
    responder: str | None = None
    score: float | None = None
    measure: str = "score"
    """What `score` is: `rating` where a reward model or a judge gave it."""
    url: str | None = None
    """Where it was published."""


@dataclass(frozen=True)
class Row:
    """A row of any dataset."""

    id: str
    config: str
    split: str
    prompt: tuple[Turn, ...]
    sides: tuple[Side, ...]
    """The sides of a pair, the responses to a query, or the text columns of a row of another shape."""
    reason: str | None = None
    """Why it was dropped; None of a row that was kept."""
    notes: Mapping[str, str] = field(default_factory=dict)
    """What a column of `NOTES`, or a responder's rater, says of it."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Its other columns, with those of its ids where it has several."""
    change: Literal["gained", "lost"] | None = None
    """Of two versions: whether only the newer or only the older one has it."""

    @property
    def text(self) -> str:
        """The beginning of the prompt's last turn, and of each side."""
        parts = [(turn["role"], turn["content"]) for turn in self.prompt[-1:]]
        parts += [(side.label, side.text) for side in self.sides if side.text is not None]
        return "\n".join(f"{label}: {short(text, MOST_CHARS)}" for label, text in parts)


def turns(value: Any) -> tuple[Turn, ...]:
    """Turns of a list of messages, or of a text; none of None.

    >>> turns("Is tea a fruit?")
    ({'role': 'user', 'content': 'Is tea a fruit?'},)
    """
    if isinstance(value, str):
        return ({"role": "user", "content": value},)
    return tuple(value or ())


def text_of(value: Any) -> str | None:
    """A text, or the text of the last turn of messages."""
    messages = turns(value)
    return messages[-1]["content"] if messages else None


def note_text(notes: Mapping[str, str]) -> str:
    """
    >>> note_text({"place": "line 3", "detail": "It has no reply."})
    'place: line 3; detail: It has no reply.'
    """
    return "; ".join(f"{name}: {text}" for name, text in notes.items())


def row_of(values: Mapping[str, Any], key: Iterable[str]) -> Row:
    """The row of a dictionary of its columns, `config` and `split` among them; `key` are its ids."""
    key = tuple(key)
    ids = ("comparison_id",) if values.get("comparison_id") else key
    used = {*PROMPTS, *PAIR, "response", "reason", "responder", *ADDED}
    used |= set(ids) if len(ids) == 1 else set()
    prompt = _first(values, PROMPTS)
    sides, columns = _sides(values)
    if not sides and prompt is None:
        texts = {name: value for name, value in values.items() if isinstance(value, str) and name not in used}
        sides, columns = tuple(Side(name, value) for name, value in texts.items()), set(texts)
    notes = {name: str(values[name]) for name in NOTES if values.get(name) and name not in columns}
    facts = {name: value for name, value in values.items() if value is not None}
    return Row(
        id=" ".join(str(values[name]) for name in ids if values.get(name) is not None),
        config=values["config"],
        split=values["split"],
        prompt=turns(prompt),
        sides=sides,
        reason=values.get("reason"),
        notes=notes,
        facts={name: value for name, value in facts.items() if name not in used | columns | {*NOTES}},
    )


def replies_row(rows: list[Mapping[str, Any]]) -> Row:
    """The responses to one query as a row."""
    first = rows[0]
    sides = tuple(
        Side(row["responder"], row["response"], row["responder"], *_score(row, REPLY_SCORES)) for row in rows
    )
    notes = {row["responder"]: row["explanation"] for row in rows if row.get("explanation")}
    id, config, split = (first[name] for name in ("query_id", *ADDED))
    facts = {"responses": len(rows)}
    return Row(id, config, split, turns(_first(first, PROMPTS)), sides, notes=notes, facts=facts)


def _sides(values: Mapping[str, Any]) -> tuple[tuple[Side, ...], set[str]]:
    """The sides of a pair or of a response, and the columns that they took."""
    if "chosen" in values:
        scores = {side: [name.format(side) for name in SCORES] for side in PAIR}
        sides = tuple(
            Side(
                side,
                text_of(values[side]),
                values.get(f"{side}_responder"),
                *_score(values, scores[side]),
                values.get(f"{side}_url"),
            )
            for side in PAIR
        )
        used = {f"{side}_responder" for side in PAIR} | {name for names in scores.values() for name in names}
        return sides, used
    if "response" in values:
        score = _score(values, REPLY_SCORES)
        return (Side("response", values["response"], values.get("responder"), *score),), set(REPLY_SCORES)
    if "text" in values:
        return (Side("row", values["text"]),), {"text"}
    return (), set()


def _score(values: Mapping[str, Any], names: Iterable[str]) -> tuple[float | None, str]:
    """The first of these numbers that a row has, and what to call it."""
    name = next((name for name in names if values.get(name) is not None), "")
    return values.get(name), "rating" if name.endswith("rating") else "score"


def _first(values: Mapping[str, Any], names: Iterable[str]) -> Any:
    return next((values[name] for name in names if values.get(name) is not None), None)
