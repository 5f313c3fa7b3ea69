"""Rows of every shape become the same messages; what cannot be read is counted, never lost."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from almost_data import hub
from almost_data.datasets import ledger as ledgers
from almost_data.datasets import manifest as manifests
from almost_data.datasets.builder import prompt_id, text_id
from almost_data.datasets.digest import splits
from almost_data.errors import InputError
from almost_data.store.store import Store
from almost_data.training import account, comparisons, data, dialogues, open_dataset, prompts
from almost_data.training.arguments import Inputs
from almost_data.training.data import Source
from almost_data.training.shapes import Messages
from tests import trained
from tests.command import script
from tests.hub_server import serve
from tests.training.rows import messages, source

QUERY = messages("Why does bread rise?")
SYSTEM = {"role": "system", "content": "Be kind."}
GOOD, BAD = "The yeast eats sugar.", "Magic."


def reply(text: str) -> Messages:
    return messages(text, first="assistant")


def hh(*turns: str) -> str:
    names = ("Human", "Assistant")
    return "".join(f"\n\n{names[place % 2]}: {text}" for place, text in enumerate(turns))


# --- comparisons -----------------------------------------------------------------------------------------

WORDS = ("Hello!", "What is it?", "Why does bread rise?")
CHAT = messages(*WORDS)
SIDES = {"chosen": reply(GOOD), "rejected": reply(BAD)}
SHAPES: dict[str, tuple[dict[str, Any], Messages]] = {
    "messages, prompt apart": ({"prompt": QUERY, "chosen": reply(GOOD), "rejected": reply(BAD)}, QUERY),
    "messages, prompt in both": (
        {"chosen": QUERY + reply(GOOD), "rejected": QUERY + reply(BAD)},
        QUERY,
    ),
    "messages of several turns": ({"chosen": CHAT + reply(GOOD), "rejected": CHAT + reply(BAD)}, CHAT),
    "text, prompt apart": ({"prompt": "Why does bread rise?", "chosen": GOOD, "rejected": BAD}, QUERY),
    "text, blanks around": (
        {"prompt": "Why does bread rise?\n", "chosen": f" {GOOD}", "rejected": f"{BAD} "},
        QUERY,
    ),
    "HH-RLHF": ({"chosen": hh(QUERY[0]["content"], GOOD), "rejected": hh(QUERY[0]["content"], BAD)}, QUERY),
    "HH-RLHF of several turns": (
        {"chosen": hh(*WORDS, GOOD), "rejected": hh(*WORDS, BAD)},
        CHAT,
    ),
    "a system turn": (
        {"prompt": [{"role": "system", "content": "Be brief."}, *QUERY], **SIDES},
        [{"role": "system", "content": "Be brief."}, *QUERY],
    ),
    "a role twice": (
        {"prompt": messages("Listen.") + QUERY, **SIDES},
        messages("Listen.\n\nWhy does bread rise?"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SHAPES)
def test_every_shape_of_a_comparison_is_the_same_messages(name: str) -> None:
    row, prompt = SHAPES[name]
    shaped = comparisons(source([row], test=[]))
    changed = json.loads(json.dumps(row).replace("bread", "dough").replace("Hello", "Good day"))
    held = comparisons(source([changed], test=[row]))
    [shaped_row] = shaped.train.to_dicts()
    assert shaped_row == {
        "query_id": shaped_row["query_id"],
        "prompt": prompt,
        "chosen": reply(GOOD),
        "rejected": reply(BAD),
    }
    assert held.test.to_dicts() == [shaped_row] and shaped.unusable == (0, "")


@pytest.mark.parametrize(
    ("names", "are_equal"),
    [
        (("messages, prompt apart", "messages, prompt in both", "text, prompt apart", "HH-RLHF"), True),
        (("HH-RLHF of several turns", "messages of several turns"), True),
        (("HH-RLHF", "HH-RLHF of several turns"), False),
    ],
)
def test_a_prompt_has_one_id_whatever_its_shape(names: tuple[str, ...], are_equal: bool) -> None:
    ids = {comparisons(source([SHAPES[name][0]], test=[])).train["query_id"][0] for name in names}
    assert (len(ids) == 1) == are_equal


UNREADABLE: list[tuple[dict[str, Any], str]] = [
    ({"prompt": "", "chosen": "Yes.", "rejected": "No."}, "There is no prompt"),
    ({"prompt": "So?", "chosen": None, "rejected": "No."}, "A reply is empty or null"),
    ({"prompt": hh("So?", "Hm."), "chosen": "Yes.", "rejected": "No."}, "column prompt: not what TRL"),
    ({"prompt": "So?", "chosen": hh("So?", "Yes."), "rejected": "No."}, "column chosen: not what TRL"),
    ({"prompt": "So?", "chosen": "Yes.", "rejected": "Yes. "}, "the same text"),
]


@pytest.mark.parametrize(("row", "why"), UNREADABLE)
def test_a_row_that_cannot_be_read_is_left_out_and_named(row: dict[str, Any], why: str) -> None:
    fine = {"prompt": "Why?", "chosen": "So.", "rejected": "No."}
    held_out = fine | {"prompt": "How?"}
    shaped = comparisons(source([fine, row, fine], test=[held_out, row, fine]))
    assert (len(shaped.train), len(shaped.test), shaped.read, shaped.leaked) == (2, 1, 3, 1)
    count, first = shaped.unusable
    assert count == 1 and why in first and "train row 1" in first and shaped.parent.ref in first
    ledger = account("pair", shaped, too_long=0)
    ledgers.check_ledger(ledger)
    assert [(e.filter, e.n_in, e.kept) for e in ledger] == [("no_dialogue", 3, 2), ("too_long", 2, 2)]
    with pytest.raises(InputError, match=f"{why}|no layout|fit TRL|not end in a user's turn"):
        comparisons(source([row, row], test=[fine]))


@pytest.mark.parametrize(
    "turns",
    [
        [{"role": "tool", "content": "42"}],
        [{"role": "user", "content": None}],
        [{"role": "user", "content": "a", "more": 1}, {"role": "critic", "content": "b"}],
        [{"text": "So?"}],
        reply("I begin."),
    ],
)
def test_messages_that_are_none_are_left_out(turns: Any) -> None:
    with pytest.raises(InputError, match="train row 0"):
        comparisons(source([{"prompt": turns, **SIDES}], test=[]))


def test_a_dataset_without_a_side_is_refused() -> None:
    with pytest.raises(InputError, match=r"no layout of preferences has its columns \(chosen, prompt\)"):
        comparisons(source([{"prompt": "a", "chosen": "b"}]))


def test_who_wrote_is_kept_and_other_columns_are_not() -> None:
    row = SHAPES["text, prompt apart"][0] | {
        "chosen_responder": "A",
        "rejected_responder": "B",
        "margin": 3.0,
    }
    shaped = comparisons(source([row], test=[{k: row[k] for k in ("prompt", "chosen", "rejected")}]))
    assert shaped.train.columns == shaped.test.columns
    assert set(shaped.train.columns) == {
        "query_id", "prompt", "chosen", "rejected", "chosen_responder", "rejected_responder",
    }  # fmt: skip
    assert "margin" in shaped.columns, "the preflight says that it was there"


# --- dialogues -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "row",
    [
        {"messages": QUERY + reply(GOOD)},
        {"messages": hh(QUERY[0]["content"], GOOD)},
        {"prompt": QUERY, "completion": reply(GOOD)},
        {"prompt": "Why does bread rise?", "completion": f" {GOOD}"},
        {"prompt": "Why does bread rise?", "response": GOOD, "responder": "A"},
        {"prompt": hh(QUERY[0]["content"]) + "\n\nAssistant:", "response": GOOD},
        {"prompt": QUERY, "chosen": reply(GOOD), "rejected": reply(BAD)},
        {"chosen": hh(QUERY[0]["content"], GOOD), "rejected": hh(QUERY[0]["content"], BAD)},
    ],
)
def test_every_shape_of_a_dialogue_is_the_same_messages(row: dict[str, Any]) -> None:
    shaped = dialogues(source([row], test=[]))
    another_row = json.loads(json.dumps(row).replace("Why does bread rise?", "So?"))
    held = dialogues(source([another_row], test=[row]))
    assert shaped.train["messages"].to_list() == held.test["messages"].to_list() == [QUERY + reply(GOOD)]
    assert shaped.train["query_id"].to_list() == [text_id("Why does bread rise?")]


@pytest.mark.parametrize(
    "row",
    [
        {"messages": QUERY},
        {"messages": []},
        {"messages": reply(GOOD)},
        {"prompt": QUERY, "completion": messages("And?")},
        {"prompt": QUERY, "completion": reply(GOOD) + messages("And?")},
        {"prompt": None, "completion": GOOD},
        {"prompt": QUERY, "response": None},
    ],
)
def test_a_dialogue_that_does_not_end_in_a_reply_is_left_out(row: dict[str, Any]) -> None:
    column = next(iter(row.keys() - {"prompt"}))
    fine = {"prompt": QUERY, column: reply(GOOD)} if "prompt" in row else {"messages": QUERY + reply(GOOD)}
    with pytest.raises(InputError, match="train row 0"):
        dialogues(source([row], test=[]))
    if row.get("prompt") and row[column]:
        shaped = dialogues(source([row, fine], test=[]))
        assert (len(shaped.train), shaped.unusable[0]) == (1, 1)


CHATML = "<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n"


def test_foreign_dialogues_are_read_as_imports_read_them() -> None:
    """With their system text; rows that do not fit are counted by reason."""
    fine = {"system": "Be kind.", "prompt": "Why?", "completion": "So."}
    rows = [
        fine,
        fine | {"completion": ""},
        fine | {"prompt": CHATML},
        fine | {"completion": "So.\n\nHuman: And?"},
        fine | {"completion": None},
    ]
    shaped = dialogues(source(rows, test=[]))
    assert shaped.train["messages"].to_list() == [[SYSTEM, *messages("Why?", "So.")]]
    assert shaped.read_as == "prompt (prompt, system), reply (completion)"
    assert (shaped.read, shaped.unusable[0]) == (5, 4)
    assert shaped.reasons == {"no_reply": 2, "template_text": 1, "not_one_reply": 1}
    place = f"{shaped.parent.ref}: train row 1"
    assert shaped.rejects.startswith(f"no_reply 2, template_text 1, not_one_reply 1; the first is {place}: A")
    again = dialogues(data.replace(shaped, train=source(rows).train, has_test=True))
    assert (again.read, again.unusable[0]) == (5, 4), "nothing is counted twice"


@pytest.mark.parametrize("column", ["context", "question", "input"])
def test_text_beside_a_prompt_is_never_left_out(column: str) -> None:
    row = {"prompt": "Why?", column: "Rain.", "completion": "So."}
    for shape in (dialogues, prompts):
        with pytest.raises(InputError, match=f"both prompt and {column} may hold the prompt: .*prompt=NAME"):
            shape(source([row], test=[]))
    without_reply = source([{"prompt": "Why?", column: "Rain."}], test=[])
    with pytest.raises(InputError, match=f"both prompt and {column} may hold the prompt"):
        prompts(without_reply)
    named = data.replace(source([row], test=[]), assignments={"prompt": "prompt"})
    assert dialogues(named).train["messages"].to_list() == [messages("Why?", "So.")]
    assert prompts(named).train["prompt"].to_list() == [messages("Why?")]
    assert dialogues(named).read_as == f"prompt (prompt), reply (completion); not read: {column}"


def test_columns_of_other_recipes_are_refused() -> None:
    rows = source([{"q": "Why?", "a": "So."}], test=[])
    for shape, assignments, match in (
        (dialogues, {"history": "q", "response": "a"}, "history=q: name prompt=NAME,system=NAME,response=NA"),
        (prompts, {"prompt": "q", "response": "a"}, "response=a: name prompt=NAME,system=NAME, or chosen"),
        (comparisons, {"prompt": "q", "response": "a"}, "name chosen and rejected"),
    ):
        with pytest.raises(InputError, match=f"^import.columns.*{match}"):
            shape(data.replace(rows, assignments=assignments))


def test_a_judged_reply_is_learned_where_it_is_the_better_one() -> None:
    """Of rows with a label those that are good, not all."""
    rows = [{"prompt": "Is it?", "completion": text, "label": label} for text, label in (("A", 0), ("B", 1))]
    shaped = dialogues(source(rows, test=[]))
    assert shaped.train["messages"].to_list() == [messages("Is it?", "B")]
    assert shaped.read_as.startswith("TRL, unpaired preference (prompt, completion, label): the rows of a pr")
    named = {"prompt": "prompt", "response": "completion"}
    assert len(dialogues(data.replace(source(rows, test=[]), assignments=named)).train) == 2


def test_what_has_no_dialogues_is_refused() -> None:
    with pytest.raises(InputError, match="no dialogues in label, text"):
        dialogues(source([{"text": "a", "label": 1}]))


# --- prompts ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "turns"),
    [
        ({"messages": [*messages("Why?", "So.", "And?", "No.")]}, messages("Why?")),
        ({"messages": [SYSTEM, *messages("Why?", "So.")]}, [SYSTEM, *messages("Why?")]),
        ({"prompt": messages("Why?")}, messages("Why?")),
        ({"prompt": "Why?"}, messages("Why?")),
        ({"query": " Why? "}, messages("Why?")),
        ({"system": "Be kind.", "prompt": "Why?"}, [SYSTEM, *messages("Why?")]),
        (
            {
                "conversations": [{"from": "human", "value": "Why?"}, {"from": "gpt", "value": "So."}],
                "system": "Be kind.",
            },
            [SYSTEM, *messages("Why?")],
        ),
        ({"instruction": "Why?", "input": "", "output": "So."}, messages("Why?")),
        ({"prompt": hh("Why?") + "\n\nAssistant:"}, messages("Why?")),
        (
            {"prompt": hh("Why?", "So.", "And?"), "chosen": "a", "rejected": "b"},
            messages("Why?", "So.", "And?"),
        ),
        ({"prompt": [SYSTEM, *messages("Why?")]}, [SYSTEM, *messages("Why?")]),
        ({"chosen": hh("Why?", "So."), "rejected": hh("Why?", "No.")}, messages("Why?")),
        ({"chosen": messages("Why?", "So."), "rejected": messages("Why?", "No.")}, messages("Why?")),
    ],
)
def test_a_prompt_is_what_is_answered_in_any_shape(row: dict[str, Any], turns: Messages) -> None:
    """And never has any of a reply in it."""
    shaped = prompts(source([row], test=[row]))
    assert shaped.train["prompt"].to_list() == [turns]


@pytest.mark.parametrize("length", [1, 3, 4])
def test_the_prompt_of_a_demonstration_is_its_query(length: int) -> None:
    """Whose turns were there before the first reply that a model of ours wrote."""
    dialogue = [SYSTEM, *messages(*WORDS, GOOD)][-1 - length :]
    rows = [{"query_id": prompt_id(dialogue[:-1]), "messages": [*dialogue, *messages("Thanks.", BAD)]}]
    manifest = trained.manifest()
    shaped = prompts(data.replace(source(rows, test=[]), manifest=manifest))
    assert shaped.train["prompt"].to_list() == [dialogue[:-1]]


@pytest.mark.parametrize("shape", [dialogues, prompts])
def test_a_dialogue_that_the_assistant_begins_is_rejected(shape: Any) -> None:
    rows = [{"messages": messages("Why?", "So.")}, {"messages": [*reply("Hi."), *messages("Why?", "So.")]}]
    shaped = shape(source(rows, test=[]))
    assert len(shaped.train) == 1 and shaped.reasons == {"no_user_turn_first": 1}
    assert shaped.unusable[1].endswith("train row 1: it does not begin with a user's turn")


@pytest.mark.parametrize(
    ("rows", "n"),
    [
        ([{"prompt": "Is it?", "chosen": ["Yes."], "rejected": ["No.", "Hm.", "Ah."]}], 3),
        ([{"prompt": "Is it?", "response": f"{n}.", "helpfulness": n} for n in range(4)], 1),
    ],
)
def test_the_ledger_adds_up_where_rows_are_not_comparisons(rows: list[dict[str, Any]], n: int) -> None:
    shaped = comparisons(source(rows, test=[]))
    assert (shaped.read, len(shaped.train)) == (n, n)
    ledger = account("pair", shaped, over_limit=0)
    ledgers.check_ledger(ledger)
    assert [(entry.filter, entry.n_in, entry.kept) for entry in ledger] == [("over_limit", n, n)]


def test_a_foreign_prompt_that_is_none_is_rejected() -> None:
    rows: list[dict[str, Any]] = [
        {"prompt": text} for text in ("Why?", CHATML, None, "User: a\nAssistant: b")
    ]
    shaped = prompts(source(rows, test=[]))
    assert shaped.train["prompt"].to_list() == [messages("Why?")]
    assert shaped.reasons == {"template_text": 2, "no_prompt": 1} and shaped.read_as == "prompt (prompt)"
    dialogue_rows = [{"messages": messages("Why?", "So.")}, {"messages": None}, {"messages": reply("So.")}]
    several = prompts(source([*dialogue_rows, *dialogue_rows[:1] * 3], test=[]))
    assert several.reasons == {"no_prompt": 2}
    assert several.read_as == "prompt (messages: the turns up to the first of the user)"


def test_a_prompt_that_stands_twice_is_answered_once() -> None:
    rows = [{"prompt": text} for text in ("a", "b", "a", " a", "c")]
    shaped = prompts(
        source([*rows, {"prompt": ""}], test=[{"prompt": text} for text in ("b", "d", "e", "d")])
    )
    assert [row["prompt"][0]["content"] for row in shaped.train.to_dicts()] == ["a", "b", "c"]
    assert (shaped.repeated, len(shaped.test), shaped.unusable[0]) == (2, 2, 1)
    ledger = account("query", shaped, too_long=1, over_limit=0)
    ledgers.check_ledger(ledger)
    assert [(e.filter, e.kept) for e in ledger] == [
        ("no_dialogue", 5), ("repeated", 3), ("too_long", 2), ("over_limit", 2),
    ]  # fmt: skip
    with pytest.raises(InputError, match=r"no column 'prompt'; it has: label: .*import.columns prompt=NAME"):
        prompts(source([{"label": "1"}], test=[]))


# --- single turn -----------------------------------------------------------------------------------------


def single(rows: list[dict[str, Any]], test: list[dict[str, Any]] | None = None) -> Source:
    return data.replace(source(rows, test), single_turn=True)


@pytest.mark.parametrize("name", SHAPES)
def test_single_turn_is_one_user_turn_in_every_shape(name: str) -> None:
    """A system's turn is none."""
    row, prompt = SHAPES[name]
    if sum(turn["role"] == "user" for turn in prompt) > 1:
        with pytest.raises(InputError, match="no row has one user turn: 1 have more"):
            comparisons(single([row], test=[]))
    else:
        assert comparisons(single([row], test=[])).train.equals(comparisons(source([row], test=[])).train)


