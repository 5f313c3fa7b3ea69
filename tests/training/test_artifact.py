"""A training becomes an artifact: the same recipe is one, another one is refused, and no place is told."""

import dataclasses
import json
import math
import os
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from almost_data.errors import InputError
from almost_data.generation import Model
from almost_data.models import weights
from almost_data.store.publish import json_data
from almost_data.store.store import Store
from almost_data.training import (
    arguments,
    artifact,
    begin,
    comparisons,
    find_model,
    parse,
    prepare,
    trainers,
    work,
)
from almost_data.training.artifact import shown_command
from almost_data.training.trainers import curves
from tests import trained
from tests.tiny_models import save_tiny, tiny_tokenizer
from tests.training.rows import pair, source

trl = pytest.importorskip("trl")

# --- JSON data -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.float32(0.5), 0.5),
        (np.float64(2), 2.0),
        (np.int64(3), 3),
        (np.bool_(True), True),
        (np.array(7), 7),
        (float("nan"), None),
        (np.float32("inf"), None),
        (-math.inf, None),
        (True, True),
        (None, None),
        ("text", "text"),
        ((1, [2.5, {3: np.float64("nan")}]), [1, [2.5, {"3": None}]]),
    ],
)
def test_numbers_of_any_kind_are_json(value: Any, expected: Any) -> None:
    data = json_data(value)
    assert data == expected and type(data) is type(expected)
    assert json.loads(json.dumps(data, allow_nan=False)) == expected


def test_what_is_no_data_is_an_error() -> None:
    for value in (object(), Path("x"), {1, 2}):
        with pytest.raises((TypeError, ValueError)):
            json_data({"a": value})


# --- curves ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("points", [1, 2, 399, 400, 401, 799, 800, 12_345])
def test_a_curve_is_thinned_evenly_and_keeps_its_ends(points: int) -> None:
    history = [{"step": n, "loss": 1 / n} for n in range(1, points + 1)]
    curve = curves(history, ("loss",))["loss"]
    assert (
        len(curve) == points
        if points <= trainers.POINTS
        else trainers.POINTS / 2 <= len(curve) <= trainers.POINTS
    )
    assert (curve[0], curve[-1]) == ([1, 1.0], [points, 1 / points])
    assert all([step, 1 / step] == [step, loss] for step, loss in curve)
    gaps = {b[0] - a[0] for a, b in pairwise(curve[:-1])}
    assert len(gaps) <= 1 and [step for step, _ in curve] == sorted({step for step, _ in curve})


def test_a_curve_is_of_what_was_logged_and_nothing_else() -> None:
    history = [
        {"step": 1, "loss": 2.0},
        {"step": 1, "eval_loss": 3.0},
        {"loss": 9.0},
        {"step": 2, "loss": 1.0},
    ]
    assert curves(history, ("loss", "eval_loss", "reward")) == {
        "loss": [[1, 2.0], [2, 1.0]],
        "eval_loss": [[1, 3.0]],
    }
    assert curves([], ("loss",)) == {}


# --- the command -----------------------------------------------------------------------------------------


def test_the_command_tells_no_place() -> None:
    arguments = [
        "/Users/someone/recipes/rm.py", "--config", "/Users/someone/it.yaml",
        "--root", "/Users/someone/build",
        "--output_dir=/Users/someone/out", "--model_name_or_path", "~/models/base", "--limit", "9",
        "--reward_model=../other/rm", "--root=/Users/someone/b", "--dataset", "ORG/NAME",
    ]  # fmt: skip
    assert shown_command(arguments) == (
        "python recipes/rm.py --config it.yaml --model_name_or_path base --limit 9 --reward_model=rm "
        "--dataset ORG/NAME"
    )
    assert "someone" not in shown_command([*arguments, "--logging_dir", "/Users/someone/logs"])


def test_the_command_tells_no_secret() -> None:
    for secret in (["--hub_token", "hf_secret"], ["--hub_token=hf_secret"], ["--hub-token", "hf_secret"]):
        assert shown_command(["recipes/rm.py", *secret, "--seed", "1"]) == "python recipes/rm.py --seed 1"


