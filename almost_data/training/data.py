"""Where a recipe's rows come from: a dataset of the store or of the Hub, pinned, in whatever shape it has.

Whatever the shape, what comes out is messages, so that one chat template writes all of it.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Any

import polars as pl

from .. import hub
from ..datasets.builder import text_id
from ..datasets.digest import splits
from ..datasets.filters import Filter, chain
from ..datasets.manifest import Entry, Manifest, Parent, Unit
from ..errors import InputError
from ..store.names import HUB_ID, parse_ref
from ..store.store import Store
from .arguments import Inputs

Message = dict[str, str]
Messages = list[Message]

_HH_TURN = re.compile(r"\n\n(Human|Assistant):[ ]?")
_ROLES = {"Human": "user", "Assistant": "assistant"}


@dataclass(frozen=True)
class Source:
    """Rows of a dataset, and what says which rows these are."""

    parent: Parent
    """`name@version`; of a Hub dataset that is not ours `ORG/NAME@COMMIT`, and the digest is its commit."""
    revision: str | None
    """Commit on the Hub."""
    config: str | None
    pinned: bool
    """Whether the same command will find the same rows."""
    train: pl.DataFrame
    test: pl.DataFrame
    columns: frozenset[str]
    manifest: Manifest | None = None
    """Where the dataset is one of ours."""
    has_test: bool = True
    """Whether it came with a test split; otherwise one is made by hash of the prompt."""
    read: int = 0
    """Rows of the train split, before any was left out."""
    unusable: tuple[int, str] = (0, "")
    """How many rows of the train split have no dialogue that can be read, and why not the first."""
    leaked: int = 0
    """Rows of the test split that are left out, as their dialogue begins like one of the train split."""
    splits: tuple[str, str] = ("train", "test")
    """What the two are called where a row is named."""
    single_turn: bool = False
    """Whether only rows are wanted whose prompt is one user turn, in both splits."""
    several_turns: int = 0
    """Rows of the train split that are left out for it."""
    repeated: int = 0
    """Rows of the train split whose prompt stands in an earlier one, where each prompt is wanted once."""

    def record(self) -> dict[str, Any]:
        """What a model's manifest says of it."""
        return {
            "ref": self.parent.ref,
            "config": self.config,
            "revision": self.revision,
            "pinned": self.pinned,
        }


def open_dataset(inputs: Inputs) -> Source:
    """The rows of `name@version` in the store, or of `ORG/NAME` on the Hub at a tag or commit.

    Raises InputError where there is no such dataset, and for a Hub dataset without a revision, unless
    `allow_unpinned`.
    """
    return replace(_opened(inputs), single_turn=inputs.single_turn)


def _opened(inputs: Inputs) -> Source:
    dataset, revision = inputs.dataset, inputs.dataset_revision
    name, at, asked = dataset.partition("@")
    what = (inputs.dataset_config, inputs.dataset_train_split, inputs.dataset_test_split)
    if "/" not in name or not HUB_ID.fullmatch(dataset):
        if revision:
            raise InputError(f"--dataset_revision goes with a Hub dataset, and {dataset!r} is none")
        return from_store(inputs.store, dataset, *what)
    if at and revision and asked != revision:
        raise InputError(f"--dataset {dataset} --dataset_revision {revision}: name one revision")
    revision = revision or asked or None
    if revision is None and not inputs.allow_unpinned:
        raise InputError(
            f"{name}: no revision, so nobody could say what was trained on; give --dataset_revision v1.0.0 "
            "(a tag or a commit), or --allow_unpinned true, which the model card will say"
        )
    return from_hub(inputs.store, name, revision, *what)


def from_store(
    store: Store, ref: str, config: str | None, train: str, test: str, flag: str = "--dataset"
) -> Source:
    """Two splits of a dataset of the store. Raises InputError where it is none, or the first has no row."""
    parse_ref(ref)
    manifest = store.manifest(ref)
    if manifest.kind != "dataset":
        raise InputError(f"{ref} is a {manifest.kind}, and {flag} wants a dataset")
    config = config or "default"
    if config not in manifest.counts:
        raise InputError(f"{ref} has no config {config!r}; it has: {', '.join(manifest.counts)}")
    found = {split: store.scan(ref, config, split).collect() for split in (train, test)}
    if not len(found[train]):
        raise InputError(f"{ref}: no rows in split {train!r} of config {config!r}")
    parent = Parent(ref, manifest.digest, manifest.fingerprint)
    columns = frozenset(found[train].columns)
    return Source(parent, None, config, True, found[train], found[test], columns, manifest)


