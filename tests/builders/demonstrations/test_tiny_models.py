"""A real engine and a real reward model: picks are reproducible, memory is freed."""

import functools
import gc
import itertools
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pytest

from almost_data import scoring
from almost_data.cards.markdown import sig
from almost_data.datasets.manifest import Manifest
from almost_data.generation.transformers import TransformersEngine
from almost_data.run import build, presets
from almost_data.scoring import Dialogue
from almost_data.store.store import Store
from almost_data.store.verify import verify
from tests import tiny_models, trained
from tests.builders.demonstrations.scripted import QUERIES, BuiltDialogues, check, read, store_of
from tests.settings import config_of, with_settings

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """A policy, a prompt, and a store with a reward model that has a report."""
    folder = tmp_path_factory.mktemp("tiny")
    prompt = folder / "short.txt"
    prompt.write_text("p\n\n-----\n\nHuman:  Is it late?\n\nAssistant:  No.\n")
    store = store_of(folder / "build", QUERIES[:3])
    trained.publish_reward(store, folder / "rm", "rm", diagnostics=trained.measured("rm"))
    trained.publish_reward(store, folder / "plain", "plain")
    return tiny_models.save_tiny(folder / "policy"), prompt, store.root


def tiny_run(
    tiny: tuple[Path, Path, Path], version: str, rm: str = "rm@0.1.0", **changes: Any
) -> build.BuildRun:
    policy, prompt, root = tiny
    preset = replace(presets.load("tiny"), note=None)
    config = config_of(preset, "demonstrations")
    model = {"model": str(policy), "prompt": str(prompt), "shots": 1}
    assistant = msgspec.structs.replace(config.assistant, **model, max_new_tokens=12)
    user = msgspec.structs.replace(config.user, **model, max_new_tokens=6)
    preset = with_settings(preset, "demonstrations", assistant=assistant, user=user, rm=rm, **changes)
    engine = TransformersEngine(dtype="float32")  # in which it honours seeds
    return build.BuildRun(Store(root), version, preset, engine, {"queries": "queries@0.1.0"})


def test_tiny_models_write_and_pick(tiny: tuple[Path, Path, Path], tmp_path: Path) -> None:
    run = tiny_run(tiny, "0.1.0", turns=4)
    manifest = run.build("demonstrations")[-1].manifest
    store = run.store
    built = BuiltDialogues(store, manifest, read(store, manifest.ref))
    check(built)
    assert verify(store, manifest.ref) == [] and not manifest.is_fake
    first = built.candidates.filter(turn=1)
    assert first.group_by("query_id").agg(pl.col("response").n_unique())["response"].min() == 4
    judge = store.manifest("rm@0.1.0")
    assert [parent.ref for parent in manifest.parents] == ["queries@0.1.0", "rm@0.1.0"]
    assert manifest.parents[1].digest == judge.digest
    pinned = {"id": "rm@0.1.0", "revision": judge.digest[:16]}
    assert manifest.config["reward_models"]["scorer"] == pinned and pinned in manifest.diagnostics["models"]
    text = (store.path(manifest.ref) / "README.md").read_text("utf-8")
    assert "rm@0.1.0" in text and judge.digest[:12] in text
    # By the reward model itself, a dialogue at a time.
    plain = scoring.load(str(store.path("rm@0.1.0")))
    for dialogue in built.talks.values():
        turns = tuple(m["content"] for m in dialogue["messages"])
        (score,) = plain.score([Dialogue.of("x", *turns)])
        assert dialogue["rm_score"] == pytest.approx(score.value, rel=1e-4, abs=1e-4)
    best = manifest.diagnostics["best_of_n"]["scores"]
    assert best["reference"] == trained.measured("rm")["report"]["rewards"] and 0 <= best["out_of_range"] <= 1
    assert "standard deviation" in text and sig(best["reference"]["std"]) in text
    # Elsewhere, without the journal: the same text and the same picks.
    again = tiny_run((*tiny[:2], copied(store, tmp_path)), "0.1.0", turns=4)
    other_manifest = again.build("demonstrations")[-1].manifest
    assert other_manifest.environment["engine"]["replies"]["from_journal"] == 0
    assert other_manifest.fingerprint == manifest.fingerprint
    same = read(again.store, other_manifest.ref)
    for config in ("candidates", "default"):
        texts = [c for c in same[config].columns if "score" not in c]
        assert same[config].select(texts).equals(built.tables[config].select(texts))
    # A reward model without a report is no reference.
    alone = tiny_run(tiny, "0.2.0", rm="plain@0.1.0").build("demonstrations")[-1].manifest
    assert not {"reference", "out_of_range"} & alone.diagnostics["best_of_n"]["scores"].keys()
    assert alone.environment["engine"]["replies"]["generated"] == 0


def test_weights_are_gone_while_the_other_works(
    tiny: tuple[Path, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Real models: of the engine's and the reward model's, those of one are in memory at any time."""
    gc.collect()
    alive: list[tuple[str, weakref.ref[Any]]] = []
    loaded_names: list[set[str]] = []

    def watch(owner: type, name: str, who: str) -> None:
        real = getattr(owner, name)

        def loading(*args: Any, **kwargs: Any) -> Any:
            got = real(*args, **kwargs)
            network = got[0] if isinstance(got, tuple) else got
            alive.append((who, weakref.ref(network)))
            forward = network.forward

            def noted(*a: Any, **k: Any) -> Any:
                loaded_names.append({name for name, weak in alive if weak() is not None})
                return forward(*a, **k)

            network.forward = functools.update_wrapper(noted, forward)  # its signature tells what it takes
            return got

        monkeypatch.setattr(owner, name, staticmethod(loading))

    import transformers

    watch(transformers.AutoModelForCausalLM, "from_pretrained", "engine")
    watch(transformers.AutoModelForSequenceClassification, "from_pretrained", "scorer")
    store = Store(tiny[2])
    manifests: dict[bool, Manifest] = {}
    for turns in (True, False):
        here = (*tiny[:2], copied(store, tmp_path / str(turns)))
        run = replace(tiny_run(here, "0.1.0", turns=4), take_turns=turns)
        manifests[turns] = run.build("demonstrations")[-1].manifest
        loads = [who for who, _ in alive]
        if turns:
            assert loads == ["engine", "scorer", "engine", "scorer"]
            assert [who for who, _ in itertools.groupby(map(tuple, loaded_names))] == [
                (who,) for who in loads
            ]
            run.generator.close()
            for scorer in run.loaded_scorers.values():
                scorer.close()
            assert not any(weak() for _, weak in alive), "closed, and still in memory"
        else:
            assert loads == ["engine", "scorer"] and {"engine", "scorer"} in loaded_names
        alive.clear()
        loaded_names.clear()
    assert manifests[True].digest == manifests[False].digest
    assert manifests[True].environment["scorer"] == manifests[False].environment["scorer"]
    assert manifests[True].environment["scorer"]["settings"]["device"]


def copied(store: Store, root: Path) -> Path:
    """A store with the same queries and reward model, and nothing else."""
    for name in ("queries", "rm"):
        place = root / name / "0.1.0"
        place.parent.mkdir(parents=True)
        place.symlink_to(store.path(f"{name}@0.1.0"))
    return root
