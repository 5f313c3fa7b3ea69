"""Accuracy on preference data, for scorers whose every answer is known."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from almost_data.cli.app import main
from almost_data.datasets.manifest import Manifest
from almost_data.errors import InputError
from almost_data.evals import model_card, preference, subject
from almost_data.evals.result import Line, Result
from almost_data.evals.results import results
from almost_data.evals.subject import Subject
from almost_data.generation import Model
from almost_data.run import build, importing, presets
from almost_data.scoring.baselines import FunctionScorer
from almost_data.store.store import Store
from almost_data.store.verify import verify
from almost_data.training.reward_report import BUCKETS, Parts, report
from tests import hub_server, trained
from tests.command import run as cli
from tests.command import script
from tests.evals.known import evaluated, frame
from tests.jsonl import jsonl
from tests.settings import Real, with_settings
from tests.tiny_models import save_tiny, save_tiny_reward
from tests.training.rows import pair


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """comparisons@0.1.0 of 300 prompts, a third of which have the longer side chosen. Read it only."""
    store = Store(tmp_path_factory.mktemp("filled") / "build")
    file = store.root.parent / "rows.jsonl"
    rows = [
        {
            "prompt": f"What is thing number {n}?",
            "a": f"It is the good thing {n}. " + "And so it is said. " * (6 if n % 3 == 0 else 3),
            "b": f"It is the poor thing {n}. " + "And so it was told. " * (3 if n % 3 == 0 else 4),
        }
        for n in range(300)
    ]
    jsonl(file, rows)
    importing.import_responses(store, str(file), ["a", "b"], "0.1.0")
    preset = with_settings(presets.load(), "comparisons", length_sd=None, checks="paper")
    build.BuildRun(store, "0.1.0", preset, Real()).build("comparisons")
    return store


def write(folder: Path, rows: list[dict[str, Any]], name: str = "rows.jsonl") -> str:
    return jsonl(folder / name, rows)


def mixed(n: int = 60) -> list[dict[str, Any]]:
    """Chosen is the longer side in a third, as long in a third, and the shorter one in a third."""
    return [pair(k, f"good {k:02}" + "." * (9 * (k % 3)), f"poor {k:02}" + "." * 9) for k in range(n)]


def by(rule: Callable[[str], float], name: str = "ORG/known", manifest: Manifest | None = None) -> Subject:
    model = Model(manifest.ref, manifest.digest[:16]) if manifest else Model(name, "c" * 40)
    return Subject(FunctionScorer(model, lambda dialogue: rule(dialogue.turns[-1]), 100), manifest)


@pytest.fixture
def models(monkeypatch: pytest.MonkeyPatch) -> dict[str, Subject]:
    """By name what `--model` and `--versus` find."""
    subjects: dict[str, Subject] = {
        "good": by(lambda text: float("good" in text), "ORG/good"),
        "bad": by(lambda text: -float("good" in text), "ORG/bad"),
        "equal": by(lambda text: 1.0, "ORG/equal"),
    }
    monkeypatch.setattr(subject, "find", lambda store, name, *arguments, **how: subjects[name])
    return subjects


def run(store: Store, model: str, dataset: str, **options: Any) -> Result:
    """As the verb `eval` does it."""
    result = evaluated(preference.EVALUATION, store, model=model, dataset=dataset, **options)
    model_card.renew(store, result)
    return result


def line(result: Result, who: str, metric: str = "accuracy", subset: str = "overall") -> Line:
    [matching] = [at for at in result.lines if (at.who, at.metric, at.subset) == (who, metric, subset)]
    return matching


# --- numbers -----------------------------------------------------------------------------------------------


def test_who_is_always_right_always_wrong_and_never_sure(
    store: Store, models: dict[str, Subject], tmp_path: Path
) -> None:
    file = write(tmp_path, mixed())
    for name, want, ties in (("good", 1.0, 0), ("bad", 0.0, 0), ("equal", 0.5, 60)):
        overall = line(run(store, name, file), f"ORG/{name}")
        assert (overall.value, overall.ties, overall.n, overall.chance) == (want, ties, 60, 0.5)
        assert overall.low is not None and overall.high is not None and overall.low <= want <= overall.high


def test_length_by_hand_and_in_buckets(store: Store, models: dict[str, Subject], tmp_path: Path) -> None:
    result = run(store, "good", write(tmp_path, mixed()))
    longest = line(result, preference.LONGEST)
    assert (longest.value, longest.ties) == (0.5, 20), "20 longer, 20 as long, 20 shorter"
    assert [line(result, "ORG/good", subset=name).n for name in BUCKETS] == [20, 20, 20]
    ahead = line(result, "ORG/good", f"ahead of {preference.LONGEST}")
    assert ahead.value == 0.5 and ahead.chance is None and ahead.ties == 20
    assert ahead.low is not None and 0.3 < ahead.low < 0.5
    items = frame(store, result)
    assert len(items) == 60 and items["chosen_score"].to_list() == [1.0] * 60
    assert not [name for name in items.columns if name in ("prompt", "chosen", "rejected")]


def test_others_are_judged_on_the_same_rows(store: Store, models: dict[str, Subject], tmp_path: Path) -> None:
    models["half"] = by(lambda text: float("good" in text and int(text[5:7]) % 2 == 0), "ORG/half")
    result = run(
        store,
        "good",
        write(tmp_path, mixed()),
        versus=(
            "half",
            "bad",
        ),
    )
    assert (line(result, "ORG/half").value, line(result, "ORG/half").ties) == (0.75, 30)
    assert line(result, "ORG/good", "ahead of ORG/half").value == 0.25
    assert line(result, "ORG/good", "ahead of ORG/bad").value == 1.0
    assert [model.role for model in result.models] == ["model", "versus", "versus"]
    with pytest.raises(InputError, match=r"eval\.versus good: it is judged already"):
        run(store, "good", write(tmp_path, mixed()), versus=("good",))


def test_copies_of_a_prompt_say_nothing_new(store: Store, models: dict[str, Subject], tmp_path: Path) -> None:
    sides = [("good", "poor") if k % 10 < 7 else ("poor", "good") for k in range(100)]
    rows = [
        pair(k % 10, f"{left_text} {k}.", f"{right_text} {k}.")
        for k, (left_text, right_text) in enumerate(sides)
    ]
    few = line(run(store, "good", write(tmp_path, rows)), "ORG/good")
    alone = line(run(store, "good", write(tmp_path, rows[:10], "b.jsonl")), "ORG/good")
    assert few.n == 100 and few.value == alone.value == 0.7
    assert few.low == pytest.approx(alone.low, abs=0.05) and few.high == pytest.approx(alone.high, abs=0.05)


def test_it_says_what_the_recipes_report_says(filled: Store, models: dict[str, Subject]) -> None:
    rule = by(lambda text: float(len(text) % 7))
    models["rule"] = rule
    result = run(filled, "rule", "comparisons@0.1.0")
    train, test = (filled.scan("comparisons@0.1.0", split=split).collect() for split in ("train", "test"))
    want = report(rule.scorer, Parts(train, test, train.clear(), None))
    [subset] = want["subsets"]
    overall = line(result, "ORG/known")
    assert (overall.n, overall.value, overall.low, overall.high) == tuple(
        subset[key] for key in ("rows", "accuracy", "low", "high")
    )
    assert line(result, preference.LONGEST).value == subset["always_longer"]
    assert line(result, preference.SURFACE).value == subset["probe"]


def test_a_limit_takes_whole_prompts_by_the_seed(
    store: Store, models: dict[str, Subject], tmp_path: Path
) -> None:
    rows = [pair(k // 4, f"good {k:02}.", f"poor {k:02}.") for k in range(80)]
    file = write(tmp_path, rows)
    results = [run(store, "good", file, limit=20, seed=seed) for seed in (0, 1)]
    items = [frame(store, result) for result in results]
    assert [len(result) for result in items] == [20, 20]
    assert all(set(result.group_by("query_id").len()["len"]) == {4} for result in items)
    assert set(items[0]["query_id"]) != set(items[1]["query_id"])
    assert any("20 of 80" in note for note in results[0].notes)
    with pytest.raises(InputError, match=r"eval\.limit 0"):
        run(store, "good", file, limit=0)


# --- data --------------------------------------------------------------------------------------------------


def hh(k: int) -> dict[str, str]:
    """HH-RLHF's layout: whole dialogues, alike but for the last turn."""
    start = f"\n\nHuman: Hello {k}\n\nAssistant: Yes?\n\nHuman: How?\n\nAssistant:"
    return {"chosen": f"{start} good {k}.", "rejected": f"{start} poor {k}."}


