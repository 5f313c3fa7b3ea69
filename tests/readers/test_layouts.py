"""Every layout is read right; a row that does not fit is rejected with a reason; no prompt is guessed."""

import json
from collections.abc import Callable
from decimal import Decimal
from itertools import chain, product
from pathlib import Path
from typing import Any

import datasets
import hypothesis.strategies as st
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings

from almost_data.errors import InputError
from almost_data.readers import files
from almost_data.readers.detection import detect
from almost_data.readers.dialogue_text import read_hh
from almost_data.readers.layout import PROMPT_COLUMNS, Layout, number_of
from almost_data.readers.layouts import LAYOUTS
from almost_data.readers.parts import PARTS
from almost_data.readers.preferences import (
    Rejected,
    by_columns,
    parse_columns,
    read_all,
    read_preferences,
)
from almost_data.readers.queries import find_queries
from almost_data.readers.responses import find_columns
from tests.readers.layouts import (
    FORMS,
    MESSAGE_LAYOUTS,
    TEXT_LAYOUTS,
    Pair,
    Row,
    Turns,
    assistant,
    hh,
    pairs,
    pairs_of,
    user,
)

FEW = settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def distinct(written: list[Pair]) -> list[Pair]:
    """One pair of each prompt: rows that follow each other with one prompt may be read together."""
    return list({json.dumps(pair.prompt): pair for pair in written}.values())


CASES = [
    *((name, form, *entry) for name, entry in MESSAGE_LAYOUTS.items() for form in FORMS),
    *((name, "text", *entry) for name, entry in TEXT_LAYOUTS.items()),
]
IDS = [f"{name}, {form}" for name, form, *_ in CASES]


def test_the_matrix_has_every_layout() -> None:
    assert {name.split(" ", maxsplit=1)[0] for name, *_ in CASES} == {layout.name for layout in LAYOUTS}


def no_form(turns: Turns) -> Any:
    raise AssertionError("a layout of texts")


@pytest.mark.parametrize(("name", "form", "prompts", "write"), CASES, ids=IDS)
@FEW
@given(st.data())
def test_what_a_layout_writes_is_read_back(
    name: str, form: str, prompts: Any, write: Any, data: st.DataObject
) -> None:
    written = distinct(data.draw(st.lists(pairs(st.one_of(prompts)), min_size=1, max_size=5)))
    rows = list(chain.from_iterable(write(pair, FORMS.get(form, no_form)) for pair in written))
    layout = detect(rows, "rows", list(rows[0]))
    if (
        layout.name != name.split(" ", maxsplit=1)[0]
    ):  # a system turn in a column of its own, whole conversations
        assert name.startswith(layout.name)
    assert pairs_of(layout, rows) == (written, [])


DEFECTS: dict[str, tuple[Callable[[Row, str], None], set[str]]] = {
    "null": (lambda row, column: row.update({column: None}), {"no_prompt", "no_reply", "no_preference"}),
    "empty": (lambda row, column: row.update({column: ""}), {"no_prompt", "no_reply", "no_preference"}),
    "number": (lambda row, column: row.update({column: 7}), {"not_text", "no_preference", "tie"}),
    "absent": (lambda row, column: row.pop(column), {"no_prompt", "no_reply", "no_preference"}),
    "list of numbers": (lambda row, column: row.update({column: [7]}), {"not_text", "no_preference"}),
    "tool turn": (
        lambda row, column: row.update({column: [{"role": "tool", "content": "42"}]}),
        {"tool_turn", "not_text", "no_preference"},
    ),
    "unknown role": (
        lambda row, column: row.update({column: [{"role": "critic", "content": "No."}]}),
        {"unknown_role", "not_text", "no_preference"},
    ),
    "no user's turn": (
        lambda row, column: row.update({column: [user("a"), assistant("")]}),
        {"no_user_turn_last", "no_reply", "not_text", "no_preference"},
    ),
    "template": (
        lambda row, column: row.update({column: "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"}),
        {"template_text", "not_text", "no_prompt", "no_preference", "equal_sides"},
    ),
    "transcript": (
        lambda row, column: row.update({column: "User: Hi\nAssistant: Ho\nUser: Why?"}),
        {"template_text", "not_text", "no_prompt", "no_preference", "equal_sides", "prompts_differ"},
    ),
    "end mark": (
        lambda row, column: row.update({column: "Because.<|im_end|>"}),
        {"template_text", "not_text", "no_prompt", "no_preference", "equal_sides"},
    ),
    "image part": (
        lambda row, column: row.update({column: [{"role": "user", "content": [{"type": "image_url"}]}]}),
        {"not_text", "no_preference"},
    ),
    "Python's turns": (
        lambda row, column: row.update({column: "[{'role': 'user', 'content': 'Hi'}]"}),
        {"unreadable_json", "not_text", "no_preference", "equal_sides"},
    ),
    "broken JSON": (
        lambda row, column: row.update({column: '[{"role": "user", "content'}),
        {"unreadable_json", "not_text", "no_preference", "equal_sides"},
    ),
}


@pytest.mark.parametrize(("name", "form", "prompts", "write"), CASES, ids=IDS)
@settings(FEW, max_examples=2)
@given(st.data())
def test_a_defect_of_any_kind_in_any_column_is_a_reason_and_never_a_guess(
    name: str, form: str, prompts: Any, write: Any, data: st.DataObject
) -> None:
    written = distinct(data.draw(st.lists(pairs(st.one_of(prompts)), min_size=4, max_size=6)))
    good = [write(pair, FORMS.get(form, no_form)) for pair in written]
    layout = detect(list(chain.from_iterable(good)), "rows", [])
    place = data.draw(st.integers(0, len(written) - 1))
    others = [pair for number, pair in enumerate(written) if number != place]
    for column, (defect, (damage, reasons)) in product(layout.columns, DEFECTS.items()):
        rows = [dict(row) for group in good for row in group]
        damaged = rows[sum(map(len, good[:place])) :][: len(good[place])]
        for row in damaged:
            if column in row:
                damage(row, column)
        kept, rejected = pairs_of(layout, rows)
        if kept != others:  # what is still there may be enough: a plain text where turns were, another column
            assert [pair for pair in kept if pair in written] == [pair for pair in written if pair in kept]
            assert all(pair.prompt == written[place].prompt for pair in kept if pair not in written), defect
            assert len(kept) == len(written), (column, defect)
        else:
            assert rejected and set(rejected) <= reasons, (column, defect)


def example_prompt(name: str) -> Turns:
    """A prompt that a layout's writer takes."""
    has_system = "system" in name or name == "orca-input"
    system = [{"role": "system", "content": "Be brief."}] if has_system else []
    earlier = [user("Hi"), assistant("Hello!")] if "history" in name else []
    return [*system, *earlier, user("Is tea a fruit?")]