def from_hub(
    store: Store,
    name: str,
    revision: str | None,
    config: str | None,
    train: str,
    test: str,
    flag: str = "--dataset_train_split",
) -> Source:
    """Two splits of a dataset on the Hub. What we pushed is taken into the store, and so held to its digest.

    Raises InputError where it cannot be had, or has not the first split.
    """
    import datasets
    from huggingface_hub import HfApi

    at = f"{name}@{revision}" if revision else name
    # The libraries' own messages are long, and may quote headers or addresses.
    try:
        info = HfApi().dataset_info(name, revision=revision, timeout=20)
        commit, files = str(info.sha), [one.rfilename for one in info.siblings or ()]
    except Exception as error:
        raise InputError(_unread(at, error)) from None
    try:
        pulled = hub.pull(store, f"{name}@{commit}", wait=True)  # with several GPUs each process asks for it
        found = from_store(store, pulled.ref, config, train, test)
        return replace(found, revision=commit, pinned=revision is not None)
    except hub.HubError as error:
        raise InputError(str(error)) from None
    except hub.NotOurs:
        pass
    try:
        datasets.disable_progress_bars()
        try:
            loaded = datasets.load_dataset(name, config, revision=commit)
        except ValueError:
            if not any(file.startswith(f"{config}/") for file in files):
                raise
            # HH-RLHF's parts are folders, and no configs.
            loaded = datasets.load_dataset(name, data_dir=config, revision=commit)
    except Exception as error:
        raise InputError(_unread(at, error)) from None
    finally:
        datasets.enable_progress_bars()
    if train not in loaded:
        raise InputError(f"{at}: no split {train!r}; it has: {', '.join(loaded)}: see {flag}")
    rows = {split: loaded[split].to_polars() for split in (train, test) if split in loaded}
    return Source(
        Parent(f"{name}@{commit}", f"commit:{commit}", ""),
        commit,
        config,
        revision is not None,
        rows[train],
        rows.get(test, rows[train].clear()),
        frozenset(rows[train].columns),
        None,
        test in rows,
    )


def _unread(at: str, error: Exception) -> str:
    why = re.sub(r"https?://\S+|hf_\w+", "…", " ".join(str(error).split()))[:160]
    return f"{at}: cannot be loaded from the Hub ({type(error).__name__}: {why})"


def account(unit: Unit, source: Source, **dropped: int) -> list[Entry]:
    """The ledger of a train split, from how many rows each rule of `RULES` was first to drop, in order."""
    wrong, several = source.unusable[0], source.several_turns
    held_out = source.read - wrong - several - source.repeated - len(source.train)
    first = {
        "no_dialogue": wrong,
        "several_turns": several,
        "held_out": held_out,
        "repeated": source.repeated,
    }
    asked = {"several_turns"} if source.single_turn else set()
    every = {name: n for name, n in first.items() if n or name in asked} | dropped
    return chain("training rows", [Filter(name, unit, *RULES[name]) for name in every], source.read, every)


RULES = {
    "no_dialogue": ("The row has no dialogue that can be read.", "almost_data"),
    "several_turns": (
        "Its prompt has more than one user turn, and `single_turn` asks for one; no such row is judged on.",
        "paper, Table 3",
    ),
    "held_out": (
        "By hash of its prompt the row is held out, as the dataset has no test split.",
        "almost_data",
    ),
    "repeated": ("An earlier row has the same prompt.", "almost_data"),
    "left_out_pair": ("Of the responder pair that is left out, to judge the model on.", "almost_data"),
    "too_long": ("A side has more tokens than the model is trained on.", "TRL"),
    "no_room": ("Its prompt leaves no room for a reply.", "TRL"),
    "prompt_too_long": ("It has more tokens than `max_prompt_length`.", "almost_data"),
    "over_limit": ("More rows than `limit` asks for; the others are drawn by the seed.", "almost_data"),
}
"""What takes rows out of a train split: a sentence, and who says so."""


# --- shapes --------------------------------------------------------------------------------------------


def comparisons(source: Source) -> Source:
    """The same rows as `query_id`, `prompt`, `chosen`, `rejected`, and the two responders where known.

    Takes every preference format of TRL: messages or text, with the prompt in a column of its own or at the
    head of both sides; and HH-RLHF's, where a whole dialogue is one text. `prompt` ends in a user's turn, and
    `chosen` and `rejected` are one turn of the assistant. Other rows are left out and counted. Raises
    InputError where no row has such a shape.
    """
    for column in ("chosen", "rejected"):
        if column not in source.columns:
            raise InputError(
                f"{source.parent.ref}: no column {column!r}, which comparisons have; "
                f"it has: {', '.join(sorted(source.columns))}"
            )
    return _shaped(source, _comparison, ("chosen_responder", "rejected_responder"))


