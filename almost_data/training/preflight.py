"""What a recipe checks before the first step: what TRL would do without a word, or choke on late."""

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import polars as pl

from ..errors import InputError
from ..scoring import Dialogue
from .data import Messages, Source
from .trainers import batch_size

BATCH = 1024


@dataclass(frozen=True)
class Finding:
    """One line of the table: how bad it is, what was looked at, in how many rows, and what to do."""

    level: Literal["fine", "warn", "fatal"]
    check: str
    sentence: str
    rows: int | None = None
    share: float | None = None


class Preflight:
    """The findings so far. `done` prints them, and stops the recipe where one is fatal."""

    def __init__(self) -> None:
        self.findings: list[Finding] = []

    def say(self, check: str, sentence: str, level: Literal["fine", "warn", "fatal"] = "fine") -> None:
        self.findings.append(Finding(level, check, sentence))

    def count(
        self,
        check: str,
        rows: int,
        of: int,
        sentence: str,
        fatal_over: float | None = None,
        clean: str = "none",
    ) -> None:
        """A finding on rows: fine where there are none, fatal where their share is over `fatal_over`."""
        share = rows / max(1, of)
        fatal = fatal_over is not None and share > fatal_over
        level: Literal["fine", "warn", "fatal"] = "fatal" if fatal else "warn" if rows else "fine"
        self.findings.append(Finding(level, check, sentence if rows else clean, rows, share))

    def done(self, show: bool = True) -> list[dict[str, Any]]:
        """The findings as data, printed as a table first. Raises InputError for the first fatal one."""
        if show and os.environ.get("RANK", "0") == "0":  # one of several processes
            _print(self.findings)
        for one in self.findings:
            if one.level == "fatal":
                how_many = "" if one.rows is None else f"{one.rows:,} rows ({one.share:.0%}) "
                raise InputError(f"{one.check}: {how_many}{one.sentence}")
        return [asdict(one) for one in self.findings]


def check_dtype(preflight: Preflight, model_args: Any) -> None:
    """Whether the weights can take small steps."""
    if model_args.dtype in ("bfloat16", "float16") and not model_args.use_peft:
        preflight.say(
            "dtype",
            f"a full fine-tune of weights in {model_args.dtype} rounds small steps away: give --dtype "
            "float32 (--bf16 true computes in bfloat16 all the same), or --use_peft true",
            "warn",
        )


def token_counts(tokenizer: Any, dialogues: Iterable[Messages], **how: Any) -> list[int]:
    """Tokens of each dialogue in the tokenizer's chat template, as TRL's trainers count them."""
    every = list(dialogues)
    counts: list[int] = []
    for start in range(0, len(every), BATCH):
        some = every[start : start + BATCH]
        encoded = tokenizer.apply_chat_template(
            some, return_dict=True, tokenizer_kwargs={"verbose": False}, **how
        )
        counts += [len(ids) for ids in encoded["input_ids"]]
    return counts


def check_tokenizer(preflight: Preflight, tokenizer: Any, changed: Sequence[str]) -> None:
    """EOS, padding and template: what `template.prepare` found and did."""
    preflight.say("EOS token", f"`{tokenizer.eos_token}`, which the template writes after each reply")
    if not any("padding" in line for line in changed):
        preflight.say("padding token", f"`{tokenizer.pad_token}`")
    for line in changed:
        preflight.say("tokenizer", line, "warn")


def check_comparisons(
    preflight: Preflight, source: Source, rows: pl.DataFrame, tokenizer: Any, max_length: int | None
) -> pl.Series:
    """Checks comparisons that are to be trained on; returns which of them are short enough to be.

    TRL leaves out a comparison of which a side is longer than `max_length` tokens, without a word.
    """
    _source(preflight, source)
    if "margin" in source.columns:
        preflight.say(
            "margin", "a column `margin` would change TRL's loss without a word: it is left out", "warn"
        )
    text = {side: rows[side].list.last().struct.field("content") for side in ("chosen", "rejected")}
    same = int((text["chosen"] == text["rejected"]).sum())
    preflight.count(
        "same text", same, len(rows), "chosen and rejected are the same text: these teach nothing", 0.5
    )
    empty = int(((text["chosen"] == "") | (text["rejected"] == "")).sum())
    preflight.count(
        "empty side", empty, len(rows), "a side is empty: these teach that text beats no text", 0.5
    )
    _special(preflight, [rows[side] for side in ("prompt", "chosen", "rejected")], tokenizer)
    longest = longest_sides(tokenizer, rows)
    fits = pl.Series("fits", [max_length is None or tokens <= max_length for tokens in longest], pl.Boolean)
    long = int((~fits).sum())
    where = ""
    if long and "chosen_responder" in rows.columns:
        pairs = Counter(rows.filter(~fits).select("chosen_responder", "rejected_responder").iter_rows())
        where = "; most of " + ", ".join(f"{a} > {b} ({n:,})" for (a, b), n in pairs.most_common(3))
    preflight.count(
        "too long",
        long,
        len(rows),
        f"over max_length={max_length} tokens, so TRL leaves them out: raise it{where}",
        0.5,
        clean=f"the longest has {max(longest, default=0):,} tokens of max_length={max_length}",
    )
    return fits