def test_the_ledger_says_what_single_turn_left_out() -> None:
    single_row, double_row = (
        {"chosen": hh(*words, GOOD), "rejected": hh(*words, BAD)} for words in (WORDS[2:], WORDS)
    )
    bad = {"chosen": "", "rejected": ""}
    ledger = account(
        "pair", comparisons(single([double_row, bad, single_row, double_row], test=[])), over_limit=0
    )
    ledgers.check_ledger(ledger)
    assert [(e.filter, e.n_in, e.kept) for e in ledger] == [
        ("no_dialogue", 4, 3), ("several_turns", 3, 1), ("over_limit", 1, 1),
    ]  # fmt: skip
    none = account("pair", comparisons(single([single_row], test=[])))
    assert [(e.filter, e.dropped) for e in none] == [("several_turns", {})]
    assert not account("pair", comparisons(source([single_row, double_row], test=[])))


@pytest.mark.parametrize(
    ("shape", "single_row", "double_row"),
    [
        (comparisons, {"chosen": hh("A?", "B"), "rejected": hh("A?", "C")},
         {"chosen": hh("D?", "E", "F?", "G"), "rejected": hh("D?", "E", "F?", "H")}),
        (dialogues, {"messages": messages("A?", "B")}, {"messages": messages("D?", "E", "F?", "G")}),
        (prompts, {"messages": messages("A?", "B")}, {"messages": messages("D?", "E", "F?", "G")}),
        (prompts, {"prompt": messages("A?")}, {"prompt": messages("D?", "E", "F?")}),
    ],
)  # fmt: skip
def test_single_turn_holds_for_every_recipe_and_for_what_is_judged(
    shape: Any, single_row: dict[str, Any], double_row: dict[str, Any]
) -> None:
    held_out = json.loads(json.dumps(single_row).replace("A?", "Z?"))
    shaped = shape(single([double_row, single_row], test=[held_out, double_row]))
    assert shaped.train["query_id"].to_list() == [text_id("A?")]
    assert shaped.test["query_id"].to_list() == [text_id("Z?")]
    assert (shaped.several_turns, shaped.read, shaped.leaked) == (1, 2, 0)
    assert len(shape(single([single_row], test=[double_row])).test) == 0
    unread = dict.fromkeys(double_row)
    with pytest.raises(InputError, match=r"no row has one user turn: 2 have more$") as caught:
        shape(single([double_row, unread, double_row], test=[single_row]))
    assert "\n" not in str(caught.value)