def dialogues(source: Source) -> Source:
    """The same rows as `query_id` and `messages`, for SFT: each ends in the assistant's turn.

    Takes `messages`; `prompt` and `completion`; comparisons, of which the chosen side is learned; and
    responses (`prompt`, `response`). Raises InputError for anything else.
    """
    columns = source.columns
    shape: Callable[[dict[str, Any], str], dict[str, Any]]
    if "messages" in columns:
        shape = _dialogue
    elif found := next((one for one in ("completion", "response", "chosen") if one in columns), None):

        def shape(row: dict[str, Any], at: str) -> dict[str, Any]:
            if found == "chosen":
                return _told(_comparison(row, at), "chosen", at)
            return _told({"prompt": _turns(row.get("prompt"), "user", at), found: row[found]}, found, at)
    else:
        raise InputError(
            f"{source.parent.ref}: no dialogues in it: it has {', '.join(sorted(columns))}, and SFT reads "
            "messages, or prompt with completion, response or chosen"
        )
    return _shaped(source, shape)


def prompts(source: Source) -> Source:
    """The first user turns as `query_id` and `prompt` (one message), each once: what PPO and RLOO answer."""

    def first(row: dict[str, Any], at: str) -> dict[str, Any]:
        for column in ("messages", "prompt", "query"):
            if row.get(column):
                return {"prompt": _turns(row[column], "user", at)}
        if row.get("chosen") and row.get("rejected"):
            return {"prompt": _comparison(row, at)["prompt"]}
        raise InputError(f"{at}: no prompt in it: give messages, prompt or query")

    shaped = _shaped(source, first)

    def once(frame: pl.DataFrame) -> pl.DataFrame:
        some = frame.unique("query_id", keep="first", maintain_order=True)
        return some.with_columns(pl.col("prompt").list.head(1))

    train = once(shaped.train)
    return replace(shaped, train=train, test=once(shaped.test), repeated=len(shaped.train) - len(train))


def _shaped(
    source: Source,
    shape: Callable[[dict[str, Any], str], dict[str, Any]],
    keep: tuple[str, ...] = (),
) -> Source:
    """Every row in its new shape; where there is no test split, one by hash of the prompt's text.

    With `single_turn` only those of one user turn, in both splits; a system's turn is joined to it before.
    """

    def rows(
        frame: pl.DataFrame, split: str, wrong: list[str], several: list[int]
    ) -> Iterator[dict[str, Any]]:
        for number, row in enumerate(frame.iter_rows(named=True)):
            try:
                made = shape(row, f"{source.parent.ref}: {split} row {number}")
            except InputError as error:
                wrong.append(str(error))
                continue
            talk = made.get("prompt") or made["messages"]
            if source.single_turn and sum(turn["role"] == "user" for turn in talk) > 1:
                several.append(number)
                continue
            # Another dataset's query_id may be anything, and the split goes by a hash.
            ours = source.manifest and row.get("query_id")
            # The first turn, so that dialogues that begin alike, and those of RM and SFT, are split alike.
            query = ours or text_id(talk[0]["content"])
            yield {"query_id": query, **made, **{name: row.get(name) for name in keep}}

    keep = tuple(name for name in keep if name in source.columns)
    message = pl.List(pl.Struct({"role": pl.String, "content": pl.String}))
    types = dict.fromkeys(("prompt", "chosen", "rejected", "messages"), message)

    def frame(split: str, old: pl.DataFrame, wrong: list[str], several: list[int]) -> pl.DataFrame:
        made = list(rows(old, split, wrong, several))
        if wrong and not made and not several:
            raise InputError(wrong[0])
        names = dict.fromkeys(name for row in made for name in row)
        return pl.DataFrame(made, schema={name: types.get(name, pl.String()) for name in names})

    wrong: list[str] = []
    several: list[int] = []
    train = frame(source.splits[0], source.train, wrong, several)
    test = frame(source.splits[1], source.test, [], [])
    if several and not len(train):
        raise InputError(
            f"{source.parent.ref}: --single_turn: no row of one user turn: {len(several)} have more"
        )
    if len(train) and not source.has_test:
        both = splits(train)
        train, test = both.get("train", train.clear()), both.get("test", train.clear())
    if not len(train):
        left = len(source.train) - len(several)
        why = f"its {left} rows are held out, by hash of the prompt" if left else "no row"
        raise InputError(f"{source.parent.ref}: nothing to train on: {why}")
    test = test if len(test) else train.clear()
    leaked = test["query_id"].is_in(train["query_id"].unique().implode())
    test = test.filter(~leaked)
    unusable = (len(wrong), wrong[0] if wrong else "")
    return replace(
        source,
        train=train,
        test=test,
        read=len(source.train),
        unusable=unusable,
        several_turns=len(several),
        leaked=int(leaked.sum()),
    )