def inner_places(value: Any) -> list[tuple[Any, Any]]:
    """Every list and object within a value, with each of its keys."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else []
    inner = chain.from_iterable(inner_places(value[key]) for key in keys)
    return [*((value, key) for key in keys), *inner]


@pytest.mark.parametrize(("name", "form", "prompts", "write"), CASES, ids=IDS)
def test_a_defect_within_a_value_is_no_crash(name: str, form: str, prompts: Any, write: Any) -> None:
    prompt = example_prompt(name)
    rows = write(Pair(prompt, "No.", "Yes."), FORMS.get(form, no_form))
    layout = detect(rows, "rows", [])
    for number, damage in product(
        range(len(inner_places(rows))), (None, "", 7, [7], {}, {"a": None}, "text")
    ):
        damaged = json.loads(json.dumps(rows))
        container, key = inner_places(damaged)[number]
        container[key] = damage
        good, reasons = pairs_of(layout, [row for row in damaged if isinstance(row, dict)])
        assert good or reasons or container is damaged


def test_equal_sides_and_scores_are_no_preference() -> None:
    for name, (_, write) in {**TEXT_LAYOUTS, **MESSAGE_LAYOUTS}.items():
        prompt = example_prompt(name)
        form = FORMS["messages"]
        fine, same = Pair(prompt, "No.", "Yes."), Pair(prompt, "No.", "No. ")
        layout = detect(write(fine, form), "rows", [])
        assert pairs_of(layout, write(same, form))[0] == [], name


def example_rows(layout: Layout) -> list[Row]:
    """The example, with the worse reply after it where that is a row of its own."""
    worse = {"response": "Yes.", "helpfulness": 1, "completion": "Yes.", "label": False}
    rows = (
        [{name: worse.get(name, value) for name, value in layout.example.items()}] if layout.groups_by else []
    )
    return [dict(layout.example), *rows]


@pytest.mark.parametrize("layout", LAYOUTS, ids=[layout.name for layout in LAYOUTS])
def test_a_system_text_beside_any_layout_is_the_system_turn(layout: Layout) -> None:
    rows = [row | {"system": "Be brief."} for row in example_rows(layout)]
    assert detect(rows, "rows", []) is layout
    [pair], reasons = pairs_of(layout, rows)
    assert reasons == [] and pair.prompt == [{"role": "system", "content": "Be brief."}, *pair.prompt[1:]]
    assert pairs_of(layout, [row | {"system_prompt": "Be long."} for row in rows]) == ([], ["ambiguous"])
    assert pairs_of(layout, [row | {"system": 7} for row in rows]) == ([], ["unreadable_system"])


@pytest.mark.parametrize("layout", LAYOUTS, ids=[layout.name for layout in LAYOUTS])
def test_a_second_column_that_may_hold_the_prompt_is_read_or_refused(layout: Layout) -> None:
    for column in {*PROMPT_COLUMNS} - {*layout.columns, *layout.optional}:
        rows = [{column: "Say why.", **row} for row in example_rows(layout)]
        try:
            detected = detect(rows, "rows", list(rows[0]))
        except InputError as error:
            assert "import.columns" in str(error)
            continue
        good, _ = pairs_of(detected, rows)
        assert all("Say why." in pair.text for pair in good), (column, detected.name)


@pytest.mark.parametrize("layout", LAYOUTS, ids=[layout.name for layout in LAYOUTS])
def test_a_layouts_example_is_in_it_and_in_no_other(layout: Layout) -> None:
    assert layout.source and layout.title and layout.name
    assert detect([layout.example], "rows", list(layout.example)) is layout
    [pair], reasons = pairs_of(layout, example_rows(layout))
    assert reasons == [] and (pair.text, pair.chosen, pair.rejected) == (
        "Is tea a fruit?",
        "No, a leaf.",
        "Yes.",
    )


@pytest.mark.parametrize("ending", ["\n\n", "\n", "\r\n\r\n", "\r\n", "\r"])
@pytest.mark.parametrize("has_start", [True, False])
def test_dialogues_of_hh_in_any_line_endings(ending: str, has_start: bool) -> None:
    turns = [user("Hello!"), assistant("What is it?"), user("Why does bread rise?")]
    text = hh([*turns, assistant("Yeast.")], ending)
    text = text if has_start else text.lstrip()
    assert list(read_hh(text)) == [*turns, assistant("Yeast.")]
    row = {"chosen": text, "rejected": text.replace("Yeast", "Magic")}
    assert detect([row], "rows", []).name == "hh-rlhf"


@pytest.mark.parametrize(
    "rows",
    [
        [{"chosen": "Q: blue? A: yes", "rejected": "Q: blue? A: no"}],
        [{"chosen": "问：天空？答：蓝色。", "rejected": "问：天空？答：绿色。"}],
        [{"text": "x", "summary_a": "a", "summary_b": "b", "choice": 1}],
        [{"question": "q", "instruction": "i", "chosen": "a", "rejected": "b"}],
        *([{"question": "q", part: "c", "chosen": "a", "rejected": "b"}] for part in PARTS),
        [{"question": "q", "chosen": "a", "rejected": "b", "wiki_passages": ["c"]}],
        *(
            [{"question": "q", "chosen": "a", "rejected": "b", **dict.fromkeys(choices, "c")}]
            for choices in (["A", "B"], ["option_a", "option_b"], ["choice1", "choice2"])
        ),
        [{"prompt": 1, "chosen": "a", "rejected": "b"}],
        [{"prompt": "q", "chosen": '["a"]', "rejected": '["b", "c"]'}],
        [{"prompt": "q", "chosen": "['a', 'b']", "rejected": "['c']"}],
        [{"prompt": "q", "chosen": "array(['a'], dtype=object)", "rejected": "array(['c'], dtype=object)"}],
        [{"prompt": "[{'role': 'user', 'content': 'q'}]", "chosen": "a", "rejected": "b"}],
        [{"prompt": None, "chosen": None, "rejected": None}],
        [{}],
    ],
)
def test_columns_that_fit_no_layout_or_two_are_refused_and_named(rows: list[Row]) -> None:
    columns = list(rows[0])
    with pytest.raises(InputError, match=r"import\.columns") as error:
        detect(rows, "file.jsonl", columns)
    message = str(error.value)
    assert "\n" not in message
    assert "holds lists" in message or all(column in message for column in columns)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (
            {"prompt": "q", "question": "q", "chosen": "a", "rejected": "b"},
            "prompt and question may both hold",
        ),
        ({"chosen": "Q: blue? A: yes", "rejected": "Q: blue? A: no"}, "no column holds the prompt"),
        (
            {"prompt": "q", "chosen": {"text": "a"}, "rejected": {"text": "b"}},
            "chosen does not hold text or turns",
        ),
        ({"question": "q", "chosen": ["a"], "rejected": ["b"]}, "chosen does not hold text or turns"),
        ({"prompt": b"q", "chosen": b"a", "rejected": b"b"}, "prompt does not hold text or turns"),
        (
            {"prompt": "q", **{side: hh([user("q"), assistant(side)]) for side in ("chosen", "rejected")}},
            "chosen and rejected are whole dialogues of HH-RLHF: name no prompt",
        ),
    ],
)
def test_the_refusal_says_what_is_wrong_with_usual_columns(row: Row, reason: str) -> None:
    with pytest.raises(InputError, match=f"{reason}.*import.columns") as error:
        detect([row], "file.jsonl", list(row))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("row", "hint"),
    [
        ({"prompt": "q", "responder": "a", "response": "b"}, "answers without a preference, one a row"),
        ({"instruction": "q", "output": "b", "generator": "a"}, "answers without a preference, one a row"),
        ({"question": "q", "large": "No, a leaf.", "small": "It is."}, "if large, small hold the answers"),
        ({"prompt": "q", "a": "No, a leaf.", "b": "It is.", "note": None}, "if a, b hold the answers"),
    ],
)
def test_answers_without_a_preference_are_sent_to_the_import_of_responses(row: Row, hint: str) -> None:
    with pytest.raises(InputError, match=rf"{hint}.*: `import responses FILE --ladder "):
        detect([row], "file.jsonl", list(row))
    for judged in (
        *({"prompt": "q", "chosen": "a"}, {"prompt": "q", "id": "x1", "kind": "y"}),
        {"prompt": "q", "best_chosen": "No, a leaf.", "rejected_text": "It is."},
        {"question": "q", "answer_matching_behavior": "No, a", "answer_not_matching_behavior": "It b"},
        *(
            {"prompt": "q", "x": "No, a leaf.", "y": "It is.", name: "x"}
            for name in ("Preference", "ranking")
        ),
    ):
        with pytest.raises(InputError) as error:
            detect([judged], "file.jsonl", list(judged))
        assert "import responses" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "rule"), [("ultrafeedback", "the best completion over"), ("nectar", "lowest rank")]
)
def test_a_layout_of_several_replies_says_which_are_compared(name: str, rule: str) -> None:
    [layout] = [layout for layout in LAYOUTS if layout.name == name]
    assert rule in layout.described


def test_a_refusal_names_so_many_columns_and_their_beginnings() -> None:
    row = {f"{number} {'long' * 30}\nname": "a" for number in range(60)}
    for refuse in (
        lambda: detect([row], "rows", list(row)),
        lambda: find_queries(list(row), [row], "rows", None),
    ):
        with pytest.raises(InputError, match=r"long\w*, .* and 10 more\W.*import\.columns") as error:
            refuse()
        assert len(str(error.value)) < 4_000 and "\n" not in str(error.value)


def test_conversations_without_a_preference_are_sent_to_the_import_of_queries() -> None:
    for row in ({"messages": [user("q"), assistant("a")]}, {"prompt": "q", "conversation": [user("q")]}):
        with pytest.raises(InputError, match=r"if \w+ holds whole conversations, `import queries` reads"):
            detect([row], "rows", list(row))


def test_no_answers_are_seen_in_columns_of_parquet_that_are_not_read(tmp_path: Path) -> None:
    file = str(tmp_path / "rows.parquet")
    pl.DataFrame({"prompt": ["q"], "id": [1], "length": [2]}).write_parquet(file)
    with pytest.raises(InputError) as error:
        read_preferences(file)
    assert "import responses" not in str(error.value)


@pytest.mark.parametrize("cell", ['["q", "r"]', "['q', 'r']"])
@pytest.mark.parametrize("column", ["prompt", "question", "instruction"])
def test_lists_of_texts_that_a_table_has_as_text_are_no_prompt(column: str, cell: str) -> None:
    row = {column: cell, "chosen": "a", "rejected": "b"}
    with pytest.raises(InputError, match=rf"{column} holds lists .*import\.columns"):
        detect([row, row], "rows", list(row))
    others = [row | {column: "q"}] * 3
    assert pairs_of(detect([row, *others], "rows", []), [row])[0] == [Pair([user(cell)], "a", "b")]
    reply = {column: "q", "chosen": "a", "rejected": cell}
    with pytest.raises(InputError, match=r"import\.columns"):
        detect([reply, reply], "rows", list(reply))


@pytest.mark.parametrize(
    ("name", "column", "label", "words"),
    [
        ("arena-text", "winner", "A", "'A' is neither 'model_a' nor 'model_b'"),
        ("safe-rlhf-better", "better_response_id", 2, "2 is neither 0 nor 1"),
    ],
)
def test_a_label_of_no_side_is_told_what_would_be_one(name: str, column: str, label: Any, words: str) -> None:
    [layout] = [layout for layout in LAYOUTS if layout.name == name]
    [read] = read_all(layout, [("row 0", {**layout.example, column: label})])
    assert isinstance(read.result, Rejected) and read.result.reason == "no_preference"
    assert read.result.detail == f"no side is better: {words}: write one of them"


LABELLED = [layout for layout in LAYOUTS if layout.labels]
LOWS = {"label": 1, "preference": 1, "preference_strength": -1, "overall_preference": -1}
"""Column of labels other than 0 and 1 -> the lowest of them."""


@pytest.mark.parametrize("layout", LABELLED, ids=[layout.name for layout in LABELLED])
def test_labels_of_other_numbers_are_refused_and_never_read_the_other_way_round(layout: Layout) -> None:
    """0 and 1 where a layout has 1 and 2, or -1 and 1: each 1, or 0, would mean the other side."""
    [column] = layout.labels
    row, low = dict(layout.example), LOWS.get(column, 0)
    labels = (0, 1, "0") if low else (1, 2, "1")
    rows = [row | {column: label} for label in labels]
    with pytest.raises(
        InputError, match=rf"^rows: {column} has {labels[0]}, {labels[1]}, and .*: write"
    ) as error:
        detect(rows, "rows", list(row))
    assert "\n" not in str(error.value)
    assert detect([row | {column: label} for label in (1, low, None, "?")], "rows", []) is layout


@pytest.mark.parametrize("layout", LABELLED, ids=[layout.name for layout in LABELLED])
def test_a_file_that_is_sorted_by_labels_of_other_numbers_is_refused_where_they_come(layout: Layout) -> None:
    [column] = layout.labels
    second = 0 if column in ("label", "preference") else 2
    labels = [1] * 250 + [second]
    rows = [(f"f:{n}", dict(layout.example) | {column: label}) for n, label in enumerate(labels)]
    with pytest.raises(InputError, match=rf"^f:250: {column} has .*1.* other labels: write"):
        list(read_all(detect([row for _, row in rows[:200]], "f", []), rows))
    stray = [*rows[:250], ("f:250", dict(layout.example) | {column: 7})]
    assert [isinstance(read.result, Rejected) for read in read_all(layout, stray)][-2:] == [False, True]
    ties = [0.0] * 199 + [1.2, 0, 1.9, 2] if column == "preference" else [0] * 210
    if layout.labels[column](set(ties)):
        many = [("f:1", dict(layout.example) | {column: label}) for label in ties]
        assert len(list(read_all(layout, many))) == len(many)


@pytest.mark.parametrize("empty", [None, "", []])
def test_a_column_without_a_value_is_no_second_prompt(empty: Any) -> None:
    row = {"prompt": "q", "question": empty, "image": empty, "chosen": "a", "rejected": "b"}
    layout = detect([row], "rows", list(row))
    assert layout.name == "trl" and pairs_of(layout, [row]) == ([Pair([user("q")], "a", "b")], [])


ROW = {"prompt": "q", "chosen": "a", "rejected": "b"}


def test_a_late_value_in_a_column_of_another_layout_is_a_reason() -> None:
    """The layout is told by a sample, in which the column is null; a user who names the columns decides."""
    late = ROW | {"question": "another prompt"}
    named = by_columns({name: name for name in ROW})
    for column in ("question", "generations", "context", "gold_document"):
        row = ROW | {column: "a late value"}
        [read] = read_all(detect([ROW], "rows", list(row)), [("row 0", row)])
        assert isinstance(read.result, Rejected) and read.result.reason == "ambiguous"
        assert read.result.detail.startswith(f"column {column}: ")
    assert pairs_of(named, [late]) == ([Pair([user("q")], "a", "b")], [])


def test_a_row_with_an_image_is_a_reason_wherever_it_stands() -> None:
    rows = [ROW | {"images": images} for images in (["x.png"], [], None)]
    good, reasons = pairs_of(detect(rows, "rows", list(rows[0])), rows)
    assert (len(good), reasons) == (2, ["image"])
    assert pairs_of(by_columns({name: name for name in ROW}), rows)[1] == []


@pytest.mark.parametrize("column", ["image", "images", "img_path", "video"])
def test_a_column_of_images_in_parquet_is_refused_unless_the_columns_are_named(
    tmp_path: Path, column: str
) -> None:
    file = str(tmp_path / "rows.parquet")
    pl.DataFrame([ROW | {column: "x.png"}]).write_parquet(file)
    with pytest.raises(InputError, match=f"column '{column}': only text is read.*import.columns"):
        read_preferences(file)
    [read] = read_preferences(file, {name: name for name in ROW}).rows
    assert not isinstance(read.result, Rejected)


def test_a_column_of_images_on_the_hub_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    table = datasets.Dataset.from_list([ROW | {"images": ["x.png"], "lang": "en"}])
    monkeypatch.setattr(files, "hub_splits", lambda source, config: {"train": table})
    with pytest.raises(InputError, match=r"^org/pairs: column 'images': only text is read"):
        read_preferences("org/pairs")
    preferences = read_preferences("org/pairs", {name: name for name in ROW})
    assert preferences.described == "columns (prompt, chosen, rejected); not read: images, lang"
    [read] = preferences.rows
    assert not isinstance(read.result, Rejected)


@pytest.mark.parametrize(
    ("value", "better"),
    [(1.00003, "a"), ("1.4", "a"), (1.9998, "b"), (2, "b"), (1.5, None), (None, None), (0, None), (3, None)],
)
def test_weighted_annotators_of_alpaca_eval_prefer_the_nearer_output(value: Any, better: str | None) -> None:
    row = {"instruction": "q", "output_1": "a", "output_2": "b", "preference": value}
    layout = next(layout for layout in LAYOUTS if layout.name == "alpaca-eval")
    good, reasons = pairs_of(layout, [row])
    assert [pair.chosen for pair in good] == ([better] if better else [])
    assert reasons == ([] if better else ["tie" if value in (0, 1.5) else "no_preference"])


TIES: list[tuple[str, Row]] = [
    ("arena-text", {"winner": "tie"}),
    ("arena-text", {"winner": "both_bad"}),
    ("fastchat", {"winner": "tie"}),
    ("arena-55k", {"winner_model_a": 0, "winner_model_b": 0, "winner_tie": 1}),
    ("helpsteer3", {"overall_preference": 0}),
    ("webgpt", {"score_0": 0.5, "score_1": 0.5}),
]


@pytest.mark.parametrize(("name", "label"), TIES)
def test_a_tie_has_its_own_reason(name: str, label: Row) -> None:
    layout = next(layout for layout in LAYOUTS if layout.name == name)
    assert label.keys() <= layout.example.keys()
    assert pairs_of(layout, [{**layout.example, **label}]) == ([], ["tie"])
    unknown = dict.fromkeys(label, None)
    assert pairs_of(layout, [{**layout.example, **unknown}]) == ([], ["no_preference"])


def test_conversations_are_read_up_to_the_turn_that_was_judged() -> None:
    def row(reply: str, turn: Any) -> Row:
        turns = [[user("q"), assistant(text), user("r"), assistant(text * 2)] for text in ("a", reply)]
        sides = {"conversation_a": turns[0], "conversation_b": json.dumps(turns[1])}
        return {**sides, "winner": "model_b", "turn": turn}

    first, same = row("b", 1), row("a", "1")
    layout = detect([first, same], "rows", list(first))
    assert pairs_of(layout, [first]) == ([Pair([user("q")], "b", "a")], [])
    later = [row("b", 2), row("b", None), row("b", 3), row("b", 0), row("b", 1.5)]
    reasons = ["equal_sides", *["prompts_differ"] * 2, *["not_one_reply"] * 3]
    assert pairs_of(layout, [same, *later]) == ([], reasons)


def test_a_vote_within_a_session_has_earlier_turns_that_are_not_read() -> None:
    """The Arena's 140k: `full_conversation` has the exchanges of the votes before."""
    turns = [[user("r"), assistant(text)] for text in "ab"]
    row = {"conversation_a": turns[0], "conversation_b": turns[1], "winner": "model_a"}
    exchange = {"user": turns[0][0], "model_side_a": turns[0][1], "model_side_b": turns[1][1]}
    rows = [
        row | {"evaluation_order": order, "full_conversation": [exchange] * size}
        for order, size in ((1, 1), (2, 2), (None, 2), (2, 0))
    ]
    layout = detect(rows, "rows", list(rows[0]))
    assert pairs_of(layout, rows) == ([Pair([user("r")], "a", "b")], ["earlier_turns"] * 3)