@pytest.mark.parametrize(
    "shape",
    [
        lambda k: pair(k, "good", "poor"),
        hh,
        lambda k: {"prompt": f"Why {k}?", "chosen": "good", "rejected": "poor"},
    ],
    ids=["messages", "hh", "text"],
)
@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_every_layout_in_every_file(
    store: Store, models: dict[str, Subject], tmp_path: Path, shape: Any, suffix: str
) -> None:
    rows = [shape(k) for k in range(12)]
    file = write(tmp_path, rows)
    if suffix == "parquet":
        file = str(tmp_path / "rows.parquet")
        pl.DataFrame(rows).write_parquet(file)
    result = run(store, "good", file)
    assert line(result, "ORG/good").value == 1.0 and line(result, "ORG/good").n == 12
    [data] = result.data
    assert data.id == f"rows.{suffix}" and data.revision.startswith("sha256:") and data.role == "data"
    assert str(tmp_path) not in str(result), "no place of this machine"
    Path(file).write_bytes(Path(file).read_bytes())
    assert run(store, "good", file) == result, "the same bytes are the same evaluation"


def test_rows_that_cannot_be_read_are_counted(
    store: Store, models: dict[str, Subject], tmp_path: Path
) -> None:
    start = "\n\nAssistant: Hi\n\nHuman: a\n\nAssistant:"
    first = {"chosen": f"{start} good", "rejected": f"{start} x"}
    rows = [hh(0), hh(1), {"chosen": "a", "rejected": "b"}, first]
    result = run(store, "good", write(tmp_path, rows))
    assert line(result, "ORG/good").n == 2
    [note] = [note for note in result.notes if "2 of 4 rows were not judged" in note]
    assert "no_reply" not in note and "2; the first is rows.jsonl:3: " in note
    assert "Rows are read as: HH-RLHF (chosen, rejected)." in result.notes


