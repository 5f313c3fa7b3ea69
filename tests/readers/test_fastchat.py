"""FastChat's folders, as they were saved first and as they are saved now."""

import json
from pathlib import Path
from typing import Any

import pytest

from almost_data.cards.rebuild import import_command
from almost_data.errors import InputError
from almost_data.run import importing
from almost_data.store.store import Store

Rows = list[dict[str, Any]]


def write(folder: Path, files: dict[str, Rows]) -> str:
    for name, rows in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return str(folder)


def answers(model: str, is_current: bool) -> Rows:
    texts = [f"So, by {model}.", f"There, by {model}."]
    if is_current:
        choices = [[{"index": 0, "turns": [text, "And that."]}] for text in texts]
        return [
            {"question_id": 80 + n, "model_id": model, "choices": choice} for n, choice in enumerate(choices)
        ]
    return [{"question_id": 80 + n, "model_id": model, "text": text} for n, text in enumerate(texts)]


def judgment(question: int, first: str, second: str, turn: int = 1) -> dict[str, Any]:
    models = {"model_1": "a", "model_2": "b"}
    return {"question_id": question, **models, "g1_winner": first, "g2_winner": second, "turn": turn}


OLD = {
    "question.jsonl": [{"question_id": 80, "text": "Why?"}, {"question_id": 81, "text": "Where?"}],
    **{f"answer/{model}.jsonl": answers(model, False) for model in "ab"},
}
CURRENT = {
    "question.jsonl": [
        {"question_id": 80, "turns": ["Why?", "And then?"]},
        {"question_id": 81, "turns": ["Where?", "And then?"]},
    ],
    **{f"model_answer/{model}.jsonl": answers(model, True) for model in "ab"},
    "model_judgment/gpt-4_pair.jsonl": [
        judgment(80, "model_2", "model_2"),
        judgment(81, "model_1", "model_2"),
        judgment(81, "tie", "tie"),
        judgment(81, "model_1", "model_1", turn=2),
    ],
}


ARENA_HARD = {
    "question.jsonl": [
        {"question_id": 80 + n, "turns": [{"content": text}]} for n, text in enumerate(("Why?", "Where?"))
    ],
    **{
        f"model_answer/{model}.jsonl": [
            {
                "question_id": row["question_id"],
                "model_id": model,
                "choices": [{"turns": [{"content": row["text"]}]}],
            }
            for row in answers(model, False)
        ]
        for model in "ab"
    },
}


def test_models_whose_names_are_no_folders_get_others(store: Store, tmp_path: Path) -> None:
    names = ["gpt-3.5", "Qwen/Qwen3-8B", "alpaca-13b:v1"]
    files = {f"answer/{n}.jsonl": answers(name, False) for n, name in enumerate(names)}
    folder = write(tmp_path / "bench", OLD | {"answer/a.jsonl": [], "answer/b.jsonl": []} | files)
    question = r"the file has: Qwen/Qwen3-8B, alpaca-13b:v1, gpt-3.5; for one with .*: NAME=Qwen/Qwen3-8B$"
    with pytest.raises(InputError, match=question):
        importing.import_responses(store, folder, [], "1.0.0")
    with pytest.raises(
        InputError, match=r"'alpaca-13b:v1': use letters.* \(in an import, NAME=alpaca-13b:v1\)"
    ):
        importing.import_responses(store, folder, ["gpt-3.5", "alpaca-13b:v1"], "1.0.0")
    ladder = ["gpt-3.5", "qwen=Qwen/Qwen3-8B", "alpaca=alpaca-13b:v1"]
    manifest = importing.import_responses(store, folder, ladder, "1.0.0")
    rows = store.scan(manifest.ref).collect().sort("rank")
    assert rows["responder"].unique(maintain_order=True).to_list() == ["gpt-3.5", "qwen", "alpaca"]
    assert rows["response"].to_list() == [f"{word}, by {name}." for name in names for word in ("So", "There")]
    assert "--ladder gpt-3.5,qwen=Qwen/Qwen3-8B,alpaca=alpaca-13b:v1 " in import_command(manifest)
    for wrong, why in (
        (["a=gpt-3.5", "b=gpt-3.5"], "name each responder of the file once"),
        (["a=gpt-3.5", "b=other"], "no row of responder 'other'.*; it has .*alpaca"),
        (["a=x,y", "b"], "to a name without a comma"),
        (["gpt-3.5=alpaca-13b:v1", "qwen=Qwen/Qwen3-8B"], "gives the name 'gpt-3.5', which is another's"),
    ):
        with pytest.raises(InputError, match=why):
            importing.import_responses(store, folder, wrong, "2.0.0")