def test_lists_of_steps_are_no_rival_replies() -> None:
    layout = next(layout for layout in LAYOUTS if layout.name == "rewardbench2")
    row = {"prompt": "q", "chosen": ["a", "b"], "rejected": ["c"]}
    assert pairs_of(layout, [row]) == ([], ["not_one_reply"])
    assert len(pairs_of(layout, [row | {"num_correct": 2}])[0]) == 2
    rm_bench = {"prompt": "q", "chosen": ["a", "b", "c"], "rejected": ["d", "e", "f"], "domain": "chat"}
    assert len(pairs_of(layout, [rm_bench])[0]) == 9
    assert len(pairs_of(layout, [row | {"chosen": ["a"], "rejected": ["b", "c"]}])[0]) == 2


def test_a_side_without_text_or_of_a_picture_is_no_reply() -> None:
    for reply, reason in (("\u200b", "no_reply"), ("img/0_a.png", "image"), ("http://x.org/a.JPG", "image")):
        assert pairs_of(detect([ROW], "rows", []), [ROW | {"chosen": reply}]) == ([], [reason])
    fine = ROW | {"chosen": "See img/a.png", "rejected": "a.png"}
    assert len(pairs_of(detect([ROW], "rows", []), [fine])[0]) == 1


def test_scores_of_two_scales_are_not_compared() -> None:
    [layout] = [layout for layout in LAYOUTS if layout.name == "ultrafeedback"]
    rated = [
        {"response": reply, "annotations": {"honesty": {"Rating": rating}, "truthfulness": {"Rating": "N/A"}}}
        for reply, rating in (("a", "5"), ("b", "1"))
    ]
    row = {"instruction": "q", "completions": rated}
    assert pairs_of(layout, [row]) == ([Pair([user("q")], "a", "b")], [])
    mixed = [rated[0], rated[1] | {"overall_score": 7.5}]
    assert pairs_of(layout, [row | {"completions": mixed}]) == ([], ["no_preference"])
    three = [*mixed, {"response": "c", "overall_score": 2}]
    assert pairs_of(layout, [row | {"completions": three}]) == ([Pair([user("q")], "b", "c")], [])