def longest_sides(tokenizer: Any, rows: pl.DataFrame) -> list[int]:
    """Of each comparison, the tokens of the longer of its two dialogues."""
    sides = [
        token_counts(tokenizer, (p + one for p, one in rows.select("prompt", side).iter_rows()))
        for side in ("chosen", "rejected")
    ]
    return [max(pair) for pair in zip(*sides, strict=True)]


def check_dialogues(
    preflight: Preflight, source: Source, tokenizer: Any, max_length: int | None
) -> pl.Series:
    """Checks dialogues for SFT; returns which of them have a reply left after TRL cuts them at the end."""
    _source(preflight, source)
    rows = source.train
    every = rows["messages"].to_list()
    empty = sum(not turns[-1]["content"] for turns in every)
    preflight.count("empty reply", empty, len(rows), "the last reply is empty", 0.5)
    _special(preflight, [rows["messages"]], tokenizer)
    whole = token_counts(tokenizer, every)
    cut = sum(max_length is not None and tokens > max_length for tokens in whole)
    preflight.count(
        "cut",
        cut,
        len(rows),
        f"over max_length={max_length} tokens, so TRL cuts their end, EOS included: raise it",
        0.5,
        clean=f"the longest has {max(whole, default=0):,} tokens of max_length={max_length}",
    )
    return with_room(tokenizer, rows, max_length)


def with_room(tokenizer: Any, rows: pl.DataFrame, max_length: int | None) -> pl.Series:
    """Which dialogues have a token left that is learned: in the others, the prompt alone fills it."""
    prompts = (turns[: _first_reply(turns)] for turns in rows["messages"].to_list())
    before = token_counts(tokenizer, prompts, add_generation_prompt=True)
    return pl.Series("fits", [max_length is None or n < max_length for n in before], pl.Boolean)


def check_prompts(preflight: Preflight, source: Source, tokenizer: Any, most: int) -> pl.Series:
    """Checks prompts for PPO or RLOO; returns which of them are short enough."""
    _source(preflight, source)
    rows = source.train
    _special(preflight, [rows["prompt"]], tokenizer)
    lengths = token_counts(tokenizer, rows["prompt"].to_list(), add_generation_prompt=True)
    fits = pl.Series("fits", [tokens <= most for tokens in lengths], pl.Boolean)
    preflight.count(
        "long prompts",
        int((~fits).sum()),
        len(rows),
        f"over max_prompt_length={most} tokens, so they are left out: raise it",
        0.5,
        clean=f"the longest has {max(lengths, default=0):,} tokens of max_prompt_length={most}",
    )
    return fits


def check_batch(preflight: Preflight, rows: pl.DataFrame, args: Any) -> None:
    """Whether there is one whole batch of prompts: PPO takes no smaller one, and would wait for ever."""
    batch = batch_size(args)
    if len(rows) < batch:
        preflight.say(
            "batch",
            f"{len(rows)} prompts do not fill one batch of {batch}: lower per_device_train_batch_size or "
            "gradient_accumulation_steps, or take more prompts",
            "fatal",
        )