ARENA_HARD_2 = {
    "question.jsonl": [{"uid": n, "prompt": text} for n, text in enumerate(("Why?", "Where?"))],
    **{
        f"model_answer/{model}.jsonl": [
            {"uid": n, "model": model, "messages": [{"role": "user"}, {"content": {"answer": row["text"]}}]}
            for n, row in enumerate(answers(model, False))
        ]
        for model in "ab"
    },
}
BROKEN: list[dict[str, Any]] = [
    *({"choices": value} for value in (["So."], {"0": {"turns": ["So."]}}, [{"turns": [["So."]]}], 7)),
    *({"messages": value} for value in (["So."], [{}, {"content": 7}], [{}])),
]


@pytest.mark.parametrize("answer", BROKEN)
def test_an_answer_of_another_form_is_a_reason(store: Store, tmp_path: Path, answer: dict[str, Any]) -> None:
    row = {"question_id": 80, "model_id": "a", **answer}
    files = CURRENT | {"model_answer/a.jsonl": [row, *answers("a", True)[1:]]}
    folder = write(tmp_path / "bench", files)
    rows = store.scan(
        importing.import_responses(store, folder, ["a", "b"], "1.0.0").ref, "rejected"
    ).collect()
    assert rows["reason"].to_list() == ["missing"]
    with pytest.raises(InputError, match=r"no row that can be used .*: correct the rows"):
        importing.import_preferences(store, folder, "1.0.0")


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("question.jsonl", {"question_id": 80, "turns": [{"content": ["Why?"]}]}),
        ("model_judgment/gpt-4_pair.jsonl", judgment(80, "model_1", "model_1") | {"model_1": ["a"]}),
        ("model_judgment/gpt-4_pair.jsonl", judgment(80, "model_1", "model_1") | {"g1_winner": ["a"]}),
    ],
)
def test_a_question_or_judgment_of_another_form_is_a_reason(
    store: Store, tmp_path: Path, name: str, row: dict[str, Any]
) -> None:
    good = [judgment(81, "model_1", "model_1")] if "judgment" in name else CURRENT[name][1:]
    files = CURRENT | {"model_judgment/gpt-4_pair.jsonl": [judgment(n, *["model_1"] * 2) for n in (80, 81)]}
    folder = write(tmp_path / "bench", files | {name: [row, *good]})
    manifest = importing.import_preferences(store, folder, "1.0.0")
    [pair] = store.scan(manifest.ref).collect().to_dicts()
    assert pair["prompt"][0]["content"] == "Where?"
    assert len(store.scan(manifest.ref, "rejected").collect()) == 1


@pytest.mark.parametrize("files", [OLD, CURRENT, ARENA_HARD, ARENA_HARD_2])
def test_answers_are_responses_to_the_first_turn(
    store: Store, tmp_path: Path, files: dict[str, Rows]
) -> None:
    manifest = importing.import_responses(store, write(tmp_path / "bench", files), ["a", "b"], "1.0.0")
    rows = store.scan(manifest.ref).collect()
    read = {(row["prompt"][0]["content"], row["responder"], row["response"]) for row in rows.to_dicts()}
    assert read == {
        (prompt, model, f"{word}, by {model}.")
        for prompt, word in (("Why?", "So"), ("Where?", "There"))
        for model in "ab"
    }


