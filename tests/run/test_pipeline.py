import shutil
from collections.abc import Iterable, Iterator
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import msgspec
import pytest

from almost_data.datasets.config import record
from almost_data.errors import InputError
from almost_data.generation import Model, Reply, Request
from almost_data.generation.fake import FakeEngine
from almost_data.run import build, presets
from almost_data.store.diff import diff
from almost_data.store.store import Store
from almost_data.store.verify import verify
from tests.schema import builder
from tests.settings import Real, config_of, fake, fake_tiny, with_settings


class RealLooking(Real):
    def resolve(self, model: Model) -> Model:
        return Model(model.id, "abc")


class Unused(FakeEngine):
    def generate(self, requests: Iterable[Request]) -> Iterator[Reply]:
        raise AssertionError("the engine was asked")


def run(
    store: Store, version: str = "0.1.0", engine: FakeEngine | None = None, *sets: str, **sources: str
) -> build.BuildRun:
    engine = engine or FakeEngine()
    preset = presets.load("tiny", assignments=sets)
    return build.BuildRun(store, version, fake(preset) if engine.name == "fake" else preset, engine, sources)


def test_a_finished_build_run_again_asks_nothing(fake_store: Store) -> None:
    steps = run(fake_store, engine=Unused()).build("comparisons")
    assert [step.action for step in steps] == ["reuse"] * 3


def test_the_same_digest_whatever_the_engines_order(fake_store: Store, tmp_path: Path) -> None:
    class Backwards(FakeEngine):
        def generate(self, requests: Iterable[Request]) -> Iterator[Reply]:
            return reversed(list(super().generate(requests)))

    steps = run(Store(tmp_path), engine=Backwards()).build("comparisons")
    for step in steps:
        forwards = fake_store.manifest(step.manifest.ref)
        assert (step.manifest.digest, step.manifest.fingerprint) == (forwards.digest, forwards.fingerprint)


def test_fake_and_real_never_mix(fake_store: Store, copy: Store) -> None:
    with pytest.raises(InputError, match=r"queries@0\.1\.0 exists already.*fake/gemma3"):
        run(copy, engine=RealLooking()).build("comparisons")
    steps = run(copy, "0.2.0", RealLooking()).build("comparisons")
    assert [step.action for step in steps] == ["build"] * 3
    assert all(not step.manifest.is_fake for step in steps)
    assert all(
        fake_store.manifest(ref).is_fake for ref in ("queries@0.1.0", "responses@0.1.0", "comparisons@0.1.0")
    )
    responders = copy.scan("responses@0.1.0").collect()["responder"]
    assert responders.str.starts_with("fake-").all()


def test_the_presets_note_reaches_every_card_of_real_models_only(fake_store: Store, tmp_path: Path) -> None:
    store = Store(tmp_path)
    for step in run(store, engine=RealLooking()).build("comparisons"):
        assert "plumbing run" in (store.path(step.manifest.ref) / "README.md").read_text("utf-8")
    assert fake_store.manifest("comparisons@0.1.0").diagnostics["notes"] == []