@pytest.mark.parametrize("label", [-100, 4, "-7"])
def test_a_label_beyond_the_scale_says_nothing(label: Any) -> None:
    row = {"context": [user("q")], "response1": "a", "response2": "b", "overall_preference": -1}
    assert pairs_of(detect([row], "rows", []), [row, row | {"overall_preference": label}]) == (
        [Pair([user("q")], "a", "b")],
        ["no_preference"],
    )


@pytest.mark.parametrize("null", ["nan", "NaN", "None", "null", "NULL", "<NA>", "#N/A"])
def test_the_text_of_a_null_is_no_prompt_and_no_reply(null: str) -> None:
    rows = [ROW | {name: null} for name in ROW]
    assert pairs_of(detect([ROW], "rows", list(ROW)), rows) == ([], ["no_prompt", "no_reply", "no_reply"])
    within = {"prompt": f"Is {null} a word?", "chosen": f"{null} is.", "rejected": "No."}
    assert pairs_of(detect([within], "rows", list(ROW)), [within])[1] == []
    scored = [{"response": "a", "overall_score": 2}, {"response": null, "overall_score": 1}]
    row = {"instruction": "q", "completions": scored}
    assert pairs_of(detect([row], "rows", list(row)), [row]) == ([], ["no_preference"])


def test_a_judge_of_distilabel_who_rates_both_sides_the_same_makes_a_tie() -> None:
    rows = [{"input": "q", "chosen": "a", "rejected": "b", "status": word} for word in ("tie", "swapped")]
    assert pairs_of(detect(rows, "rows", []), rows) == ([Pair([user("q")], "a", "b")], ["tie"])


