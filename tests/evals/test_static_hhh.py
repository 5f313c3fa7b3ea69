"""Static HHH: scorers that know the answers get what they must, whatever the order, and shortcuts show."""

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest

from almost_data.errors import InputError
from almost_data.evals import sources, static_hhh, stats
from almost_data.evals.result import Line, Result
from almost_data.evals.results import results
from almost_data.evals.subject import find
from almost_data.store.store import Store
from tests.evals.known import cli, frame, hhh, judged, language, reward, task
from tests.hub_server import serve
from tests.tiny_models import save_tiny


def by(result: Result, who: str, metric: str = "accuracy") -> dict[str, Line]:
    return {line.subset: line for line in result.lines if (line.who, line.metric) == (who, metric)}


def is_right(turns: tuple[str, ...]) -> float:
    return float(turns[-1].startswith("Right"))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return hhh(tmp_path / "hhh")


def test_a_perfect_and_an_inverted_scorer(store: Store, data: Path) -> None:
    perfect = judged(static_hhh, store, reward(is_right), str(data))
    inverted = judged(static_hhh, store, reward(lambda dialogue: -is_right(dialogue), "inverted"), str(data))
    for subset, n in dict.fromkeys(static_hhh.SUBSETS, 10).items() | {("overall", 40)}:
        line = by(perfect, "known")[subset]
        assert (line.n, line.value, line.ties, line.chance) == (n, 1.0, 0, 0.5)
        assert by(inverted, "inverted")[subset].value == 0.0
    assert not any("guessing" in note or "not beyond" in note for note in perfect.notes)
    assert any("below guessing" in note for note in inverted.notes)


def test_always_longer_stands_beside_every_model_once(store: Store, data: Path) -> None:
    for subject in (reward(is_right), find(store, "baseline:longest")):
        result = judged(static_hhh, store, subject, str(data))
        longer = by(result, "baseline:longest")
        assert [longer[subset].value for subset in (*static_hhh.SUBSETS, "overall")] == [1, 1, 1, 0, 0.75]
        assert sum(line.who == "baseline:longest" for line in result.lines) == 5


def test_items_of_one_dialogue_are_no_proof_apart(store: Store, tmp_path: Path) -> None:
    pairs = [
        (f"Right. {n} and more", f"Wrong {n}") if n % 2 else (f"Right {n}", f"Wrong. {n} and more")
        for n in range(40)
    ]
    apart = task(
        tmp_path / "apart", "helpful", [(f"how is {n} done?", *pair) for n, pair in enumerate(pairs)]
    )
    # Four dialogues; always-longer is right in all items of two of them, and in none of the others.
    few = task(
        tmp_path / "few", "helpful", [(f"how is {n % 4} done?", *pair) for n, pair in enumerate(pairs)]
    )
    many, small = (judged(static_hhh, store, reward(is_right), str(file)) for file in (apart, few))
    first_line, second_line = (by(result, "baseline:longest")["overall"] for result in (many, small))
    assert first_line.value == second_line.value == 0.5 and first_line.n == second_line.n == 40
    assert (
        first_line.low is not None
        and first_line.low > 0.34
        and second_line.low is not None
        and second_line.low < 0.2
    )
    assert not any("independent" in note for note in small.notes)


def test_a_tie_is_half_a_point(store: Store, tmp_path: Path) -> None:
    file = task(tmp_path, "helpful", [("a?", "abc", "abd"), ("b?", "abcd", "abd")])
    result = judged(static_hhh, store, reward(lambda _: 1.0), str(file))
    longer, mine = by(result, "baseline:longest")["overall"], by(result, "known")["overall"]
    assert (longer.value, longer.ties) == (0.75, 1)
    assert (mine.value, mine.ties) == (0.5, 2)


def test_whoever_goes_by_place_or_chance_is_at_chance(store: Store, tmp_path: Path) -> None:
    data = str(hhh(tmp_path / "many", 100))
    for name in ("baseline:first", "baseline:random"):
        values = set()
        for seed in range(3):
            result = judged(static_hhh, store, find(store, name), data, seed=seed)
            line = by(result, name)["overall"]
            assert line.low is not None and line.high is not None
            assert line.ties == 0 and line.low - 0.05 < 0.5 < line.high + 0.05
            values.add(line.value)
            assert any("baseline:longest" in note for note in result.notes)
        assert len(values) == (3 if name == "baseline:first" else 1)