def check_policy(preflight: Preflight, policy: Any, reward: Any, shares_tokens: bool) -> None:
    """Policy's and reward model's tokenizers: PPO hands token ids over, RLOO text (`shares_tokens` False)."""
    if not policy.chat_template:
        preflight.say(
            "chat template", "the policy's tokenizer has none: train it with recipes/sft.py first", "fatal"
        )
    if policy.pad_token_id in (None, policy.eos_token_id):
        preflight.say(
            "padding token",
            "the policy pads with EOS or with nothing, so where a reply ends cannot be seen: train it with "
            "recipes/sft.py first",
            "fatal",
        )
    same = policy.get_vocab() == reward.get_vocab()
    ids = ("eos_token_id", "pad_token_id", "bos_token_id")
    other = [name for name in ids if getattr(policy, name) != getattr(reward, name)]
    if shares_tokens and (not same or other):
        what = ", ".join(other) or "vocabulary"
        preflight.say(
            "tokenizers",
            f"policy and reward model differ in {what}, and PPO hands token ids from one to the other: train "
            "both from one base model, or use recipes/rloo.py, which hands over text",
            "fatal",
        )
    elif not same:
        preflight.say("tokenizers", "policy and reward model have two; text is handed over", "warn")
    else:
        preflight.say("tokenizers", "policy and reward model share one")
    if policy.chat_template != reward.chat_template:
        preflight.say(
            "chat template",
            "the reward model was trained with another chat template than the policy: it would judge "
            "text of a form that it never saw; train both with these recipes",
            "fatal" if shares_tokens else "warn",
        )


def check_reward_sign(preflight: Preflight, scorer: Any, rows: pl.DataFrame | None) -> None:
    """Whether the reward model prefers the chosen side of a handful of comparisons that it should know."""
    if rows is None or not len(rows):
        preflight.say(
            "reward sign", "not checked: the reward model's comparisons are not in this store", "warn"
        )
        return
    turns = {
        f"{number} {side}": tuple(turn["content"] for turn in row["prompt"] + row[side])
        for number, row in enumerate(rows.iter_rows(named=True))
        for side in ("chosen", "rejected")
    }
    scores = {s.id: s.value for s in scorer.score([Dialogue(id, both) for id, both in turns.items()])}
    gaps = [scores[f"{n} chosen"] - scores[f"{n} rejected"] for n in range(len(rows))]
    right, mean = sum(gap > 0 for gap in gaps), sum(gaps) / len(gaps)
    told = f"on {len(gaps)} of its comparisons it prefers chosen in {right}, by {mean:+.3f} in the mean"
    bad = mean < 0 and right < len(gaps) / 2 and len(gaps) >= 8
    preflight.say(
        "reward sign",
        f"{told}: its sign is wrong, or it learned nothing; PPO would make the policy worse" if bad else told,
        "fatal" if bad else "fine" if mean > 0 else "warn",
    )


def _source(preflight: Preflight, source: Source) -> None:
    if not source.pinned:
        preflight.say(
            "revision",
            f"{source.parent.ref} was not pinned: the same command may train on other rows",
            "warn",
        )
    wrong, first = source.unusable
    preflight.count(
        "no dialogue", wrong, source.read, f"rows that cannot be read are left out; {first}", 0.05
    )
    if source.single_turn:
        told = f"{source.several_turns:,} of {source.read:,} rows have more than one user turn: left out"
        preflight.say("single turn", told)
    if source.leaked:
        preflight.count(
            "test in train",
            source.leaked,
            source.leaked + len(source.test),
            "of the test split begin like rows of the train split: they are left out of it",
        )


def _special(preflight: Preflight, talks: Sequence[pl.Series], tokenizer: Any) -> None:
    """Text in which a special token stands as a word would be read as that token."""
    marks = [one for one in tokenizer.all_special_tokens if len(one) > 1]
    spelt = pl.element().struct.field("content").str.contains_any(marks or ["\0"])
    rows = pl.DataFrame({str(place): talk for place, talk in enumerate(talks)})
    found = int(rows.select(pl.any_horizontal(pl.all().list.eval(spelt).list.any())).to_series().sum())
    preflight.count(
        "special tokens in text", found, len(rows), "text spells a special token, and is read as that token"
    )


def _first_reply(turns: Messages) -> int:
    return next((at for at, turn in enumerate(turns) if turn["role"] == "assistant"), len(turns))


def _print(findings: list[Finding]) -> None:
    from rich.table import Table

    from ..cards.markdown import clean
    from ..cli.console import console, text

    table = Table("before training", "rows", "share", "what it means", box=None, pad_edge=False)
    table.columns[1].justify = table.columns[2].justify = "right"
    styles = {"warn": "yellow", "fatal": "red", "fine": "green"}
    for one in findings:
        rows = "" if one.rows is None else f"{one.rows:,}"
        share = "" if one.share is None else f"{one.share:.1%}"
        table.add_row(text(one.check, style=styles[one.level]), rows, share, clean(one.sentence))
    console.print(table)