@pytest.mark.parametrize(
    "rows,match",
    [
        ([], "no row in it"),
        ([{"prompt": "a", "chosen": "b"}], r"no layout of preferences has its columns \(prompt, chosen\)"),
        ([{"prompt": "a", "chosen": 1, "rejected": 2}], "no layout of preferences"),
        ([{"prompt": None, "chosen": "x", "rejected": "y"}], "no column holds the prompt"),
        ([{"prompt": "a", "chosen": None, "rejected": "y"}], "chosen has no value"),
    ],
)  # fmt: skip
def test_what_is_no_preference_data_is_one_line(
    store: Store, models: dict[str, Subject], tmp_path: Path, rows: list[dict[str, Any]], match: str
) -> None:
    with pytest.raises(InputError, match=match):
        run(store, "good", write(tmp_path, rows))
    assert list(results(store)) == []


def test_what_is_not_there_is_one_line(filled: Store, models: dict[str, Subject], tmp_path: Path) -> None:
    for data, how, match in (
        ("gone.jsonl", {}, "no such file"),
        ("rows.txt", {}, "no such file"),
        ("comparisons@9.9.9", {}, r"no comparisons@9\.9\.9 under"),
        ("responses@0.1.0", {}, "is a dataset of responses, without chosen and rejected replies"),
        ("comparisons@0.1.0", {"split": "validation"}, r"'validation'.*: set eval\.split to train"),
        ("comparisons@0.1.0", {"config": "nope"}, "no config 'nope'"),
        ("ORG/data", {}, "name a tag or a commit"),
        (
            write(tmp_path, mixed()),
            {"config": "x"},
            r"eval\.config is of a dataset of the store, and .* none",
        ),
        (write(tmp_path, mixed()), {"hub_config": "x"}, r"eval\.hub_config is of a Hub .*: leave it out$"),
        ("ORG/data@v1", {"config": "x"}, r"for a Hub dataset give eval\.hub_config$"),
        ("comparisons@0.1.0", {"hub_config": "default"}, "none: give eval.config default$"),
        (str(tmp_path / "empty"), {}, "no such file"),
    ):
        with pytest.raises(InputError, match=match):
            run(filled, "good", data, **how)