def test_a_value_with_blanks_stays_one() -> None:
    assert (
        shown_command(["rm.py", "--leave_out_pair", "A > B"])
        == "python recipes/rm.py --leave_out_pair 'A > B'"
    )


# --- models ----------------------------------------------------------------------------------------------


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ALMOST_DATA_CACHE", str(tmp_path / "cache"))
    return save_tiny(tmp_path / "place" / "base")


def test_a_base_is_pinned_and_named_without_its_place(base: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "build")
    local = find_model(store, str(base))
    assert (local.folder, local.model.id, local.manifest) == (base, "base", None)
    assert local.model.revision == weights.locate(Model(str(base))).revision
    manifest = trained.publish(store, base, trained.manifest("sft"))
    stored = find_model(store, "sft@0.1.0")
    assert (stored.model.id, stored.model.revision) == ("sft@0.1.0", manifest.digest[:16])
    assert stored.manifest == manifest
    assert stored.folder == store.path(manifest.ref)


def pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def link(file: Path) -> None:
    file.rename(file.with_name("elsewhere"))
    file.symlink_to("elsewhere")


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("config.json", pipe),
        ("model.safetensors", link),
        ("model.safetensors", lambda file: os.truncate(file, 9)),
        ("tokenizer.json", Path.unlink),
    ],
)
def test_a_damaged_model_is_not_read(
    base: Path, tmp_path: Path, name: str, damage: Callable[[Path], None]
) -> None:
    store = Store(tmp_path / "build")
    trained.publish(store, base, trained.manifest("sft"))
    damage(store.path("sft@0.1.0") / name)
    with pytest.raises(InputError, match=f"{name}: damaged: .*: build or pull it anew"):
        find_model(store, "sft@0.1.0")