def test_every_ranked_turn_of_a_tree_is_a_preference() -> None:
    def node(role: str, text: str, replies: Any = (), **values: Any) -> Row:
        return {"role": role, "text": text, "replies": list(replies), **values}

    def tree(*replies: Row) -> Row:
        return {"message_tree_id": "1", "prompt": node("prompter", "q", replies)}

    follow_up = node(
        "prompter",
        "And then?",
        [node("assistant", "c", rank=1), node("assistant", "d", rank=0, model_name="m")],
        rank=1,
    )
    good = node("assistant", "a", [follow_up, node("prompter", "No.", rank=0)], rank=0)
    rows = [
        tree(good, node("assistant", "gone", rank=9, deleted=True), node("assistant", "b", rank=2)),
        tree(good),
    ]
    layout = detect(rows, "rows", list(rows[0]))
    second = Pair([user("q"), assistant("a"), user("And then?")], "d", "c")
    assert pairs_of(layout, rows) == ([Pair([user("q")], "a", "b"), second, second], [])
    spoiled = [
        tree(),
        {"message_tree_id": "1", "prompt": user("q")},
        tree(node("assistant", "a", [{"text": "b"}], rank=0)),
        tree(good | {"replies": "b"}),
    ]
    assert pairs_of(layout, spoiled) == ([], ["no_preference"] * 3 + ["not_text"])


@pytest.mark.parametrize(
    ("columns", "advice"),
    [
        (("message_id", "parent_id", "text", "role", "message_tree_id"), "give its file of trees"),
        (("labeler", "question", "label"), "PRM800K rates the steps of solutions"),
        (("prompt", "completions", "labels"), "labels rate the steps of a reply"),
        (("doc_id", "doc", "target", "arguments", "resps"), "`eval lm-eval` runs its tasks"),
        (("id", "custom_id", "response", "error"), "join the two by custom_id"),
        (("custom_id", "method", "url", "body"), "import.columns query=body"),
        (("id", "status", "_server_id", "instruction", "choice.responses"), "records of Argilla"),
    ],
)
def test_a_known_file_that_is_no_preference_is_told_what_to_do(columns: list[str], advice: str) -> None:
    row = dict.fromkeys(columns, "a")
    with pytest.raises(InputError, match=f"^rows: .*{advice}") as error:
        detect([row], "rows", list(row))
    assert "\n" not in str(error.value)
    if not {"prompt", "question", "instruction"} & {*columns}:
        with pytest.raises(InputError, match=f"^rows: .*{advice}"):
            find_queries(list(row), [row], "rows", None)
    with pytest.raises(InputError, match=f"^rows: .*{advice}"):
        find_columns(list(row), [row], "rows", ["large", "small"], {})


def test_requests_of_a_batch_are_queries_where_their_column_is_named() -> None:
    row = {"custom_id": "1", "body": {"model": "m", "messages": [user("q")]}}
    assert find_queries(list(row), [row], "rows", "body").read("rows:1", row) == (user("q"),)


def test_items_of_a_benchmark_are_sent_to_its_evaluation(tmp_path: Path) -> None:
    file = tmp_path / "kind.task.json"
    file.write_text(json.dumps({"examples": [{"input": "q", "target_scores": {"a": 1, "b": 0}}]}), "utf-8")
    with pytest.raises(InputError, match="for evaluation only: `eval static-hhh` reads Static HHH") as error:
        read_preferences(str(file))
    assert "\n" not in str(error.value)


def test_the_input_of_an_instruction_is_read_in_every_layout_with_instructions() -> None:
    layouts = [layout for layout in LAYOUTS if "instruction" in layout.columns]
    assert len(layouts) > 4
    for layout in layouts:
        for addition, prompt in (
            ("In one word.", "Is tea a fruit?\n\nIn one word."),
            ("", "Is tea a fruit?"),
        ):
            rows = [row | {"input": addition} for row in example_rows(layout)]
            [pair], reasons = pairs_of(detect(rows, "rows", []), rows)
            assert (pair.text, reasons) == (prompt, [])
        rows = [row | {"input": ["In one word."]} for row in example_rows(layout)]
        assert pairs_of(layout, rows) == ([], ["not_text"])