def test_the_order_in_the_file_decides_nothing(store: Store, tmp_path: Path, data: Path) -> None:
    for file in data.glob("*.json"):
        content = json.loads(file.read_text())
        for example in content["examples"]:
            example["target_scores"] = dict(reversed(example["target_scores"].items()))
        (tmp_path / "turned").mkdir(exist_ok=True)
        (tmp_path / "turned" / file.name).write_text(json.dumps(content))
    for subject in (find(store, "baseline:random"), find(store, "baseline:longest"), _letters(is_right)):
        example, second_result = (
            judged(static_hhh, store, subject, str(at)) for at in (data, tmp_path / "turned")
        )
        assert example.fingerprint != second_result.fingerprint
        assert example.lines == second_result.lines


def _letters(value: Any, place: float = 0.0, name: str = "known-lm") -> Any:
    """A language model that weighs the reply behind the letter, and likes A by `place`."""

    def log(turns: tuple[str, ...]) -> float:
        context, letter = turns
        reply = re.search(rf"^Reply {letter.strip()}: (.*)$", context, re.MULTILINE)
        assert reply
        return float(value((reply[1],)) - 3 + place * (letter.strip() == "A"))

    return language(log, name)


def test_both_orders_take_the_place_out(store: Store, data: Path) -> None:
    result = judged(static_hhh, store, _letters(is_right, place=2.0), str(data))
    assert by(result, "known-lm")["overall"].value == 1.0
    assert any("same letter in both orders in 100.0%" in note for note in result.notes)
    only_place = judged(static_hhh, store, _letters(lambda _: 0.0, 2.0, "place"), str(data))
    line = by(only_place, "place")["overall"]
    assert (line.value, line.ties) == (0.5, 40)
    assert list(result.prompts) == ["static_hhh_ab"] and result.settings["metric"] == "ab"


@pytest.mark.parametrize(
    ("text", "turns"),
    [
        ("Hi", ("Hi",)),
        ("\nHuman: Hi", ("Hi",)),
        (
            "Hi.  \n\nAssistant:  Ho.\nHo.\n\nHuman:  Why?\n\nBecause?",
            ("Hi.", "Ho.\nHo.", "Why?\n\nBecause?"),
        ),
        ("Human: a\n\nAssistant: b\n\nHuman: c\n\nAssistant: d\n\nHuman: e\n\nAssistant:", tuple("abcde")),
        ("A Human: is not a mark inside a line", ("A Human: is not a mark inside a line",)),
    ],
)
def test_turns(text: str, turns: tuple[str, ...]) -> None:
    assert static_hhh.turns(sources.Item("x-0", "x", text, ("a", "b"), 0)) == turns


@pytest.mark.parametrize("text", ["a\n\nHuman: b", "Assistant: a\n\nHuman: b", "a\n\nAssistant: b"])
def test_turns_that_do_not_alternate(text: str) -> None:
    with pytest.raises(InputError, match="x-3: its turns"):
        static_hhh.turns(sources.Item("x-3", "x", text, ("a", "b"), 0))


def test_a_reward_model_sees_all_turns(store: Store, tmp_path: Path) -> None:
    file = task(tmp_path, "other", [("a\n\nAssistant: b\n\nHuman: c", "d", "e")])
    subject: Any = reward(lambda turns: float(turns == ("a", "b", "c", "d")))
    assert by(judged(static_hhh, store, subject, str(file)), "known")["overall"].value == 1.0
    assert sorted(subject.scorer.recorded) == [("a", "b", "c", "d"), ("a", "b", "c", "e")]


def test_what_was_asked_before_an_interruption_is_not_asked_again(store: Store, data: Path) -> None:
    subject: Any = reward(is_right, stop=30)
    with pytest.raises(KeyboardInterrupt):
        judged(static_hhh, store, subject, str(data))
    assert not list(results(store))
    again: Any = reward(is_right)
    result = judged(static_hhh, store, again, str(data))
    assert len(again.scorer.recorded) == 80 - 30
    whole: Any = reward(is_right)
    assert judged(static_hhh, store, whole, str(data)) == result and not whole.scorer.recorded


def test_a_limit_draws_by_the_seed_and_no_text_is_kept(store: Store, data: Path) -> None:
    results = [judged(static_hhh, store, reward(is_right), str(data), seed=seed, limit=7) for seed in (0, 1)]
    items = [frame(store, result) for result in results]
    assert [len(result) for result in items] == [7, 7]
    assert items[0]["id"].to_list() != items[1]["id"].to_list()
    for result in results:
        for file in (at for at in store.path(result.ref).rglob("*") if at.is_file()):
            assert b"kettle" not in file.read_bytes() and b"how is tea" not in file.read_bytes()