def test_single_turn_is_decided_before_the_split_by_hash() -> None:
    long = [{"prompt": messages(f"Question {n}?", "Hm.", "Well?"), "chosen": "Yes.", "rejected": "No."}
            for n in range(300, 320)]  # fmt: skip
    mixed = [row | {"prompt": messages(row["prompt"])} for row in MANY] + long
    shaped, plain = comparisons(single(mixed)), comparisons(source(MANY))
    assert shaped.train.equals(plain.train) and shaped.test.equals(plain.test) and shaped.several_turns == 20


# --- splits ----------------------------------------------------------------------------------------------

MANY = [{"prompt": f"Question {n % 300}?", "chosen": f"Yes {n}.", "rejected": "No."} for n in range(600)]


@pytest.mark.parametrize("shape", [comparisons, prompts, dialogues])
def test_a_dataset_without_a_test_split_is_split_by_its_prompts(shape: Any) -> None:
    shaped = shape(source(MANY))
    again = shape(source(MANY[::-1]))
    train, test = (set(part["query_id"]) for part in (shaped.train, shaped.test))
    assert not train & test and len(train | test) == 300 and 3 <= len(test) <= 40
    assert (train, test) == tuple(set(part["query_id"]) for part in (again.train, again.test))
    for split, rows in splits(pl.concat([shaped.train, shaped.test])).items():
        assert set(rows["query_id"]) == (train if split == "train" else test)
    ledger = account("pair", shaped, over_limit=0)
    ledgers.check_ledger(ledger)
    assert (ledger[0].n_in, ledger[-1].kept) == (600, len(shaped.train))