def test_summaries_of_an_article_are_replies_to_it() -> None:
    [layout] = [layout for layout in LAYOUTS if layout.name == "summarize-from-feedback"]
    info = {"post": None, "article": "Why is tea green?"}
    assert pairs_of(layout, [layout.example | {"info": info}])[0][0].text == "Why is tea green?"


def test_annotators_who_differ_prefer_no_answer() -> None:
    layout = next(layout for layout in LAYOUTS if layout.name == "label-studio")
    cases = {("left",): "Yes.", ("right", "right"): "No, a leaf.", ("left", "right"): None, (): None}
    for sides, chosen in cases.items():
        results = [[{"type": "pairwise", "value": {"selected": side}}] for side in sides]
        annotations = [{"result": result} for result in results]
        annotations.append(
            {"result": [{"type": "pairwise", "value": {"selected": "left"}}], "was_cancelled": True}
        )
        good, reasons = pairs_of(layout, [{**layout.example, "annotations": annotations}])
        assert [pair.chosen for pair in good] == ([chosen] if chosen else [])
        assert reasons == ([] if chosen else ["no_preference"])


def test_unpaired_replies_make_a_pair_only_where_a_true_and_a_false_one_follow_each_other() -> None:
    def rows(*labels: Any, prompt: str = "q") -> list[Row]:
        return [
            {"prompt": prompt, "completion": f"{label}{n}", "label": label} for n, label in enumerate(labels)
        ]

    layout = detect(rows(True, False), "rows", [])
    good, reasons = pairs_of(layout, rows(True, False, 1, None))
    assert [pair[1:] for pair in good] == [("True0", "False1"), ("12", "False1")] and reasons == []
    equal = [row | {"completion": text} for row, text in zip(rows(True, False, False), "aba", strict=True)]
    assert [pair[1:] for pair in pairs_of(layout, equal)[0]] == [("a", "b")]
    alone = [*rows(True), *rows(True, True, prompt="r"), *rows(False)]
    assert pairs_of(layout, alone) == ([], ["lone_row", "no_preference", "lone_row"])
    of_two_systems = [row | {"system": text} for row, text in zip(rows(True, False), "ab", strict=True)]
    assert pairs_of(layout, of_two_systems) == ([], ["lone_row"] * 2)


def test_replies_that_repeat_the_prompt_are_no_replies_where_most_of_them_do() -> None:
    repeated = {"prompt": "Why so? ", "chosen": "Why so?\nBecause.", "rejected": "Why so? No."}
    with pytest.raises(
        InputError, match=r"chosen begins with the text of prompt: leave it out .* import\.columns"
    ) as error:
        detect([repeated, repeated, ROW], "rows", list(ROW))
    assert "\n" not in str(error.value)
    dialogue = {name: f"{hh([user('q')])}\n\nAssistant: {name}".removesuffix(" prompt") for name in ROW}
    with pytest.raises(InputError, match=r"by import\.columns chosen=chosen,rejected=rejected$"):
        detect([dialogue], "rows", list(ROW))
    sides = by_columns({name: name for name in ("chosen", "rejected")})
    assert pairs_of(sides, [dialogue])[0] == [Pair([user("q")], "chosen", "rejected")]
    good, reasons = pairs_of(detect([repeated, ROW], "rows", list(ROW)), [repeated])
    assert [pair.chosen for pair in good] == [repeated["chosen"]] and reasons == []
    assert pairs_of(by_columns({name: name for name in ROW}), [repeated])[0] == good


@pytest.mark.parametrize(
    "row",
    [
        {"A": "No, a leaf.", "B": "Yes.", "chosen": "A", "rejected": "B"},
        {"response_a": "No, a leaf.", "response_b": "Yes.", "chosen": "response_a", "rejected": "response_b"},
        {"response_a": "No, a leaf.", "response_b": "Yes.", "chosen": "a", "rejected": "b"},
        {"answer_1": "No, a leaf.", "answer_2": "Yes.", "chosen": "1", "rejected": "2"},
        {"model_a": "large", "model_b": "small", "text": "No.", "chosen": "large", "rejected": "small"},
        {"answer_a": "No, a leaf.", "answer_b": "Yes.", "chosen": "0", "rejected": "1"},
        {"response_1": "No, a leaf.", "response_2": "Yes.", "chosen": "Response 1", "rejected": "Response 2"},
        {"text1": "No, a leaf.", "text2": "Yes.", "chosen": "1", "rejected": "2"},
        {"responses": ["No, a leaf.", "Yes."], "chosen": "0", "rejected": "1"},
        {"responses": {"left": "No, a leaf.", "right": "Yes."}, "chosen": "left", "rejected": "right"},
        {"completions": [{"id": "x7"}, {"id": "y1"}, {"uuid": None}], "chosen": "x7", "rejected": "y1"},
        {"response_a": "No.", "response_b": "Yes.", "chosen": "Assistant A", "rejected": "Assistant B"},
        {"response_1": "No.", "response_2": "Yes.", "chosen": "Answer 1", "rejected": "Answer 2"},
        {"response_1": "No.", "response_2": "Yes.", "chosen": "first", "rejected": "second"},
        {"gpt-4-output": "No.", "claude-output": "Yes.", "chosen": "GPT-4", "rejected": "claude"},
    ],
)
def test_a_chosen_that_names_a_reply_elsewhere_is_no_reply(row: Row) -> None:
    row = {"prompt": "Is tea a fruit?", **row}
    reply = ROW | {"chosen": "No, a leaf."}
    with pytest.raises(InputError, match=r"^rows: chosen names a column, .*, and is no reply: write"):
        detect([row, row, reply], "rows", list(row))
    assert detect([row, reply], "rows", list(row)).name == "trl"
    words = row | {"chosen": "Tea", "rejected": "Banana"}
    assert detect([words], "rows", list(words)).name == "trl"


@pytest.mark.parametrize("labels", ["AB", ("response_a", "response_b"), ("Model A", "Model B")])
def test_a_named_column_that_names_a_reply_elsewhere_is_no_reply(tmp_path: Path, labels: Any) -> None:
    file = tmp_path / "rows.jsonl"
    replies = {"response_a": "No, a leaf.", "response_b": "Yes."}
    rows = [{"prompt": "Is tea a fruit?", **replies, "preferred": label} for label in labels]
    file.write_text("\n".join(map(json.dumps, rows)), "utf-8")
    columns = {"prompt": "prompt", "chosen": "preferred", "rejected": "response_b"}
    with pytest.raises(
        InputError, match=r"preferred names a column, .*, and is no reply: .*winner, which says"
    ):
        read_preferences(str(file), columns)
    with pytest.raises(InputError, match=r"rename the columns of two replies .* model_a, model_b or tie"):
        read_preferences(str(file))
    assert read_preferences(str(file), columns | {"chosen": "response_a"}).layout.is_named