def test_only_its_own_items_are_the_benchmark(
    store: Store, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(static_hhh, "ITEMS", sources.read_files(str(data)).content)
    whole = judged(static_hhh, store, reward(is_right), str(data))
    assert all(map(static_hhh.EVALUATION.is_official, whole.data)) and len(whole.data) == 4
    assert not any("not the items" in note.lower() for note in whole.notes)
    (data / "other.task.json").unlink()
    part = judged(static_hhh, store, reward(is_right), str(data))
    assert not any(map(static_hhh.EVALUATION.is_official, part.data)) and len(part.data) == 3
    assert "Not the items of Static HHH, by their checksum." in part.notes


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("a.task.json", '{"examples": 3}', "a.task.json:1: not a question"),
        ("a.task.json", '{"examples": [{"input": "a"}]}', "item 1: not a question with choices"),
        ("a.task.json", '{"examples": []}', "a.task.json:1: not a question"),
        (
            "a.task.json",
            '{"examples": [{"input": "a", "target_scores": {"b": 1, "c": 1}}]}',
            "item 1: exactly one choice must be right",
        ),
        (
            "a.task.json",
            '{"examples": [{"input": "a", "target_scores": {"b": 1, "c": 0, "d": 0}}]}',
            "a-0: 3 replies",
        ),
        ("a.jsonl", '{"question": "a", "choices": ["b", "c"], "label": 5}\n', "a.jsonl:1: exactly one"),
        ("a.jsonl", "\n{", "a.jsonl:2: broken JSON"),
        ("a.jsonl", "\n", "a.jsonl: no items"),
        (
            "a.jsonl",
            '{"question": "a", "choices": ["b", "b "], "label": 0}\n',
            "a.jsonl:1: the right choice",
        ),
        ("a.jsonl", '{"question": "a", "choices": ["b", "c"], "label": true}\n', "a.jsonl:1: not a question"),
        ("a.csv", "question,choices", "a.csv: cannot tell its format"),
        ("a.jsonl", '{"question": 3, "choices": ["b", "c"], "label": 0}\n', "a.jsonl:1: not a question"),
    ],
)
def test_wrong_files(store: Store, tmp_path: Path, name: str, text: str, says: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=re.escape(says)):
        judged(static_hhh, store, reward(is_right), str(tmp_path / name))


def test_two_files_of_one_subset(store: Store, data: Path) -> None:
    task(data / "more", "other", [("a?", "b", "c")])
    with pytest.raises(InputError, match="a second file of the subset other"):
        judged(static_hhh, store, reward(is_right), str(data))


def test_wrong_places_and_limits(store: Store, tmp_path: Path, data: Path) -> None:
    for place, says in (
        ("", "not a file"),
        ("nowhere", "no such file"),
        ("ORG/NAME", "name a tag or a commit"),
        (str(tmp_path / "empty"), "no *.task.json"),
    ):
        (tmp_path / "empty").mkdir(exist_ok=True)
        with pytest.raises(InputError, match=re.escape(says)):
            judged(static_hhh, store, reward(is_right), place)
    with pytest.raises(InputError, match=r"eval\.limit 0"):
        judged(static_hhh, store, reward(is_right), str(data), limit=0)


def test_command(tmp_path: Path, data: Path) -> None:
    words = ("static-hhh", "--model", "baseline:longest", "--root", str(tmp_path / "build"), "--data")
    done = cli(*words, str(data))
    assert done.returncode == 0, done.stderr
    assert re.search(
        r"baseline:longest *\n(?:.*\n)* +accuracy +overall +40 +0 +75.0% +59.8% to 85.8% +50.0%", done.stdout
    )
    printed = json.loads(cli(*words, str(data), "--json").stdout)
    assert printed["task"] == "static-hhh" and printed["settings"]["metric"] == "reward"
    wrong = cli(*words, str(data / "nothing.json"))
    assert wrong.returncode == 2 and wrong.stderr.count("\n") == 1 and "no such file" in wrong.stderr