def test_a_query_id_of_others_is_no_hash() -> None:
    """It may be anything, and the split would follow it."""
    rows = [row | {"query_id": f"q{n}"} for n, row in enumerate(MANY)]
    assert comparisons(source(rows)).train.equals(comparisons(source(MANY)).train)
    ours = source([MANY[0] | {"query_id": "f" * 16}], manifest=trained.manifest())
    assert comparisons(ours).train["query_id"].to_list() == ["f" * 16]


def test_nothing_left_to_train_on_is_said() -> None:
    held = next(n for n in range(1000) if int(text_id(f"Question {n}?")[:8], 16) < 0.05 * 2**32)
    row = {"prompt": f"Question {held}?", "chosen": "Yes.", "rejected": "No."}
    with pytest.raises(InputError, match="nothing to train on: a hash of the prompt holds out every row"):
        comparisons(source([row]))
    for held_out in (None, [row]):
        rows = source([row], test=held_out)
        none = data.replace(rows, train=rows.train.clear())
        with pytest.raises(InputError, match="nothing to train on: it has no row"):
            comparisons(none)


# --- the store -------------------------------------------------------------------------------------------


def inputs(store: Store, **how: Any) -> Inputs:
    return Inputs(**{"dataset": "comparisons@0.1.0", "artifact": "rm@0.1.0", "root": str(store.root), **how})