def _comparison(row: dict[str, Any], at: str) -> dict[str, Any]:
    chosen, rejected = (_turns(row[side], "assistant", at) for side in ("chosen", "rejected"))
    if row.get("prompt"):
        prompt = _turns(row["prompt"], "user", at)
        if chosen[: len(prompt)] == prompt:
            chosen, rejected = chosen[len(prompt) :], rejected[len(prompt) :]
    else:
        same = _common(chosen[:-1], rejected[:-1])
        prompt, chosen, rejected = same, chosen[len(same) :], rejected[len(same) :]
        if not prompt:
            prompt, chosen, rejected = _shared_text(chosen, rejected)
    sides = {"chosen": chosen, "rejected": rejected}
    for name, side in sides.items():
        if len(side) != 1 or side[0]["role"] != "assistant":
            raise InputError(
                f"{at}: {name} is not one turn of the assistant after the prompt: its turns are "
                f"{', '.join(turn['role'] for turn in side) or 'none'}"
            )
    if not prompt or prompt[-1]["role"] != "user":
        raise InputError(f"{at}: its prompt does not end in a user's turn")
    if prompt[0]["role"] != "user":
        raise InputError(f"{at}: its prompt does not begin with a user's turn")
    return {"prompt": prompt, **sides}


def _common(a: Messages, b: Messages) -> Messages:
    same = takewhile(lambda both: both[0] == both[1], zip(a, b, strict=False))
    return [turn for turn, _ in same]


def _shared_text(chosen: Messages, rejected: Messages) -> tuple[Messages, Messages, Messages]:
    """Two plain texts without a prompt of their own: it is what both begin with, up to a line or a word."""
    if len(chosen) != 1 or len(rejected) != 1:
        return [], chosen, rejected
    texts = [one[0]["content"] for one in (chosen, rejected)]
    shared = "".join(a for a, b in takewhile(lambda both: both[0] == both[1], zip(*texts, strict=False)))
    cut = shared.rfind("\n") + 1 or shared.rfind(" ") + 1
    if not shared[:cut].strip():
        return [], chosen, rejected
    first, second = ([{"role": "assistant", "content": text[cut:].strip()}] for text in texts)
    return [{"role": "user", "content": shared[:cut].strip()}], first, second


def _dialogue(row: dict[str, Any], at: str) -> dict[str, Any]:
    turns = _turns(row["messages"], "user", at)
    if turns[-1]["role"] != "assistant":
        raise InputError(f"{at}: its messages do not end in the assistant's turn")
    return {"messages": turns}


def _told(row: dict[str, Any], reply: str, at: str) -> dict[str, Any]:
    return _dialogue({"messages": [*row["prompt"], *_turns(row[reply], "assistant", at)]}, at)


def _turns(value: Any, role: str, at: str) -> Messages:
    """Messages, a system's joined to the user's that follows and a role's that stand in a row to one.

    A text is one turn of `role`, or HH-RLHF's dialogue where it is one.
    """
    if isinstance(value, str):
        pieces = _HH_TURN.split(value)
        talk = [(role, value)]
        if len(pieces) > 1 and not pieces[0].strip():
            talk = [(_ROLES[who], text) for who, text in zip(pieces[1::2], pieces[2::2], strict=True)]
            if role == "user" and talk[-1][0] == "assistant" and not talk[-1][1].strip():
                talk.pop()  # a prompt up to `Assistant:`, as many copies of HH-RLHF have it
    else:
        try:
            talk = [(turn["role"], turn["content"].strip()) for turn in value]
        except (KeyError, AttributeError, TypeError):
            raise InputError(
                f"{at}: {str(value)[:60]!r} is neither text nor a list of messages with role and content"
            ) from None
    turns: Messages = []
    for who, text in talk:
        speaker = "user" if who == "system" else who
        if speaker not in _ROLES.values():
            raise InputError(f"{at}: a turn of {who!r}; roles are system, user and assistant")
        if turns and turns[-1]["role"] == speaker:
            turns[-1]["content"] = f"{turns[-1]['content']}\n\n{text.strip()}".strip()
        else:
            turns.append({"role": speaker, "content": text.strip()})
    if not turns or (role == "user" and turns[0]["role"] != "user"):
        raise InputError(f"{at}: it does not begin with a user's turn")
    return turns