def test_a_presets_note_speaks_of_its_own_models_only(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('[queries]\nmodel = "mine"\n')
    assert presets.load("tiny", file).note is None
    file.write_text('note = "Mine."\n[queries]\nmodel = "mine"\n')
    assert presets.load("tiny", file).note == "Mine."
    assert "SmolLM2" in (presets.load("tiny", assignments=("queries.target=7",)).note or "")
    judged = presets.load("tiny", assignments=("ratings.judge=ORG/judge",))
    assert judged.note and "responses" in judged.noted_builders and "ratings" not in judged.noted_builders


def test_another_recipe_under_the_same_version_is_refused_by_name(fake_store: Store) -> None:
    with pytest.raises(
        InputError, match=r"comparisons@0\.1\.0 exists already.*min_chars: 50 -> 60.*choose another version"
    ):
        run(fake_store, "0.1.0", None, "comparisons.min_chars=60").build("comparisons")
    with pytest.raises(
        InputError, match=r"responses@0\.1\.0 .*seed: 0 -> 7.*or set run\.from to responses@0\.1\.0"
    ):
        run(fake_store, "0.1.0", None, "responses.seed=7").build("comparisons")


def test_a_new_threshold_is_a_new_version_from_the_same_responses(copy: Store) -> None:
    again = run(copy, "0.2.0", Unused(), "comparisons.min_chars=120", responses="responses@0.1.0")
    steps = again.build("comparisons")
    assert [(s.manifest.ref, s.action) for s in steps] == [
        ("responses@0.1.0", "reuse"),
        ("comparisons@0.2.0", "build"),
    ]
    assert steps[-1].manifest.ledger[0].kept < copy.manifest("comparisons@0.1.0").ledger[0].kept


def test_retry_failed_is_for_what_asks_a_model_and_for_a_new_version(fake_store: Store) -> None:
    for version, name, match in (
        ("0.1.0", "responses", r"give run\.retry_failed another run\.version"),
        ("0.2.0", "comparisons", r"run\.retry_failed: comparisons asks no model; use it with responses"),
    ):
        with pytest.raises(InputError, match=match):
            replace(run(fake_store, version), retry_failed=True).plan(name)


def test_from_must_name_something_upstream(fake_store: Store) -> None:
    with pytest.raises(
        InputError,
        match=r"run\.from comparisons@0\.1\.0: comparisons is made from responses, queries, ratings; "
        "comparisons is read by `build filtered`",
    ):
        run(fake_store, "0.3.0", None, comparisons="comparisons@0.1.0").build("comparisons")
    with pytest.raises(InputError, match=r"ratings \(did you mean 'responses'\?\)"):
        run(fake_store, "0.3.0", None, respones="respones@0.1.0").build("comparisons")
    with pytest.raises(InputError, match=r"no responses@9\.0\.0"):
        run(fake_store, "0.3.0", None, responses="responses@9.0.0").build("comparisons")


def test_a_plan_builds_nothing(tmp_path: Path) -> None:
    steps = run(Store(tmp_path / "new"), engine=Unused()).plan("comparisons").steps
    assert [(s.manifest.name, s.action) for s in steps] == [
        (n, "build") for n in ("queries", "responses", "comparisons")
    ]
    assert not (tmp_path / "new").exists()


def test_a_plan_is_a_value_that_execute_takes(tmp_path: Path) -> None:
    store = Store(tmp_path)
    plan = run(store, engine=Unused()).plan("comparisons")
    assert plan == run(store, engine=Unused()).plan("comparisons"), "to plan changes nothing"
    assert [step.parents for step in plan.steps] == [(), ("queries@0.1.0",), ("responses@0.1.0",)]
    assert plan.target.manifest.ref == "comparisons@0.1.0"
    assert {step.manifest.digest for step in plan.steps} == {""}
    with pytest.raises(FrozenInstanceError):
        plan.steps = ()  # type: ignore[misc]
    stages: list[str] = []
    steps = run(store).execute(plan, lambda stage, done, total, tokens: stages.append(stage))
    assert list(dict.fromkeys(stages)) == ["queries", "responses", "comparisons"]
    assert [step.manifest for step in steps] == [store.manifest(step.manifest.ref) for step in plan.steps]
    assert {step.manifest.digest for step in plan.steps} == {""}, "the plan stays as it was"
    # What a plan said of other datasets may be over; to build over one is refused.
    with pytest.raises(InputError, match=r"queries@0\.1\.0 was built by another process meanwhile"):
        run(store).execute(plan)
    again = run(store, engine=Unused())
    assert [step.action for step in again.execute(again.plan("comparisons"))] == ["reuse"] * 3


def test_a_builder_object_is_planned_like_its_name(tmp_path: Path) -> None:
    build_run = run(Store(tmp_path))
    assert build_run.plan(builder("comparisons")) == build_run.plan("comparisons")


def test_deleted_parents_are_not_made_again(copy: Store) -> None:
    shutil.rmtree(copy.root / "responses")
    shutil.rmtree(copy.root / "queries")
    steps = run(copy, engine=Unused()).build("comparisons")
    assert [(s.manifest.ref, s.action) for s in steps] == [("comparisons@0.1.0", "reuse")]


def with_prompt(preset: presets.Preset, prompt: Path) -> presets.Preset:
    """Every responder of the ladder with that prompt."""
    ladder = config_of(preset, "responses").responders
    ladder = tuple(msgspec.structs.replace(r, prompt=str(prompt), shots=1) for r in ladder)
    return with_settings(preset, "responses", responders=ladder)


def test_no_folder_of_this_machine_is_in_a_manifest_or_card(tmp_path: Path) -> None:
    prompt = tmp_path / "mine.txt"
    prompt.write_text("p\n\n-----\n\nHuman:  a\n\nAssistant:  b\n")
    seeds = tmp_path / "seeds.txt"
    seeds.write_text("### Instruction: Ask.\nWhy is the sky so blue today?\n")
    preset = with_settings(with_prompt(fake_tiny(), prompt), "queries", seeds=str(seeds), target=10)
    store = Store(tmp_path / "build")
    for step in build.BuildRun(store, "0.1.0", preset, FakeEngine()).build("comparisons"):
        for file in ("manifest.json", "README.md"):
            assert str(tmp_path) not in (store.path(step.manifest.ref) / file).read_text("utf-8")


def test_moving_the_prompt_file_changes_no_fingerprint_and_editing_it_does(tmp_path: Path) -> None:
    def of(folder: str, text: str) -> str:
        (tmp_path / folder).mkdir(exist_ok=True)
        prompt = tmp_path / folder / "mine.txt"
        prompt.write_text(f"p\n\n-----\n\nHuman:  a\n\nAssistant:  {text}\n")
        preset = with_prompt(fake_tiny(), prompt)
        plan = build.BuildRun(Store(tmp_path / "no"), "0.1.0", preset, FakeEngine()).plan("responses")
        return plan.target.manifest.fingerprint

    assert of("one", "b") == of("two", "b") != of("one", "c")


def test_a_build_without_any_comparison_says_which_filter_took_all(tmp_path: Path) -> None:
    store, strict = Store(tmp_path), "comparisons.min_chars=100000"
    with pytest.raises(RuntimeError, match=r"no row is left .*too_short dropped "):
        run(store, "0.1.0", None, strict).build("comparisons")
    manifest = store.manifest("comparisons@0.1.0")
    assert manifest.is_empty and manifest.counts["default"] == {} and verify(store, manifest.ref) == []
    dropped = store.scan(manifest.ref, "rejected_responses").collect()
    assert len(dropped) == 5 * 40 and set(dropped["reason"]) == {"too_short"}
    assert "has **no rows**" in (store.path(manifest.ref) / "README.md").read_text("utf-8")
    assert diff(store, manifest.ref, manifest.ref).kept == 0
    with pytest.raises(RuntimeError, match="no row is left"):
        run(store, "0.1.0", None, strict).build("comparisons")
    steps = run(store).build("comparisons")
    assert [step.action for step in steps] == ["reuse", "reuse", "build"], "other settings replace it"
    assert not steps[-1].manifest.is_empty and verify(store, manifest.ref) == []
    with pytest.raises(RuntimeError, match="no row is left"):
        run(store, "0.2.0", None, strict, responses="responses@0.1.0").build("comparisons")
    assert store.resolve("comparisons") == "comparisons@0.1.0", "a name alone means one with rows"


def test_nothing_is_built_on_an_empty_dataset(tmp_path: Path) -> None:
    store, filters = Store(tmp_path), 'name="all", description="All.", drop="LENGTH(query) > 0"'
    with pytest.raises(RuntimeError, match=r"queries@0\.1\.0: no row is left .* dropped "):
        run(store, "0.1.0", None, f"queries.filters=[{{{filters}}}]", "queries.max_rounds=1").build("queries")
    assert len(store.scan("queries@0.1.0", "rejected").collect()) > 0
    with pytest.raises(InputError, match=r"run\.from queries@0\.1\.0: it is empty"):
        run(store, "0.2.0", queries="queries@0.1.0").build("responses")


@pytest.mark.parametrize(
    ("assignment", "match"),
    [
        ("queries.target=many", r"queries\.target=many: needs a whole number, not text$"),
        ("comparisons.target=many", r"comparisons\.target=many: needs a whole number or none, not text$"),
        ("responses.responders=[3]", r"responses\.responders\[0\]: needs a table, not a whole number$"),
        ("queries.maxrounds=1", r"unknown key queries\.maxrounds \(did you mean 'max_rounds'\?\)"),
        ("queries.shots=0", r"^queries\.shots=0: needs a whole number >= 1$"),
        ('queries.filters=[{name="x", drop="true"}]', r"queries\.filters\[0\]: description is missing$"),
        ("queries.nothing=1", r"unknown key queries\.nothing; known here: model"),
        (
            "responses.shots=1",
            r"unknown key responses\.shots, which is a key of responses\.responders: write it",
        ),
        ("nothing.x=1", "unknown key nothing; known here: note, card, engine, scoring, queries"),
        ("note.x=1", "note: needs text or none, not a table$"),
        ("queries.top_p=0", "> 0"),
        ("comparisons.pairing=some", "Invalid enum value 'some': choose of first, all, extremes"),
        ("comparisons.length_sd=some", "Invalid enum value 'some': choose of auto$"),
        ('queries.filters=[{name="A b", drop="true"}]', "name: needs 1 to 24 lower-case letters, digits"),
        ("comparison.target=3", r"unknown key comparison \(did you mean 'comparisons'\?\)"),
        ("responders.x=3", r"unknown key responders, which stands in a section: responses\.responders;"),
        ("target=3", r"write section\.key=value, here one of queries\.target, comparisons\.target"),
        ("nothing=3", r"write section\.key=value, such as queries\.target=100$"),
    ],
)
def test_bad_settings_name_the_key(assignment: str, match: str) -> None:
    with pytest.raises(InputError, match=match):
        presets.load("tiny", assignments=(assignment,))


def test_a_reward_model_s_folder_is_recorded_by_name_however_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "m" / "rm").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    for name in ("m/rm", "./m/rm", str(tmp_path / "m" / "rm")):
        preset = presets.load(assignments=(f'ratings.rm="{name}"',))
        assert record(preset.settings(builder("ratings")))["rm"] == "rm"
    preset = presets.load(assignments=('ratings.rm="ORG/rm"',))
    assert record(preset.settings(builder("ratings")))["rm"] == "ORG/rm"


def test_options_of_scorers_are_checked_without_one() -> None:
    with pytest.raises(InputError, match=r"unknown key scoring\.nope; known here: device, dtype"):
        build.prepare("fake", assignments=("scoring.nope=1",))
