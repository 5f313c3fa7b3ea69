"""A trained model is an artifact like a dataset: published whole, listed, traced, verified, and asked."""

import io
import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from almost_data.cli.app import main
from almost_data.datasets.manifest import Manifest, Parent, decode_manifest, encode_manifest, fingerprint
from almost_data.errors import InputError
from almost_data.generation import Model
from almost_data.generation.fake import FakeEngine
from almost_data.models import weights
from almost_data.models.files import files_digest, loaded_files
from almost_data.run import build, importing, presets
from almost_data.store.publish import Record, Weights, publish
from almost_data.store.store import Store
from almost_data.store.verify import verify
from tests import trained
from tests.forged import edit, write_manifest
from tests.jsonl import jsonl
from tests.settings import Real, config_of, fake_tiny
from tests.tiny_models import save_tiny_reward


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a trainer leaves: a tiny reward model, and files beside it that are no part of it."""
    trained_folder = save_tiny_reward(tmp_path_factory.mktemp("trained"))
    for name in "training_args.bin optimizer.pt trainer_state.json README.md manifest.json x.py".split():
        (trained_folder / name).write_bytes(b"{}")
    (trained_folder / "checkpoint-5").mkdir()
    shutil.copy(trained_folder / "model.safetensors", trained_folder / "checkpoint-5")
    return trained_folder


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Responses of people, so that nothing in the store is fake. Read it; do not write to it."""
    store = Store(tmp_path_factory.mktemp("imported") / "build")
    file = tmp_path_factory.mktemp("files") / "responses.jsonl"
    words = " ".join(f"word{n}" for n in range(18))
    rows = [
        {"prompt": f"What is {n}?", "good": f"{n} is {words} and more.", "bad": f"It is {words[:80]} {n}."}
        for n in range(40)
    ]
    jsonl(file, rows)
    importing.import_responses(store, str(file), ["good", "bad"], "0.1.0")
    return store


@pytest.fixture
def store(imported: Store, tmp_path: Path) -> Store:
    shutil.copytree(imported.root, tmp_path / "build")
    return Store(tmp_path / "build")


def run(store: Store, judge: str, version: str = "0.1.0", **changes: Any) -> build.BuildRun:
    preset = presets.load("tiny", assignments=(f'ratings.rm="{judge}"',))
    return build.BuildRun(store, version, preset, changes.pop("engine", Real()), **changes)


# --- publishing --------------------------------------------------------------------------------------------