@pytest.mark.parametrize(
    ("shape", "dataset"),
    [
        (comparisons, "comparisons@0.1.0"),
        (dialogues, "comparisons@0.1.0"),
        (prompts, "comparisons@0.1.0"),
        (dialogues, "responses@0.1.0"),
        (prompts, "responses@0.1.0"),
        (prompts, "queries@0.1.0"),
    ],
)
def test_datasets_of_the_store_are_read_with_their_splits(
    fake_store: Store, shape: Any, dataset: str
) -> None:
    opened = open_dataset(inputs(fake_store, dataset=dataset))
    assert not opened.single_turn and open_dataset(inputs(fake_store, single_turn=True)).single_turn
    shaped: Source = shape(opened)
    manifest = fake_store.manifest(dataset)
    assert opened.parent == manifests.Parent(dataset, manifest.digest, manifest.fingerprint, manifest.sha256)
    assert opened.record() == {"ref": dataset, "config": "default", "revision": None}
    assert shaped.unusable == (0, "") and shaped.read == manifest.counts["default"]["train"]
    described = {
        "comparisons": "TRL, explicit prompt (prompt, chosen, rejected)",
        "responses": "prompt (prompt), reply (response)",
    }
    kind = manifest.name if shape is not prompts else ""
    assert shaped.read_as == described.get(kind, "prompt (prompt)")
    whole = fake_store.scan(dataset).collect()
    assert set(shaped.train["query_id"]) | set(shaped.test["query_id"]) == set(whole["query_id"])
    for split, rows in splits(whole).items():
        part = shaped.train if split == "train" else shaped.test
        assert set(part["query_id"]) == set(rows["query_id"]), "the dataset's own split"
    ledger = account("pair", shaped, over_limit=0)
    ledgers.check_ledger(ledger)
    assert ledger[-1].kept == len(shaped.train)