def test_a_revision_stands_behind_a_hub_name(fake_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    requests: list[tuple[str, str | None]] = []

    def ask(name: str, revision: str | None) -> str:
        requests.append((name, revision))
        raise InputError("not reachable")

    monkeypatch.setattr(weights, "_hub_revision", ask)
    with pytest.raises(InputError, match="not reachable"):
        find_model(fake_store, "ORG/rm@v1.0.0")
    assert requests == [("ORG/rm", "v1.0.0")]


def test_what_is_no_model_is_refused(fake_store: Store) -> None:
    for name, match in (
        (None, r"recipe\.reward_model: name a model"),
        ("", r"recipe\.reward_model: name a model"),
        ("comparisons@0.1.0", "is a dataset: name a model"),
        ("rm@0.1.0", r"no rm@0\.1\.0 under"),
        ("./nowhere", "not a model"),
    ):
        with pytest.raises(InputError, match=match):
            find_model(fake_store, name, setting="recipe.reward_model")


# --- one recipe ------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Run:
    """A reward model's run up to the first step, as the recipe gets there."""

    store: Store
    folder: Path
    base: Path

    def begin(
        self, *flags: str, rows: int = 24, resumes: bool = True, template: str = ""
    ) -> artifact.Training:
        inputs, args, model_args = parse(
            trl.TrlParser((arguments.Inputs, trl.RewardConfig, trl.ModelConfig)),
            "rm",
            ["--dataset", "ORG/rows@v1", "--artifact", "rm@0.1.0", "--root", str(self.store.root),
             "--model_name_or_path", str(self.base), "--report_to", "none", "--bf16", "false", *flags],
        )  # fmt: skip
        shaped = comparisons(source([pair(n) for n in range(rows)], test=[pair(99)]))
        if rows != 24:
            changed = msgspec.structs.replace(shaped.parent, digest="commit:" + "b" * 40)
            shaped = dataclasses.replace(shaped, parent=changed)
        tokenizer = tiny_tokenizer()
        prepare(tokenizer, "it")
        tokenizer.chat_template += template
        bases = {"base": find_model(self.store, model_args.model_name_or_path)}
        return begin("rm", inputs, args, model_args, shaped, bases, tokenizer, resumes=resumes)


@pytest.fixture
def run(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setattr(arguments, "default_device", lambda: "cpu")
    return Run(Store(tmp_path / "build"), tmp_path, base)


def test_a_run_s_fingerprint_is_that_of_what_decides_the_weights(run: Run) -> None:
    first = run.begin().draft
    for flags in (
        ["--logging_steps", "3"],
        ["--single_turn", "false"],
        ["--output_dir", str(run.folder / "out")],
    ):
        assert run.begin(*flags).draft.fingerprint == first.fingerprint
    marks = [first.fingerprint]
    work = ["--output_dir", str(run.folder / "elsewhere")]
    for flags in (
        ["--learning_rate", "1e-3"],
        ["--seed", "3"],
        ["--single_turn", "true"],
        ["--max_length", "9"],
    ):
        marks.append(run.begin(*flags, *work).draft.fingerprint)
    marks.append(run.begin(*work, rows=25).draft.fingerprint)
    marks.append(run.begin(*work, template=" ").draft.fingerprint)
    run.base = save_tiny(run.folder / "place2" / "base", seed=7)
    marks.append(run.begin(*work).draft.fingerprint)
    assert len(set(marks)) == len(marks)
    assert str(run.folder) not in json.dumps(first.config)


def test_the_same_files_elsewhere_are_the_same_base(run: Run) -> None:
    first = run.begin().draft
    run.base = run.base.rename(run.folder / "base")
    assert run.begin().draft.fingerprint == first.fingerprint


def test_an_interrupted_run_goes_on_and_another_one_does_not(run: Run) -> None:
    first = run.begin()
    assert first.checkpoint is None
    for step in (2, 4, 6):
        (first.work / f"checkpoint-{step}").mkdir()
    # The last ones have none and half of one, as kill -9 leaves them while they are written.
    (first.work / "checkpoint-2" / "trainer_state.json").write_text("{}")
    (first.work / "checkpoint-6" / "trainer_state.json").write_text('{"log_')
    assert run.begin().checkpoint == str(first.work / "checkpoint-2")
    assert run.begin(resumes=False).checkpoint is None
    assert run.begin("--dry_run", "true").checkpoint is None
    with pytest.raises(InputError, match=r"has checkpoints of another recipe.*recipe\.output_dir"):
        run.begin("--seed", "3")
    (first.work / work.RECIPE).unlink()
    with pytest.raises(InputError, match="has checkpoints of another recipe"):
        run.begin()


def test_two_runs_of_one_artifact_do_not_share_a_work_folder(run: Run) -> None:
    with run.store.lock("rm@0.1.0"), pytest.raises(InputError, match="by another process"):
        run.begin()
    assert run.begin().checkpoint is None


def test_a_work_folder_is_of_one_run_at_a_time(run: Run) -> None:
    folder = run.folder / "out"
    with work.held(folder, "f"), pytest.raises(InputError, match="another process trains there"):
        run.begin("--output_dir", str(folder))
    (folder / work.FINAL).mkdir()
    (folder / work.FINAL / "model-00002-of-00002.safetensors").touch()
    assert not run.begin("--output_dir", str(folder)).final.exists()  # of a larger model


@pytest.mark.parametrize("kind", ["file", "link", "artifact", "loop"])
def test_an_output_folder_that_cannot_be_one_is_named(run: Run, kind: str) -> None:
    place = run.folder / "out"
    match kind:
        case "file":
            place.touch()
        case "link":
            place.symlink_to(run.folder / "nowhere" / "else")
        case "loop":
            place.symlink_to(place)
        case "artifact":
            place = run.store.path("sft@0.0.1")
            place.mkdir(parents=True)
            (place / "manifest.json").touch()
            (run.store.root / ".locks").mkdir()
    with pytest.raises(InputError, match=r"recipe\.output_dir .*: name a place elsewhere"):
        run.begin("--output_dir", str(place))
    assert not (place / work.RECIPE).exists()


def test_a_dry_run_leaves_nothing(run: Run) -> None:
    run.begin("--dry_run", "true")
    assert not run.store.root.exists()