def test_only_what_a_loader_reads_is_published(folder: Path, tmp_path: Path) -> None:
    store = Store(tmp_path)
    manifest = trained.publish(store, folder, trained.manifest("rm", diagnostics=trained.measured("rm")))
    published = {
        str(f.relative_to(store.path("rm@0.1.0"))) for f in store.path("rm@0.1.0").rglob("*") if f.is_file()
    }
    loaded = set(loaded_files(folder))
    assert {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"} <= loaded
    figures = {f"plots/{name}.png" for name in ("accuracy", "calibration", "curves")}
    assert published == loaded | figures | {"README.md", "manifest.json"}
    assert (
        store.manifest("rm@0.1.0") == manifest and store.has("rm@0.1.0") and verify(store, "rm@0.1.0") == []
    )
    assert not list((tmp_path / ".staging").iterdir())


def test_the_digest_is_of_names_and_bytes_and_its_head_is_the_revision(folder: Path, tmp_path: Path) -> None:
    store = Store(tmp_path)
    manifest = trained.publish(store, folder, trained.manifest())
    files = loaded_files(folder)
    assert manifest.digest == files_digest(files) == files_digest(dict(reversed(files.items())))
    assert weights.locate(Model(str(store.path("rm@0.1.0")))).revision == manifest.digest[:16]
    renamed = {f"x{name}": file for name, file in files.items()}
    assert files_digest(renamed) != manifest.digest


def test_training_on_in_the_same_folder_leaves_the_artifact_alone(tmp_path: Path) -> None:
    store = Store(tmp_path / "build")
    manifest = trained.publish_reward(store, tmp_path / "out", "rm")
    with (tmp_path / "out" / "model.safetensors").open("r+b") as weights:
        weights.write(b"other")
    assert verify(store, manifest.ref) == []


def test_what_cannot_be_an_artifact_is_refused_and_leaves_nothing(folder: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "build")
    pickled = tmp_path / "pickled"
    pickled.mkdir()
    (pickled / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(InputError, match="no safetensors"):
        trained.publish(store, pickled, trained.manifest())
    with pytest.raises(InputError, match="that name is for a dataset"):
        trained.publish(store, folder, trained.manifest(name="responses"))

    def full(manifest: Manifest) -> dict[str, bytes]:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        publish(store, trained.manifest(), Weights(folder, {"train": 1}), Record(diagnostics={}), [], full)
    assert store.refs() == [] and not store.path("rm@0.1.0").exists()
    assert not list((store.root / ".staging").iterdir())


def test_what_is_on_the_hub_is_not_here(tmp_path: Path) -> None:
    assert not Store(tmp_path).has("ORG/NAME@" + "c" * 40)
    with pytest.raises(InputError, match="not a reference"):
        Store(tmp_path).manifest("ORG/NAME@" + "c" * 40)


def test_a_manifest_that_does_not_say_from_what_is_none() -> None:
    manifest = trained.manifest()
    for missing in ("base", "dataset", "template"):
        config = {key: value for key, value in manifest.config.items() if key != missing}
        with pytest.raises(InputError, match="not a manifest"):
            decode_manifest(encode_manifest(msgspec.structs.replace(manifest, config=config)), "x")


# --- verify ------------------------------------------------------------------------------------------------


def change_a_byte(folder: Path) -> None:
    file = folder / "model.safetensors"
    when = file.stat()
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    os.utime(file, ns=(when.st_atime_ns, when.st_mtime_ns))  # no cache of hashes may hide it


def add(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text("{}")


def add_rows(folder: Path) -> None:
    (folder / "data" / "default").mkdir(parents=True)
    (folder / "data" / "default" / "train-00000-of-00001.parquet").write_bytes(b"")


def lose_rows(folder: Path) -> None:
    edit(folder, ledger=[msgspec.structs.replace(trained.ledger()[0], kept=0)])


def forge_the_parent(folder: Path) -> None:
    manifest = decode_manifest((folder / "manifest.json").read_bytes(), "")
    parent = msgspec.structs.replace(manifest.parents[0], digest="0" * 64)
    edit(folder, parents=[parent], fingerprint=fingerprint(manifest.builder, manifest.config, [parent]))


@pytest.mark.parametrize(
    ("harm", "problem"),
    [
        (change_a_byte, "digest: the model's files"),
        (lambda folder: (folder / "tokenizer.json").unlink(), "digest: the model's files"),
        (add("generation_config.json"), "digest: the model's files"),
        (add("training_args.bin"), "training_args.bin: not part of an artifact"),
        (add("trainer_state.json"), "trainer_state.json: not part of an artifact"),
        (add_rows, "data/default/train-00000-of-00001.parquet: not part of an artifact"),
        (lambda folder: (folder / "plots" / "curves.png").unlink(), "plots/curves.png: missing"),
        (lambda folder: (folder / "README.md").write_text("# rm"), "README.md: no YAML"),
        (lambda folder: (folder / "README.md").unlink(), "README.md: missing"),
        (lambda folder: edit(folder, config=trained.manifest("rm").config | {"settings": {}}), "fingerprint"),
        (lose_rows, "ledger: too_long: 1300 rows in"),
        (forge_the_parent, "parents: responses@0.1.0 here has another digest"),
    ],
)
def test_verify_names_every_kind_of_damage(
    store: Store, tmp_path: Path, harm: Callable[[Path], object], problem: str
) -> None:
    parent = store.manifest("responses@0.1.0")
    draft = trained.manifest("rm", parents=[parent], diagnostics=trained.measured("rm"))
    draft = msgspec.structs.replace(draft, ledger=trained.ledger())
    trained.publish(store, save_tiny_reward(tmp_path / "out"), draft)
    assert verify(store, "rm@0.1.0") == []
    harm(store.path("rm@0.1.0"))
    problems = verify(store, "rm@0.1.0")
    assert any(problem in line for line in problems), problems


# --- list, show, lineage -----------------------------------------------------------------------------------


def test_list_show_and_lineage_of_models(store: Store, tmp_path: Path, printed: io.StringIO) -> None:
    hub = Parent("ORG/data@" + "c" * 40, "e" * 64, "f" * 64)
    draft = trained.manifest("rm", parents=[hub], diagnostics=trained.measured("rm"))
    rm = trained.publish(store, save_tiny_reward(tmp_path / "rm"), draft)
    policy = trained.manifest(
        "ppo", parents=[store.manifest("responses@0.1.0"), rm], diagnostics=trained.measured("ppo")
    )
    trained.publish(store, save_tiny_reward(tmp_path / "ppo"), policy, [rm])
    main(["list", "--root", str(store.root)])
    line = next(line for line in printed.getvalue().splitlines() if line.startswith("rm@"))
    assert line.split()[:2] == ["rm@0.1.0", "1,234"] and line.rstrip().endswith("model by recipes/rm")
    for ref in ("rm@0.1.0", "ppo@0.1.0"):
        printed.truncate(0)
        main(["show", ref, "--root", str(store.root)])
        assert "learning_rate" in printed.getvalue() and "ORG/tiny-llama" in printed.getvalue()
        if ref == "rm@0.1.0":
            details = ("held-out split", "64.5% to 72.1%", "surface", "within 10%", "7B-HHH-1shot", "66 are")
            assert all(words in printed.getvalue() for words in details)
        else:
            assert "held out" in printed.getvalue() and "1.9 to 2.5" in printed.getvalue()
    printed.truncate(0)
    main(["lineage", "ppo@0.1.0", "--root", str(store.root)])
    tree = printed.getvalue()
    assert f"rm@0.1.0  model  trained on 1,234 rows  digest {rm.digest[:12]}" in tree
    assert f"{hub.ref}  digest {'e' * 12}  on the Hub" in tree
    assert f"ORG/tiny-llama  revision {'b' * 40}" in tree and "responses@0.1.0  40" not in tree
    assert store.ancestors(store.manifest("ppo@0.1.0")) == [store.manifest("responses@0.1.0"), rm]
    assert verify(store, "ppo@0.1.0") == verify(store, "rm@0.1.0") == []


def test_a_minimal_manifest_can_be_shown_and_read_back(
    folder: Path, tmp_path: Path, printed: io.StringIO
) -> None:
    store = Store(tmp_path)
    manifest = trained.publish(
        store, folder, trained.manifest("sft", diagnostics={"report": None, "curves": None})
    )
    assert decode_manifest(encode_manifest(manifest), "") == manifest
    main(["show", manifest.ref, "--root", str(store.root)])
    main(["lineage", manifest.ref, "--root", str(store.root)])
    assert "sft@0.1.0" in printed.getvalue()


def test_curves_are_numbers_only() -> None:
    manifest = trained.manifest("rm", diagnostics={"curves": {"loss": [[[1], 0.5]]}})
    with pytest.raises(InputError, match=r"not a manifest of almost_data: .*diagnostics\.curves"):
        decode_manifest(encode_manifest(manifest), "manifest.json")


# --- a reward model of the store as rater ------------------------------------------------------------------


def test_a_model_of_the_store_rates(store: Store, tmp_path: Path, printed: io.StringIO) -> None:
    data = Parent("ORG/data@" + "c" * 40, "e" * 64, "f" * 64)
    asis = trained.publish_reward(store, tmp_path / "out", "asis", parents=[data])
    manifest = run(store, "asis@0.1.0").build("ratings")[-1].manifest
    assert [parent.ref for parent in manifest.parents] == ["responses@0.1.0", "asis@0.1.0"]
    assert manifest.parents[1] == Parent(asis.ref, asis.digest, asis.fingerprint, asis.sha256)
    assert manifest.config["reward_models"]["scorer"] == {"id": "asis@0.1.0", "revision": asis.digest[:16]}
    assert manifest.config["settings"]["rm"] == "asis@0.1.0"
    assert asis.diagnostics["models"][0] in manifest.diagnostics["models"] and not manifest.is_fake
    assert verify(store, manifest.ref) == []
    files = (store.path(manifest.ref) / name for name in ("manifest.json", "README.md"))
    assert all(str(tmp_path) not in file.read_text("utf-8") for file in files)
    main(["lineage", manifest.ref, "--root", str(store.root)])
    tree = printed.getvalue()
    assert tree.index("responses@") < tree.index("asis@0.1.0  model") < tree.index(data.ref)
    assert "asis@0.1.0  revision" not in tree, "it is a node, and need not be named as a model too"

    # The same scores as of the folder itself, up to rounding: the journal knows these by another name.
    by_path = run(store, str(tmp_path / "out"), "0.2.0", sources={"responses": "responses@0.1.0"})
    by_folder = by_path.build("ratings")[-1].manifest
    rows, same_rows = (store.scan(ref).sort("reply_id").collect() for ref in (manifest.ref, by_folder.ref))
    assert rows["reply_id"].equals(same_rows["reply_id"]) and by_folder.fingerprint != manifest.fingerprint
    assert rows["rating"].to_list() == pytest.approx(same_rows["rating"].to_list(), abs=1e-4)
    again = run(store, "asis@0.1.0", "0.3.0", sources={"responses": "responses@0.1.0"})
    scores = again.build("ratings")[-1].manifest.environment["scorer"]["scores"]
    assert scores["scored"] == 0 < scores["from_journal"], "the journal knows it by reference and digest"


def test_a_model_trained_on_fake_data_gives_fake_ratings(store: Store, tmp_path: Path) -> None:
    fake = {"models": [{"id": "fake/writer", "revision": "1"}], "notes": ["A plumbing run."]}
    trained.publish_reward(store, tmp_path / "out", diagnostics=fake)
    manifest = run(store, "asis@0.1.0").build("ratings")[-1].manifest
    assert manifest.is_fake and "asis@0.1.0: A plumbing run." in manifest.diagnostics["notes"]
    assert "Not real data" in (store.path(manifest.ref) / "README.md").read_text("utf-8")


ABOUT = [
    *("rm@0.1.0 was trained on a.", "asis@0.1.0 was trained on a."),
    *("rm@0.1.0 was trained on b: it is ahead.", "asis@0.1.0 was trained on b: it is ahead."),
]
"""Notes that begin with a name, and are no notes of its artifact."""


@pytest.mark.parametrize(
    ("notes", "all_notes"),
    [
        ([], ["asis@0.1.0: A plumbing run."]),
        (["A plumbing run."], ["A plumbing run."]),
        (ABOUT, ["asis@0.1.0: A plumbing run.", *ABOUT]),
    ],
)
def test_a_note_of_several_parents_is_handed_down_once(
    store: Store, tmp_path: Path, notes: list[str], all_notes: list[str]
) -> None:
    noted = {"models": [], "notes": ["A plumbing run."]}
    parents = [
        trained.publish_reward(store, tmp_path / name, name, diagnostics=noted) for name in ("asis", "rm")
    ]
    draft = trained.manifest("sft", parents=parents)
    record = Record(diagnostics={}, ledger=[], models=[], notes=notes, environment={})
    weights = Weights(save_tiny_reward(tmp_path / "out"), {"train": 1})
    with store.lock(draft.ref):
        manifest = publish(store, draft, weights, record, parents, lambda manifest: {"README.md": b"# sft"})
    assert manifest.diagnostics["notes"] == all_notes


def test_a_deleted_judge_or_parent_is_no_reason_to_build_again(store: Store, tmp_path: Path) -> None:
    trained.publish_reward(store, tmp_path / "out")
    run(store, "asis@0.1.0").build("ratings")
    assert [s.action for s in run(store, "asis@0.1.0").build("ratings")] == ["reuse", "reuse"]
    kept = tmp_path / "kept"
    for name in ("asis", "responses"):
        shutil.move(store.root / name, kept / name)
        assert [s.action for s in run(store, "asis@0.1.0").build("ratings")] == ["reuse"]
        assert verify(store, "ratings@0.1.0") == []
        shutil.move(kept / name, store.root / name)
    shutil.move(store.root / "asis", kept / "asis")
    with pytest.raises(InputError, match=r"no asis@0\.1\.0 under"):
        run(store, "asis@0.1.0", "0.2.0", sources={"responses": "responses@0.1.0"}).build("ratings")


def test_another_model_under_the_same_name_is_another_recipe(store: Store, tmp_path: Path) -> None:
    trained.publish_reward(store, tmp_path / "out")
    run(store, "asis@0.1.0").build("ratings")
    shutil.rmtree(store.path("asis@0.1.0"))
    trained.publish(store, save_tiny_reward(tmp_path / "new", seed=1), trained.manifest("rm", "asis"))
    with pytest.raises(InputError, match=r"ratings@0\.1\.0 exists already.*scorer\.revision"):
        run(store, "asis@0.1.0").build("ratings")
    assert any("parents: asis@0.1.0 here has another digest" in w for w in verify(store, "ratings@0.1.0"))


def test_what_is_no_reward_model_of_the_store_is_refused(store: Store, tmp_path: Path) -> None:
    from tests.tiny_models import save_tiny

    trained.publish(store, save_tiny(tmp_path / "sft"), trained.manifest("sft"))
    for judge, match in (
        ("asis@0.1.0", r"no asis@0\.1\.0 under .*: no artifact has that name"),
        ("responses@0.1.0", "is a dataset, where a reward model is needed"),
        ("sft@0.1.0", "sft@0.1.0: not a reward model: its config.json names LlamaForCausalLM"),
        ("asis@1", "not a version"),
    ):
        with pytest.raises(InputError, match=match):
            run(store, judge).plan("ratings")
    trained.publish_reward(store, tmp_path / "out")
    (store.path("asis@0.1.0") / "tokenizer_config.json").write_text("{}")
    with pytest.raises(InputError, match="pinned to"):
        run(store, "asis@0.1.0").plan("ratings")
    with pytest.raises(InputError, match="is a model, where a dataset is needed"):
        manifest = msgspec.structs.replace(store.manifest("sft@0.1.0"), name="responses", version="0.5.0")
        (store.root / "responses" / "0.5.0").mkdir()
        write_manifest(store.root / "responses" / "0.5.0", manifest)
        run(store, "asis@0.1.0", sources={"responses": "responses@0.5.0"}).plan("ratings")


def test_the_fake_engine_renames_it(store: Store, tmp_path: Path) -> None:
    trained.publish_reward(store, tmp_path / "out")
    preset = fake_tiny("ratings.rm=asis@0.1.0")
    manifest = build.BuildRun(store, "0.1.0", preset, FakeEngine()).build("ratings")[-1].manifest
    assert manifest.config["reward_models"]["scorer"]["id"] == "fake/asis@0.1.0" and manifest.is_fake
    assert [parent.ref for parent in manifest.parents] == ["responses@0.1.0"]


def test_a_reference_is_one_whatever_folder_lies_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "asis@0.1.0").mkdir()
    monkeypatch.chdir(tmp_path)
    for name in ("asis@0.1.0", "./asis@0.1.0"):
        preset = presets.load(assignments=(f"ratings.rm={name}",))
        assert config_of(preset, "ratings").rm == name


def test_the_command_line_takes_a_reference(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["build", "ratings", "--rm", "asis@0.1.0", "--root", str(store.root)]
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2 and "no asis@0.1.0 under" in capsys.readouterr().err
    trained.publish_reward(store, tmp_path / "out")
    main(arguments)
    manifest = store.manifest("ratings@0.1.0")
    assert manifest.config["reward_models"]["scorer"]["id"] == "asis@0.1.0"
    with pytest.raises(SystemExit) as end:
        main(["diff", "asis@0.1.0", "asis@0.1.0", "--root", str(store.root)])
    assert end.value.code == 2


def test_the_cards_example_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = Store(tmp_path / "build")
    manifest = trained.publish_reward(store, tmp_path / "out", "rm")
    text = (store.path(manifest.ref) / "README.md").read_text("utf-8")
    code = text.partition("```python\n")[2].partition("```")[0]
    exec(code.replace("build/rm/0.1.0", str(store.path(manifest.ref))), {})
    assert math.isfinite(float(capsys.readouterr().out))