ASK = """
import json, msgspec, sys
from almost_data.errors import InputError
from tests.evals.test_preference import run
from almost_data.store.store import Store
for data, how in json.loads(sys.argv[2]):
    try:
        found = run(Store(sys.argv[1]), "baseline:longest", data, **how)
        print(msgspec.json.encode(found).decode())
    except InputError as error:
        print(json.dumps(str(error)))
"""


def test_hh_rlhf_is_judged_on_helpful_base(tmp_path: Path) -> None:
    """In its own layout: a folder a part, gzip, whole dialogues, and another part with other columns."""
    ask = "\n\nHuman: Why {k}?\n\nAssistant:"
    replies = {"chosen": f"{ask} So it is.", "rejected": f"{ask} No."}
    texts = {}
    for part, n in (("helpful-base", 30), ("harmless-base", 40)):
        for split in ("train", "test"):
            lines = [json.dumps({side: text.format(k=f"{split} {k}") for side, text in replies.items()})
                     for k in range(n)]  # fmt: skip
            texts[f"{part}/{split}.jsonl.gz"] = gzip.compress("\n".join(lines).encode())
    texts["red-team-attempts/red_team_attempts.jsonl.gz"] = gzip.compress(b'{"transcript": "x"}\n')
    with hub_server.serve("Anthropic/hh-rlhf", texts) as (endpoint, commit):
        home = {"HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path / "hf")}
        sources = [
            ("Anthropic/hh-rlhf@v1.0.0", {}),
            ("Anthropic/hh-rlhf@v1.0.0", {"hub_config": "harmless-base"}),
        ]
        done = script(ASK, str(tmp_path / "build"), json.dumps(sources), env=home)
    assert done.returncode == 0, done.stderr
    usual, named = map(json.loads, done.stdout.splitlines())
    assert [result["settings"]["config"] for result in (usual, named)] == ["helpful-base", "harmless-base"]
    assert [result["lines"][0]["n"] for result in (usual, named)] == [30, 40]
    assert usual["data"][0]["revision"] == commit and usual["lines"][0]["value"] == 1.0


# --- what the model knows of it ----------------------------------------------------------------------------


def model_of(store: Store, folder: Path, name: str, *parents: Manifest, **config: Any) -> Manifest:
    return trained.publish(store, folder, trained.manifest("rm", name, parents=parents, **config))


@pytest.fixture
def family(filled: Store, tmp_path: Path) -> Store:
    """rm, trained on comparisons@0.1.0; ppo, which starts from it; asis, of something else."""
    import shutil

    shutil.copytree(filled.root, tmp_path / "build")
    store, folder = Store(tmp_path / "build"), save_tiny_reward(tmp_path / "out")
    rm = model_of(store, folder, "rm", store.manifest("comparisons@0.1.0"))
    model_of(
        store, folder, "ppo", store.manifest("responses@0.1.0"), rm, base={"id": rm.ref, "revision": "x"}
    )
    model_of(store, folder, "asis", store.manifest("responses@0.1.0"))
    return store


def test_a_model_is_never_judged_on_what_it_learned(
    family: Store,
) -> None:
    result = run(
        family,
        "asis@0.1.0",
        "comparisons@0.1.0",
        versus=(
            "rm@0.1.0",
            "ppo@0.1.0",
        ),
    )
    notes = "\n".join(result.notes)
    assert "rm@0.1.0 was trained on the train split of comparisons@0.1.0" in notes
    assert "ppo@0.1.0 was trained on the train split" in notes and "asis@0.1.0 was" not in notes
    assert result.settings["split"] == "test"
    for model, versus in (("rm@0.1.0", []), ("asis@0.1.0", ["rm@0.1.0"])):
        with pytest.raises(InputError, match=r"rm@0\.1\.0 was trained on the train split"):
            run(family, model, "comparisons@0.1.0", split="train", versus=tuple(versus))
    # A copy of what it learned, under another name.
    rows = family.scan("comparisons@0.1.0", split="train").head(20).collect()
    file = family.root / "copy.parquet"
    rows.write_parquet(file)
    again = run(family, "rm@0.1.0", str(file))
    assert any("20 of the 20 prompts judged on are in the train split" in note for note in again.notes)
    for ref in ("rm@0.1.0", "asis@0.1.0", "ppo@0.1.0"):
        assert verify(family, ref) == []
        assert "## Evaluations" in (family.path(ref) / "README.md").read_text("utf-8")


def test_fake_data_never_enters_a_card(fake_store: Store, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(fake_store.root, tmp_path / "build")
    store = Store(tmp_path / "build")
    model = model_of(store, save_tiny_reward(tmp_path / "out"), "rm")
    result = run(store, model.ref, "comparisons@0.1.0")
    assert result.is_fake and any("fake engine" in note for note in result.notes)
    assert "Evaluations" not in (store.path(model.ref) / "README.md").read_text("utf-8")


def test_a_language_model_prefers_by_likelihood_and_is_said_to(store: Store, tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / "lm")
    file = write(
        tmp_path,
        [hh(k) for k in range(9)]
        + [
            {
                side: f"Human: Why?\n\nAssistant: {text}"
                for side, text in (("chosen", "so " * 400), ("rejected", "x"))
            }
        ],
    )
    result = run(store, str(folder), file)
    assert [at.metric for at in result.lines[:2]] == ["accuracy", preference.PER_CHARACTER]
    assert result.lines[0].n == 10
    assert any("log-likelihood" in note for note in result.notes)
    fine, coarse = (
        run(store, str(folder), file, device="cpu", dtype=dtype) for dtype in ("float32", "bfloat16")
    )
    assert (fine.settings["dtype"], coarse.settings["dtype"]) == (["float32"], ["bfloat16"])
    assert fine.digest != coarse.digest, "its scores are other ones"
    assert "dtype" not in run(store, "baseline:longest", file).settings
    assert run(store, str(folder), file) == result


# --- the command line --------------------------------------------------------------------------------------


def test_the_command_line(filled: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = ["--root", str(tmp_path / "build")]
    words = ["eval", "preference", "--model", "baseline:longest", "--dataset", write(tmp_path, mixed())]
    main([*words, "--versus", "baseline:first", *root])
    printed = " ".join(capsys.readouterr().out.split())
    assert "60 20 50.0% 37.7% to 62.3% 50.0%" in printed and "rows.jsonl" in printed
    layout = "TRL, explicit prompt (prompt, chosen, rejected)"
    assert printed.count("read as: ") == 1 and f"read as: {layout}; not read: query_id metric" in printed
    main([*words, "--versus", "baseline:first", "--json", *root])
    read = json.loads(capsys.readouterr().out)
    assert read["task"] == "preference" and read["lines"][0]["value"] == 0.5
    assert f"Rows are read as: {layout}; not read: query_id." in read["notes"]
    main(["list", *root])
    assert "preference" in capsys.readouterr().out
    for bad in (
        ["--dataset", "gone.jsonl"],
        ["--dataset", "x@1"],
        ["--model", "baseline:best"],
        ["--limit", "0"],
    ):
        with pytest.raises(SystemExit) as end:
            main([*words, *bad, *root])
        error_text = capsys.readouterr().err
        assert end.value.code == 2 and error_text.count("\n") == 1, error_text


def test_columns_that_are_named_are_read_and_are_in_the_settings(store: Store, tmp_path: Path) -> None:
    rows = [{"x": f"How is {n}?", "y": f"It is {n}, and so on.", "z": "It is."} for n in range(9)]
    file = tmp_path / "mine.jsonl"
    jsonl(file, rows)
    arguments = ("eval", "preference", "--model", "baseline:longest", "--dataset", str(file))
    root = ("--root", str(store.root))
    refused = cli(*arguments, *root)
    assert refused.returncode == 2 and "--columns prompt=NAME" in refused.stderr
    done = cli(*arguments, "--columns", "prompt=x,chosen=y,rejected=z", *root)
    assert done.returncode == 0, done.stderr
    [result] = map(store.manifest, store.refs())
    assert result.config["settings"]["columns"] == {"prompt": "x", "chosen": "y", "rejected": "z"}
    assert "100.0%" in done.stdout and "read as: columns (x, y, z)" in done.stdout
