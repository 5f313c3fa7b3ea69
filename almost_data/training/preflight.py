"""Checks before the first training step: what TRL would do silently, or fail on late."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import polars as pl

from ..errors import InputError
from ..models.device import default_device, has_bfloat16
from .data import Source
from .shapes import Messages, first_prompts

Level = Literal["fine", "warn", "fatal"]
BATCH = 1024


@dataclass(frozen=True)
class Finding:
    """The result of one check: how bad it is, the rows concerned, and what to do."""

    level: Level
    check: str
    sentence: str
    rows: int | None = None
    share: float | None = None


@dataclass
class Preflight:
    """The findings of a recipe's checks, in order."""

    findings: list[Finding] = field(default_factory=list)

    def add(self, check: str, sentence: str, level: Level = "fine") -> None:
        self.findings.append(Finding(level, check, sentence))

    def add_rows(
        self, check: str, rows: int, total: int, sentence: str, fatal_over: float = 1.0, clean: str = "none"
    ) -> None:
        """Adds a finding on rows: fine (`clean`) for none, fatal where their share exceeds `fatal_over`."""
        share = rows / max(1, total)
        level: Level = "fatal" if share > fatal_over else "warn" if rows else "fine"
        self.findings.append(Finding(level, check, sentence if rows else clean, rows, share))

    def require(self) -> None:
        """Raise InputError for the first fatal finding."""
        for finding in self.findings:
            if finding.level == "fatal":
                rows = "" if finding.rows is None else f"{finding.rows:,} rows ({finding.share:.0%}) "
                raise InputError(f"{finding.check}: {rows}{finding.sentence}")

    def record(self) -> list[dict[str, Any]]:
        """The findings as a manifest holds them."""
        return [asdict(finding) for finding in self.findings]


def check_dtype(checks: Preflight, args: Any, model_args: Any) -> None:
    """Warns of weights that cannot take small steps, and of bfloat16 on a CPU that lacks it."""
    if model_args.dtype in ("bfloat16", "float16") and not model_args.use_peft:
        sentence = (
            f"a full fine-tune of {model_args.dtype} weights rounds small steps away: set dtype float32 "
            "(bf16 true still computes in bfloat16), or use_peft true"
        )
        checks.add("dtype", sentence, "warn")
    is_bfloat16 = args.bf16 or model_args.dtype == "bfloat16"
    if is_bfloat16 and default_device() == "cpu" and not has_bfloat16("cpu"):
        sentence = (
            "this CPU has no instructions for bfloat16, so that a step takes much longer: set dtype float32 "
            "and bf16 false"
        )
        checks.add("bfloat16", sentence, "warn")


def check_tokenizer(checks: Preflight, tokenizer: Any, changes: Sequence[str]) -> None:
    """Records EOS, padding, and what `template.prepare` changed."""
    checks.add("EOS token", f"`{tokenizer.eos_token}`, which the template writes after each reply")
    if not any("padding" in change for change in changes):
        checks.add("padding token", f"`{tokenizer.pad_token}`")
    for change in changes:
        checks.add("tokenizer", change, "warn")


def check_comparisons(
    checks: Preflight, source: Source, rows: pl.DataFrame, tokenizer: Any, max_length: int | None
) -> pl.Series:
    """Checks the comparisons to train on; returns which are short enough.

    Of a comparison with a side of more than `max_length` tokens, RewardTrainer silently takes none, and
    DPOTrainer silently cuts the end.
    """
    _check_source(checks, source)
    if "margin" in source.columns:
        checks.add("margin", "a column `margin` would silently change TRL's loss: it is left out", "warn")
    _check_special_tokens(checks, [rows[side] for side in ("prompt", "chosen", "rejected")], tokenizer)
    lengths = longest_sides(tokenizer, rows)
    fits = _fits(lengths, max_length)
    pairs = ""
    if not fits.all() and "chosen_responder" in rows.columns:
        responders = rows.filter(~fits).select("chosen_responder", "rejected_responder").iter_rows()
        common = Counter(responders).most_common(3)
        pairs = "; most of " + ", ".join(f"{a} > {b} ({n:,})" for (a, b), n in common)
    effect = f"they are left out: raise it{pairs}"
    return _check_lengths(checks, "too long", lengths, f"max_length={max_length}", fits, effect)


def check_boundary(checks: Preflight, rows: pl.DataFrame, tokenizer: Any) -> None:
    """Counts comparisons with a token across the end of the prompt: TRL's DPO would learn it as a reply's."""
    prompts = list(token_ids(tokenizer, rows["prompt"].to_list(), add_generation_prompt=True))
    sides = (token_ids(tokenizer, dialogues_of(rows, side)) for side in ("chosen", "rejected"))
    joined = sum(
        any(whole[: len(prompt)] != prompt for whole in pair)
        for prompt, *pair in zip(prompts, *sides, strict=True)
    )
    sentence = (
        "a token holds the end of the prompt and the beginning of a reply: TRL learns it with the reply"
    )
    checks.add_rows("boundary of prompt and reply", joined, len(rows), sentence, 0.5)