def test_the_real_items(store: Store, shared: Path) -> None:
    result = judged(static_hhh, store, find(store, "baseline:first"), str(shared / "static_hhh"))
    longer = by(result, "baseline:longest")
    assert [longer[subset].n for subset in static_hhh.SUBSETS] == [59, 61, 58, 43]
    assert (longer["overall"].n, longer["overall"].ties) == (221, 2)
    assert longer["overall"].value == pytest.approx(140 / 221)
    low, high = longer["overall"].low, longer["overall"].high
    _, apart, upper = stats.share([1.0] * 139 + [0.5] * 2 + [0.0] * 80)
    assert low is not None and high is not None and low <= apart < upper <= high
    first = by(result, "baseline:first")["overall"]
    assert first.low is not None and first.high is not None and first.low < 0.5 < first.high
    items = sources.read_files(str(shared / "static_hhh")).items
    assert sum(len(static_hhh.turns(item)) > 1 for item in items) == 41
    assert all(map(static_hhh.EVALUATION.is_official, result.data))


@pytest.mark.parametrize(("template", "bos"), [(False, False), (False, True), (True, False), (True, True)])
def test_letters_are_what_transformers_computes(
    store: Store, tmp_path: Path, template: bool, bos: bool
) -> None:
    from transformers import AutoTokenizer

    folder = save_tiny(tmp_path / "lm", bos=bos, max_position_embeddings=1024)
    if template:
        tokenizer = AutoTokenizer.from_pretrained(folder)
        tokenizer.chat_template = (
            "{{ bos_token }}{% for m in messages %}<{{ m.role }}>\n{{ m.content }}{% endfor %}"
            "{% if add_generation_prompt %}<assistant>\n{% endif %}"
        )
        tokenizer.save_pretrained(folder)
    file = task(tmp_path / "data", "helpful", [("a?", "Ride on.", "Do not."), ("b?", "Yes", "Never")])
    result = judged(static_hhh, store, find(store, str(folder), options={"device": "cpu"}), str(file))
    rows = frame(store, result)
    for row, (a, b) in zip(
        rows.iter_rows(named=True), (("Ride on.", "Do not."), ("Yes", "Never")), strict=True
    ):
        question = "a?" if row["id"].endswith("0") else "b?"
        forward, backward = (
            _by_hand(folder, static_hhh.ask((question,), *pair), bos) for pair in ((a, b), (b, a))
        )
        expected = [forward["A"] + backward["B"], forward["B"] + backward["A"]]
        assert row["accuracy: scores"] == pytest.approx([math.log(value) for value in expected], abs=1e-4)


def _by_hand(folder: Path, text: str, bos: bool) -> dict[str, float]:
    """Probabilities of A and B behind the question, by transformers alone."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    if tokenizer.chat_template:
        prompt = f"<bos><user>\n{text}<assistant>\n"
        letters = {"A": "A", "B": "B"}
    else:
        prompt = f"{'<bos>' if bos else ''}Human: {text}\n\nAssistant:"
        letters = {"A": " A", "B": " B"}
    by_subset = {}
    for letter, written in letters.items():
        ids = tokenizer(prompt + written, add_special_tokens=False)["input_ids"]
        start = len(tokenizer(prompt, add_special_tokens=False)["input_ids"])
        with torch.no_grad():
            logs = model(torch.tensor([ids])).logits[0].log_softmax(-1)
        by_subset[letter] = float(sum(logs[at - 1, ids[at]] for at in range(start, len(ids))).exp())
    return by_subset


def test_from_the_hub_where_it_is_big_benchs_files_beside_a_script(tmp_path: Path, data: Path) -> None:
    """As the Hub has Static HHH: no remote code runs, and `main` is held to the items' checksum."""
    folder = {f"data/{file.name.split('.')[0]}/task.json": file.read_bytes() for file in data.glob("*.json")}
    files = folder | {"hhh_alignment.py": b"raise SystemExit('remote code')", "README.md": b"---\n---\n"}
    with serve("HuggingFaceH4/hhh_alignment", files) as (endpoint, commit):
        env = {"HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_DISABLE_XET": "1"}
        words = ("static-hhh", "--model", "baseline:longest", "--root", str(tmp_path / "build"), "--json")
        printed = json.loads(cli(*words, "--data", "HuggingFaceH4/hhh_alignment@v1.0.0", **env).stdout)
        here = json.loads(cli(*words, "--data", str(data), **env).stdout)
        refused = cli(*words, **env)
    [pinned] = printed["data"]
    assert (pinned["id"], pinned["revision"]) == ("HuggingFaceH4/hhh_alignment", f"{commit}, other items")
    assert "Not the items of Static HHH, by their checksum." in printed["notes"]
    assert printed["lines"] == here["lines"]
    assert refused.returncode == 2 and refused.stderr.count("\n") == 1, refused.stderr
    assert "hhh_alignment@main: its items have another checksum than the known ones" in refused.stderr