def test_replies_that_repeat_the_prompt_behind_a_label_are_no_replies() -> None:
    prompt = "Why is the tea of China green?"
    for form in ("User: {}\nAssistant: {}", "### Instruction:\n{}\n\n### Response:\n{}", "Q: {}\nA: {}"):
        row = {"prompt": prompt, "chosen": form.format(prompt, "a"), "rejected": form.format(prompt, "b")}
        with pytest.raises(InputError, match=r"chosen begins with the text of prompt"):
            detect([row], "rows", list(row))
    named = ROW | {"prompt": "tea", "chosen": "Green tea is tea.", "rejected": "Tea? No tea."}
    sides = {name: json.dumps([user(prompt), assistant(name)]) for name in ("chosen", "rejected")}
    for row in (named, {"prompt": prompt, **sides}):
        assert detect([row], "rows", list(row)).name == "trl"


@pytest.mark.parametrize(
    "layout",
    [layout for layout in LAYOUTS if layout.name in ("kto", "helpsteer", "argilla", "arena-text")],
    ids=lambda layout: layout.name,
)
def test_replies_of_any_layout_that_repeat_the_prompt_are_no_replies(layout: Layout) -> None:
    prompt = next(name for name in layout.columns if name in PROMPT_COLUMNS)
    texts = ("No, a leaf.", "Yes.")
    rows = [
        {name: f"Is tea a fruit? {value}" if value in texts else value for name, value in row.items()}
        for row in example_rows(layout)
    ]
    with pytest.raises(InputError, match=rf" begins with the text of {prompt}: .*chosen=NAME,rejected=NAME"):
        detect(rows, "rows", list(rows[0]))


def test_turns_after_a_reply_to_a_dialogue_of_hh_are_a_reason() -> None:
    row = ROW | {"prompt": hh([user("q")]) + "\n\nAssistant:"}
    later = row | {"chosen": "a\n\nHuman: And?\n\nAssistant: So."}
    assert pairs_of(detect([row, later], "rows", []), [row, later]) == (
        [Pair([user("q")], "a", "b")],
        ["not_one_reply"],
    )


def test_earlier_turns_in_a_column_of_their_own_are_not_lost() -> None:
    earlier = {"conversation": [user("p"), assistant("o")]}
    rows = [ROW, ROW | earlier]
    assert pairs_of(detect(rows, "rows", []), rows) == ([Pair([user("q")], "a", "b")], ["ambiguous"])
    whole = {"chosen": [user("q"), assistant("a")], "rejected": [user("q"), assistant("b")]} | earlier
    as_text = whole | {side: json.dumps(whole[side]) for side in ("chosen", "rejected")} | {"prompt": "q"}
    for row in (whole, as_text):
        assert pairs_of(detect([row], "rows", []), [row]) == ([Pair([user("q")], "a", "b")], [])
    named = by_columns({**dict(zip(ROW, ROW, strict=True)), "history": "conversation"})
    [pair], _ = pairs_of(named, rows[1:])
    assert pair.prompt == [user("p"), assistant("o"), user("q")]


def test_turns_as_json_objects_are_no_replies_where_most_of_them_are() -> None:
    forms: list[Callable[[str], Any]] = [
        assistant,
        lambda text: {"role": "gpt", "text": text},
        lambda text: {"content": text},
        lambda text: [{"type": "text", "text": text}],
        lambda text: {"choices": [{"message": assistant(text)}]},
        lambda text: [[assistant(text)]],
        lambda text: json.dumps([assistant(text)]),
        lambda text: f"{text}.\nAnd more.",
    ]
    forms_of_sides = [
        ROW | {name: json.dumps(form(name)) for name in ("chosen", "rejected")} for form in forms
    ]
    turn = forms_of_sides[0]
    for row in forms_of_sides:
        with pytest.raises(
            InputError, match=r"chosen holds lists of texts, or turns or texts as JSON: .*import\.col"
        ):
            detect([row, row, ROW], "rows", list(ROW))
    assert pairs_of(detect([turn, ROW], "rows", list(ROW)), [turn])[0][0].chosen == turn["chosen"]
    request = ROW | {"prompt": json.dumps({"messages": [user("q")]})}
    with pytest.raises(InputError, match="prompt holds lists of texts, or turns or texts as JSON"):
        detect([request], "rows", list(ROW))
    for reply in (
        *('{"role": "engineer", "content": "a"}', '{"role": "user"}', '{"content": ', "{}", '"a"', "[[1]]"),
        *('"So," she said.', '"C:\\new"\nand more'),
        *('{"text": "a", "answer": "b"}', '[{"type": "bird", "text": "a"}]', '{"choices": 2}', "[[]]"),
    ):
        assert detect([ROW | {"chosen": reply}], "rows", list(ROW)).name == "trl"


def test_blanks_around_a_prompt_do_not_part_it_from_a_whole_conversation() -> None:
    row = {"prompt": "q", "chosen": [user("q\n"), assistant("a")], "rejected": [user("q\n"), assistant("b")]}
    assert pairs_of(detect([row], "rows", list(row)), [row]) == ([Pair([user("q\n")], "a", "b")], [])


def test_two_prompt_columns_beside_whole_conversations_must_agree() -> None:
    whole = {"chosen": [user("q"), assistant("a")], "rejected": [user("q"), assistant("b")]}
    rows = [
        whole | {"prompt": p, "question": q} for p, q in (("q", None), ("", "q"), ("q", "r"), ("r", None))
    ]
    layout = detect(rows, "rows", [])
    assert layout.name == "orpo-mix"
    assert pairs_of(layout, rows) == ([Pair([user("q")], "a", "b")] * 2, ["prompts_differ"] * 2)
    row = ROW | {"generations": ["a", "b"], "instruction": "another"}
    assert pairs_of(detect([row], "rows", []), [row]) == ([], ["prompts_differ"])


def test_named_columns_decide(tmp_path: Path) -> None:
    rows = [{"question": "q?", "instruction": "i?", "good": "a", "bad": "b"}]
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps(rows[0]), "utf-8")
    read = read_preferences(str(file), {"prompt": "instruction", "chosen": "good", "rejected": "bad"})
    [row] = read.rows
    assert not isinstance(row.result, Rejected)
    assert row.result[0].prompt == (user("i?"),) and row.result[0].rejected.text == "b"
    with pytest.raises(InputError, match="no column 'wrong'; it has: question, instruction, good, bad"):
        read_preferences(str(file), {"prompt": "wrong", "chosen": "good", "rejected": "bad"})
    for assignments in ({"chosen": "good"}, {"chosen": "a", "rejected": "b", "label": "c"}):
        with pytest.raises(InputError, match=r"import\.columns: name chosen and rejected"):
            by_columns(assignments)