def check_dialogues(checks: Preflight, source: Source, tokenizer: Any, max_length: int | None) -> pl.Series:
    """Checks dialogues for SFT; returns which keep part of a reply after TRL cuts their end."""
    _check_source(checks, source)
    dialogues = source.train["messages"].to_list()
    _check_special_tokens(checks, [source.train["messages"]], tokenizer)
    lengths = token_counts(tokenizer, dialogues)
    effect = "TRL cuts their end, EOS included: raise it"
    fits = _fits(lengths, max_length)
    _check_lengths(checks, "cut", lengths, f"max_length={max_length}", fits, effect)
    return has_room(tokenizer, source.train, max_length)


def check_prompts(checks: Preflight, source: Source, tokenizer: Any, max_length: int) -> pl.Series:
    """Checks prompts for PPO or RLOO; returns which are short enough."""
    _check_source(checks, source)
    prompts = source.train["prompt"]
    _check_special_tokens(checks, [prompts], tokenizer)
    lengths = token_counts(tokenizer, prompts.to_list(), add_generation_prompt=True)
    limit, effect = f"max_prompt_length={max_length}", "they are left out: raise it"
    return _check_lengths(checks, "long prompts", lengths, limit, _fits(lengths, max_length), effect)


def longest_sides(tokenizer: Any, rows: pl.DataFrame) -> list[int]:
    """Tokens of each comparison's longer dialogue."""
    sides = (token_counts(tokenizer, dialogues_of(rows, side)) for side in ("chosen", "rejected"))
    return [max(pair) for pair in zip(*sides, strict=True)]


def dialogues_of(rows: pl.DataFrame, side: str) -> Iterator[Messages]:
    """Each comparison's prompt with the reply of one side."""
    return (prompt + reply for prompt, reply in rows.select("prompt", side).iter_rows())


def has_room(tokenizer: Any, rows: pl.DataFrame, max_length: int | None) -> pl.Series:
    """Whether `max_length` leaves room after each dialogue's prompt for a token of the reply."""
    lengths = token_counts(tokenizer, first_prompts(rows["messages"]).to_list(), add_generation_prompt=True)
    return _fits(lengths, max_length and max_length - 1)


def token_counts(tokenizer: Any, dialogues: Iterable[Messages], **options: Any) -> list[int]:
    """Tokens of each dialogue in the tokenizer's chat template, as TRL's trainers count them."""
    return [len(ids) for ids in token_ids(tokenizer, dialogues, **options)]


def token_ids(tokenizer: Any, dialogues: Iterable[Messages], **options: Any) -> Iterator[list[int]]:
    """Each dialogue as token ids, in the tokenizer's chat template."""
    dialogues = list(dialogues)
    for start in range(0, len(dialogues), BATCH):
        batch = dialogues[start : start + BATCH]
        encoded = tokenizer.apply_chat_template(
            batch, return_dict=True, tokenizer_kwargs={"verbose": False}, **options
        )
        yield from encoded["input_ids"]


def _check_source(checks: Preflight, source: Source) -> None:
    checks.add("read as", source.read_as)
    sentence = f"rows that cannot be read are left out: {source.rejects}"
    checks.add_rows("no dialogue", source.unusable[0], source.read, sentence, 0.05)
    if source.single_turn:
        sentence = f"{source.several_turns:,} of {source.read:,} rows have more than one user turn: left out"
        checks.add("single turn", sentence)
    if source.leaked:
        sentence = "rows of the test split have a prompt of the train split: left out of the test split"
        checks.add_rows("test in train", source.leaked, source.leaked + len(source.test), sentence)


def _check_special_tokens(checks: Preflight, columns: Sequence[pl.Series], tokenizer: Any) -> None:
    """Counts rows whose text spells a special token."""
    spellings = [token for token in tokenizer.all_special_tokens if len(token) > 1]
    has_spelling = pl.element().struct.field("content").str.contains_any(spellings or ["\0"])
    rows = pl.DataFrame({str(number): column for number, column in enumerate(columns)})
    matches = rows.select(pl.any_horizontal(pl.all().list.eval(has_spelling).list.any())).to_series()
    sentence = "text spells a special token, and is read as that token"
    checks.add_rows("special tokens in text", int(matches.sum()), len(rows), sentence)


def _check_lengths(
    checks: Preflight, check: str, lengths: list[int], limit: str, fits: pl.Series, effect: str
) -> pl.Series:
    """Counts what does not fit; returns `fits`."""
    sentence = f"over {limit} tokens, so {effect}"
    clean = f"the longest has {max(lengths, default=0):,} tokens of {limit}"
    checks.add_rows(check, len(fits) - int(fits.sum()), len(fits), sentence, 0.5, clean)
    return fits


def _fits(lengths: list[int], limit: int | None) -> pl.Series:
    return pl.Series("fits", [limit is None or length <= limit for length in lengths], pl.Boolean)