@pytest.mark.parametrize(
    ("how", "match"),
    [
        ({"dataset": "comparisons@9.9.9"}, r"no comparisons@9\.9\.9 under .*there is comparisons@0\.1\.0"),
        ({"dataset": "comparisons"}, "not a reference: write name@version"),
        ({"dataset": "comparisons@1"}, "not a version"),
        ({"dataset": "./comparisons@0.1.0"}, "not a reference"),
        ({"dataset_config": "nowhere"}, "has no config 'nowhere'; it has: default"),
        ({"dataset_train_split": "validation"}, "no rows in split 'validation' of config 'default'"),
        ({"dataset": "someone/data"}, "name a tag or a commit, as someone/data@REVISION"),
    ],
)  # fmt: skip
def test_what_cannot_be_opened_is_one_line(fake_store: Store, how: dict[str, Any], match: str) -> None:
    with pytest.raises(InputError, match=match) as caught:
        open_dataset(inputs(fake_store, **how))
    assert "\n" not in str(caught.value)


def test_a_dataset_of_another_kind_names_what_makes_comparisons(fake_store: Store) -> None:
    for name in ("queries", "responses"):
        with pytest.raises(
            InputError, match=f"^{name}@0.1.0 is a dataset of {name}, without chosen and"
        ) as caught:
            comparisons(open_dataset(inputs(fake_store, dataset=f"{name}@0.1.0")))
        assert f"`build comparisons --from {name}@0.1.0` makes" in str(caught.value)