def test_the_input_of_an_instruction_that_is_named_is_read_after_it(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps({"instruction": "Say", "input": "tea", "good": "a", "bad": "b"}), "utf-8")
    columns = {"prompt": "instruction", "chosen": "good", "rejected": "bad"}
    read = read_preferences(str(file), columns)
    assert read.described == "columns (instruction, good, bad, input)"
    [row] = read.rows
    assert not isinstance(row.result, Rejected)
    assert row.result[0].prompt == (user("Say\n\ntea"),)
    read = read_preferences(str(file), columns | {"system": "input"})
    [row] = read.rows
    assert not isinstance(row.result, Rejected)
    assert [turn["content"] for turn in row.result[0].prompt] == ["tea", "Say"]


def test_columns_with_commas_and_signs_in_their_names_can_be_named() -> None:
    assert parse_columns("prompt=a, b,chosen=c=d,rejected=best, or e.f") == {
        "prompt": "a, b",
        "chosen": "c=d",
        "rejected": "best, or e.f",
    }
    for text in (
        *("prompt=a,label=b", "prompt", "prompt=a,prompt=b", "a,prompt=b", "prompt="),
        *("prompt=a, chosen=b", "prompt=a,chosen=a"),
    ):
        with pytest.raises(InputError, match=r"^import\.columns .*: write one or more of prompt=NAME,"):
            parse_columns(text)


def test_a_list_in_python_is_a_reply_where_most_are_text() -> None:
    rows = [ROW, ROW, ROW | {"chosen": "['a', 'b']"}]
    good, reasons = pairs_of(detect(rows, "rows", []), rows)
    assert [pair.chosen for pair in good] == ["a", "a", "['a', 'b']"] and reasons == []


def test_scores_and_models_beside_dialogues_as_text_are_kept() -> None:
    facts = {"chosen_model": "large", "rejected_score": 1.5}
    rows = [row for layout in LAYOUTS if layout.name.startswith("hh-") for row in example_rows(layout)]
    assert len(rows) == 2
    for row in rows:
        [read] = read_all(detect([row], "rows", []), [("row 0", row | facts)])
        assert not isinstance(read.result, Rejected)
        assert (read.result[0].chosen.model, read.result[0].rejected.score) == ("large", 1.5)


def test_models_scores_and_origins_are_kept_where_they_are_columns() -> None:
    row = {
        "prompt": "Is tea a fruit?",
        "chosen": "No.",
        "rejected": "Yes.",
        "chosen_model": "large",
        "rejected-model": "small",
        "score_chosen": 4,
        "rejected_rating": "1.5",
        "source": "quiz",
    }
    [read] = read_all(detect([row], "rows", []), [("row 0", row)])
    assert not isinstance(read.result, Rejected)
    [pair] = read.result
    assert (pair.chosen.model, pair.chosen.score) == ("large", 4.0)
    numbers = {
        "4": 4.0,
        "4,5": 4.5,
        " -1,25": -1.25,
        "1,250": None,
        "1,2,3": None,
        10**400: None,
        Decimal("4.50"): 4.5,
        "nan": None,
        "Infinity": None,
        "N/A": None,
        True: None,
        float("nan"): None,
    }
    assert [number_of(value) for value in numbers] == list(numbers.values())
    assert (pair.rejected.model, pair.rejected.score, read.origin) == ("small", 1.5, "quiz")


SIDES_NAMED = {"good": "No.", "bad": "Yes."}


@pytest.mark.parametrize(
    "row",
    [
        {"q": "Is tea a fruit?", "good": "No.", "bad": "Yes."},
        {"q": hh([user("Is tea a fruit?")]), "good": "No.", "bad": "Yes."},
        *(
            {side: form([user("Is tea a fruit?"), assistant(text)]) for side, text in SIDES_NAMED.items()}
            for form in (hh, FORMS["messages"])
        ),
    ],
)
def test_a_column_of_the_system_prompt_that_is_named_is_read(row: Row) -> None:
    names = {"system": "rules", "chosen": "good", "rejected": "bad"} | ({"prompt": "q"} if "q" in row else {})
    row = row | {"rules": "Be brief.", "system": "Be long."}
    [read] = read_all(by_columns(names), [("row 0", row)])
    assert not isinstance(read.result, Rejected)
    [pair] = read.result
    assert pair.prompt == ({"role": "system", "content": "Be brief."}, user("Is tea a fruit?"))
    assert (pair.chosen.text, pair.rejected.text) == ("No.", "Yes.")


TEXTS_RANKED = {"Best.": ("large", 5.0), "Fair.": ("middle", 3.0), "Worst.": ("small", 1.0)}
"""Replies with their models and scores, of which the order in a row is another."""


@pytest.mark.parametrize(
    ("row", "has_scores"),
    [
        ({"instruction": "Why?", "completions": [
            {"response": text, "model": TEXTS_RANKED[text][0], "overall_score": TEXTS_RANKED[text][1]}
            for text in ("Fair.", "Worst.", "Best.")
        ]}, True),
        ({"prompt": "Why?",
          "generations": ["Fair.", "Best.", "Worst."],
          "ratings": [3, 5, 1],
          "generation_models": ["middle", "large", "small"]}, True),
        ({"prompt": hh([user("Why?")]) + "\n\nAssistant:", "answers": [
            {"answer": text, "model": TEXTS_RANKED[text][0], "rank": 6 - TEXTS_RANKED[text][1]}
            for text in ("Worst.", "Fair.", "Best.")
        ]}, False),
    ],
)  # fmt: skip
def test_of_several_replies_the_best_is_chosen_over_the_worst_each_with_its_model(
    row: Row, has_scores: bool
) -> None:
    [read] = read_all(detect([row], "rows", []), [("row 0", row)])
    assert not isinstance(read.result, Rejected)
    [pair] = read.result
    for side, text in ((pair.chosen, "Best."), (pair.rejected, "Worst.")):
        model, score = TEXTS_RANKED[text]
        assert (side.text, side.model, side.score) == (text, model, score if has_scores else None)


def test_files_of_several_layouts_in_a_folder_are_refused(tmp_path: Path) -> None:
    """Also where the rows by which the layout is told are all of the first file."""
    foreign_row = {"question": "q", "chosen": "a", "rejected": "b"}
    for name, rows in {"a": [ROW] * files.SAMPLE, "b": [ROW], "c": [foreign_row]}.items():
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    match = (
        r"files of several layouts: the first is TRL, explicit prompt \(prompt, chosen, rejected\), and "
        r"c\.jsonl has no column 'prompt' but chosen, question, rejected: give one of them, or files of one"
    )
    with pytest.raises(InputError, match=match):
        read_preferences(str(tmp_path))
    (tmp_path / "c.jsonl").unlink()
    assert len(list(read_preferences(str(tmp_path)).rows)) == files.SAMPLE + 1