def test_judgments_are_preferences_where_both_orders_agree(store: Store, tmp_path: Path) -> None:
    manifest = importing.import_preferences(store, write(tmp_path / "bench", CURRENT), "1.0.0")
    [row] = store.scan(manifest.ref).collect().to_dicts()
    assert (row["chosen"][0]["content"], row["rejected"][0]["content"]) == ("So, by b.", "So, by a.")
    assert (row["chosen_responder"], row["rejected_responder"]) == ("b", "a")
    assert store.scan(manifest.ref, "rejected").collect()["reason"].to_list() == [
        "orders_disagree",
        "tie",
    ]


def test_reviews_of_the_oldest_layout_are_preferences_by_score(store: Store, tmp_path: Path) -> None:
    replies = {
        f"answer/{model}.jsonl": [
            row | {"answer_id": f"{model}{n}"} for n, row in enumerate(answers(model, False))
        ]
        for model in "ab"
    }
    sides = {"answer1_id": "a0", "answer2_id": "b0", "question_id": 80}
    scores: list[Any] = [[8.0, 9.5], [9, 9], [-1, -1], None]
    reviews = [{**sides, "score": score} for score in scores]
    files = OLD | replies | {"review/a_b.jsonl": reviews}
    manifest = importing.import_preferences(store, write(tmp_path / "bench", files), "1.0.0")
    [row] = store.scan(manifest.ref).collect().to_dicts()
    assert (row["chosen"][0]["content"], row["rejected"][0]["content"]) == ("So, by b.", "So, by a.")
    rejected = store.scan(manifest.ref, "rejected").collect()["reason"].to_list()
    assert sorted(rejected) == ["no_preference", "no_preference", "tie"]


def test_a_review_without_its_answers_is_no_preference(store: Store, tmp_path: Path) -> None:
    """An answer without an id is not that of a review that names none, nor is one to another question."""
    sides = {"a": answers("a", False), "b": answers("b", True)}
    for model, rows in sides.items():
        rows[0]["answer_id"] = f"{model}0"
    named = {"answer1_id": "a0", "answer2_id": "b0"}
    reviews = [
        {**named, "question_id": 80, "score": [8, 9]},
        {"question_id": 81, "score": [8, 9]},
        {**named, "answer1_id": ["a0"], "question_id": 80, "score": [8, 9]},
        {**named, "question_id": 81, "score": [8, 9]},
    ]
    files = {f"answer/{model}.jsonl": rows for model, rows in sides.items()}
    files["review/a_b.jsonl"] = reviews
    manifest = importing.import_preferences(store, write(tmp_path / "bench", OLD | files), "1.0.0")
    [row] = store.scan(manifest.ref).collect().to_dicts()
    assert (row["chosen"][0]["content"], row["rejected"][0]["content"]) == ("So, by b.", "So, by a.")
    assert len(store.scan(manifest.ref, "rejected").collect()) == 3


@pytest.mark.parametrize(
    ("part", "advice"),
    [
        ("", "no judgment in model_judgment/ or review/: `import responses` reads the answers"),
        ("answer", r"answers without their questions: give the folder that has question\.jsonl and answer/"),
        (
            "review",
            r"name their answers by id: give the folder that has question\.jsonl, answer/ and review/",
        ),
    ],
)
def test_a_part_of_a_folder_is_refused_with_what_to_give(
    store: Store, tmp_path: Path, part: str, advice: str
) -> None:
    review = {"answer1_id": "a", "answer2_id": "b", "question_id": 80, "score": [1, 2]}
    old = {name: [row | {"answer_id": "a"} for row in rows] for name, rows in OLD.items()}
    write(tmp_path / "bench", old)
    write(tmp_path / "other", {"review/a_b.jsonl": [review]})
    folder = tmp_path / ("other" if part == "review" else "bench") / part
    with pytest.raises(InputError, match=advice):
        importing.import_preferences(store, str(folder), "1.0.0")


def test_an_answer_to_no_question_is_refused(store: Store, tmp_path: Path) -> None:
    folder = write(tmp_path / "bench", CURRENT | {"question.jsonl": CURRENT["question.jsonl"][:1]})
    with pytest.raises(InputError, match=r"a\.jsonl:2: no question 81 in question\.jsonl"):
        importing.import_responses(store, folder, ["a", "b"], "1.0.0")