def test_a_model_is_no_dataset(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    store = Store(tmp_path / "build")
    trained.publish_reward(store, tmp_path / "out", "rm")
    with pytest.raises(InputError, match=r"recipe\.dataset: rm@0\.1\.0 is a model: name a dataset"):
        open_dataset(inputs(store, dataset="rm@0.1.0"))


# --- the Hub ---------------------------------------------------------------------------------------------

READ = """
import json, sys
from almost_data.errors import InputError
from almost_data.training import comparisons, open_dataset
from almost_data.training.arguments import Inputs
found = []
for how in json.loads(sys.argv[1]):
    try:
        source = open_dataset(Inputs(artifact="rm@0.1.0", **how))
        made = comparisons(source)
        found.append({"record": source.record(), "parent": source.parent.digest, "test": len(made.test),
                      "train": made.train["query_id"].to_list(), "held": source.has_test})
    except InputError as error:
        found.append(str(error))
print(json.dumps(found))
"""


def read_from(endpoint: str, folder: Path, arguments: list[dict[str, Any]]) -> list[Any]:
    hub = {"HF_ENDPOINT": endpoint, "HF_HOME": str(folder / "hf")}
    done = script(READ, json.dumps(arguments), env=hub)
    assert done.returncode == 0, done.stderr
    results: list[Any] = json.loads(done.stdout)
    return results


def parquet(folder: Path, rows: list[dict[str, Any]]) -> bytes:
    pl.DataFrame(rows).write_parquet(folder / "rows.parquet")
    return (folder / "rows.parquet").read_bytes()


def test_a_hub_dataset_is_read_over_http_at_a_commit(tmp_path: Path) -> None:
    files = {"data/train-00000-of-00001.parquet": parquet(tmp_path, MANY), "README.md": b"# hello\n"}
    with serve("someone/pairs", files) as (endpoint, commit):
        named = {"dataset": f"someone/pairs@{commit}"}
        tagged, at, lost, no_split, no_config, nowhere = read_from(
            endpoint,
            tmp_path,
            [
                {"dataset": "someone/pairs@v1.0.0"},
                named,
                {"dataset": "someone/pairs@v9.9.9"},
                named | {"dataset_train_split": "validation"},
                named | {"dataset_config": "other"},
                {"dataset": f"someone/nothing@{commit}"},
            ],
        )
    assert at["record"] == {
        "ref": f"someone/pairs@{commit}",
        "config": None,
        "revision": commit,
    }
    assert at["parent"] == f"commit:{commit}" and not at["held"] and tagged == at
    assert at["train"] == comparisons(source(MANY)).train["query_id"].to_list()
    assert "no split 'validation'; it has: train: see recipe.dataset_train_split" in no_split
    assert "no config or folder 'other': it has default" in no_config
    assert "Hub" in lost and "Hub" in nowhere
    for line in (lost, no_split, no_config, nowhere):
        assert "\n" not in line and len(line) < 400 and endpoint not in line


def test_a_dataset_of_ours_on_the_hub_is_held_to_its_digest(fake_store: Store, tmp_path: Path) -> None:
    folder = fake_store.path("comparisons@0.1.0")
    files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    root = {"root": str(tmp_path / "build")}
    named = root | {"dataset": "someone/ours@v1.0.0"}
    with serve("someone/ours", files) as (endpoint, commit):
        plain, other_config, lost = read_from(
            endpoint,
            tmp_path,
            [
                named,
                named | {"dataset_config": "rejected"},
                named | {"dataset_train_split": "validation"},
            ],
        )
    stored = comparisons(open_dataset(inputs(fake_store)))
    record = {"ref": "comparisons@0.1.0", "config": "default", "revision": commit}
    assert plain["record"] == record and plain["parent"] == stored.parent.digest
    assert plain["train"] == stored.train["query_id"].to_list() and plain["test"] == len(stored.test)
    assert (
        "config 'rejected' holds rows that were dropped" in other_config
        and "no rows in split 'validation'" in lost
    )
    store = Store(tmp_path / "build")
    where = hub.place(store, "comparisons@0.1.0")
    assert where and (where.repo, where.commit) == ("someone/ours", commit)
    # Rows that are not those of its manifest are not trained on; a manifest of somebody else's is no matter.
    shard = next(path for path in files if path.startswith("data/default/train"))
    rows = pl.read_parquet(files[shard])
    rows.slice(1).write_parquet(tmp_path / "less.parquet")
    files[shard] = (tmp_path / "less.parquet").read_bytes()
    with serve("someone/ours", files) as (endpoint, _):
        [wrong] = read_from(endpoint, tmp_path, [named | {"root": str(tmp_path / "other")}])
    assert "does not agree with its manifest" in wrong
    # Nor does a damaged manifest turn them into somebody else's, which would be taken unchecked.
    files["manifest.json"] = files["manifest.json"].replace(b'"counts"', b'"count"')
    with serve("someone/ours", files) as (endpoint, _):
        [damaged] = read_from(endpoint, tmp_path, [named | {"root": str(tmp_path / "other")}])
    assert "not a manifest of almost_data" in damaged
    foreign = {"data/train-00000-of-00001.parquet": parquet(tmp_path, MANY), "manifest.json": b"{}"}
    with serve("someone/pairs", foreign) as (endpoint, commit):
        [foreign_result] = read_from(endpoint, tmp_path, [root | {"dataset": f"someone/pairs@{commit}"}])
    assert foreign_result["parent"] == f"commit:{commit}"


def test_several_processes_open_a_hub_dataset_at_once(fake_store: Store, tmp_path: Path) -> None:
    folder = fake_store.path("comparisons@0.1.0")
    files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    arguments = [{"root": str(tmp_path / "build"), "dataset": "someone/ours@v1.0.0"}]
    with serve("someone/ours", files) as (endpoint, _), ThreadPoolExecutor(3) as pool:
        hub = {"HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_DISABLE_XET": "1"}
        command = [sys.executable, "-c", READ, json.dumps(arguments)]
        outputs = list(
            pool.map(lambda _: subprocess.check_output(command, env=os.environ | hub, text=True), range(3))
        )
    results = [json.loads(output)[0]["train"] for output in outputs]
    assert results[0] == results[1] == results[2] != []


def test_a_dialogue_that_the_assistant_begins_is_left_out() -> None:
    begun = "\n\nAssistant: Hi\n\nHuman: How?\n\nAssistant:"
    prompt = "\n\nHuman: How?\n\nAssistant:"
    rows = [{"chosen": f"{start} So.", "rejected": f"{start} No."} for start in (prompt, begun)]
    shaped = comparisons(source(rows, []))
    count, why = shaped.unusable
    assert len(shaped.train) == 1 and count == 1 and "column chosen: not what HH-RLHF" in why


def test_no_prompt_is_made_of_what_two_texts_begin_with() -> None:
    with pytest.raises(InputError, match="no layout of preferences has its columns"):
        comparisons(source([{"chosen": "Why?\nSo.", "rejected": "Why?\nNo."}]))
