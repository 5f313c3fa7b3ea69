"""Models are pushed and pulled like datasets; evaluations renew their card."""

import shutil
from pathlib import Path

import pytest

from almost_data import hub
from almost_data.cards.front_matter import front_matter
from almost_data.datasets.manifest import Manifest
from almost_data.datasets.records import Pinned
from almost_data.evals.result import Line
from almost_data.store.store import Store
from almost_data.store.verify import verify
from tests import trained
from tests.command import script
from tests.evals.known import saved
from tests.hub.pushes import MODEL, REPO, api, environment, is_whole, push
from tests.hub_server import Hub
from tests.tiny_models import save_tiny_reward


def test_a_model_goes_the_same_way_and_loads(store: Store, server: Hub, tmp_path: Path) -> None:
    first = push(store, server)
    manifest = trained.publish(
        store,
        save_tiny_reward(tmp_path / "trained"),
        trained.manifest("rm", parents=[store.manifest("responses@1.0.0")], version="1.0.0"),
    )
    by_hand = {"pytorch_model.bin": b"old", "trainer_state.json": b"{}", "eval/scores.json": b"{}"}
    server.put(MODEL, {"README.md": b"# Ours\n", **by_hand}, "model")
    push(store, server, manifest.ref, MODEL)
    files = server.files(MODEL, kind="model")
    assert is_whole(store, manifest.ref, files, "model") and by_hand.items() <= files.items()
    head = front_matter(files["README.md"].decode())
    assert head["datasets"] == [REPO] and first.commit in files["README.md"].decode()
    assert f'\nplace = "{MODEL}"\n' in files["README.md"].decode()
    target = Store(tmp_path / "other")
    assert hub.pull(target, f"{MODEL}@v1.0.0", api=api(server)).ref == manifest.ref
    assert verify(target, manifest.ref) == [] and target.manifest(manifest.ref) == manifest
    code = (
        "import json\nfrom transformers import AutoModelForSequenceClassification as M, AutoTokenizer as T\n"
    )
    code += f"m, t = (kind.from_pretrained({MODEL!r}, revision='v1.0.0', token=False) for kind in (M, T))\n"
    code += "print(json.dumps(sum(p.numel() for p in m.parameters()) > 0 and len(t) > 0))"
    done = script(code, env=environment(server, tmp_path))
    assert done.stdout == "true\n", done.stderr


def evaluated(store: Store, manifest: Manifest, task: str, lines: list[Line], *data: Pinned) -> None:
    models = [Pinned(manifest.ref, manifest.digest)]
    saved(store, manifest, task=task, models=models, data=list(data), lines=lines, settings={})


def test_an_evaluation_after_the_push_brings_the_card_on_main_up_to_date(
    store: Store, server: Hub, tmp_path: Path
) -> None:
    folder = save_tiny_reward(tmp_path / "trained")

    def publish(version: str, seed: int = 0) -> Manifest:
        return trained.publish(store, folder, trained.manifest("rm", version=version, seed=seed))

    manifest = publish("1.0.0")
    first = push(store, server, manifest.ref, "ORG/rm")
    repo = server.repos["model", "ORG/rm"]
    text = server.files("ORG/rm", kind="model")["README.md"].decode()
    server.put("ORG/rm", {"README.md": (text + "\nBy people.\n").encode()}, "model")
    assert push(store, server, manifest.ref, "ORG/rm").action == "unchanged"
    lines = [Line(manifest.ref, "accuracy", "all", 10, 0.7, 0.4, 0.9, 0, 0.5)]
    evaluated(store, manifest, "preference", lines, Pinned("ORG/data", "b" * 40, "data"))
    commits = len(repo.commits)
    done = push(store, server, manifest.ref, "ORG/rm")
    assert (done.action, done.commit, repo.tags) == ("card", first.commit, {"v1.0.0": first.commit})
    assert (
        len(repo.commits) == commits + 1 and push(store, server, manifest.ref, "ORG/rm").action == "unchanged"
    )
    text = repo.head.files["README.md"].content.decode()
    assert "## Evaluations" in text and "By people." in text
    assert front_matter(text)["model-index"][0]["results"][0]["metrics"][0]["value"] == 0.7
    target = Store(tmp_path / "other")
    hub.pull(target, "ORG/rm@main", api=api(server))
    assert "By people." in (target.path(manifest.ref) / "README.md").read_text("utf-8")
    # What is judged there is in the card beside what people wrote.
    lines = [Line(manifest.ref, "accuracy", "all", 10, 0.9, 0.8, 1.0, 0, 0.5)]
    evaluated(target, manifest, "static-hhh", lines)
    text = (target.path(manifest.ref) / "README.md").read_text("utf-8")
    assert "By people." in text and "static-hhh" in text and verify(target, manifest.ref) == []
    # After a later version, main is that one's.
    push(store, server, publish("1.1.0", 1).ref, "ORG/rm")
    commits = len(repo.commits)
    evaluated(store, manifest, "static-hhh", lines)
    assert push(store, server, manifest.ref, "ORG/rm").action == "unchanged" and len(repo.commits) == commits


def test_a_push_from_elsewhere_does_not_undo_results(store: Store, server: Hub, tmp_path: Path) -> None:
    manifest = trained.publish(store, save_tiny_reward(tmp_path / "out"), trained.manifest("rm"))
    shutil.copytree(store.path(manifest.ref), tmp_path / "other" / "rm" / manifest.version)
    lines = [Line(manifest.ref, "accuracy", "overall", 10, 0.7, 0.4, 0.9)]
    data = [Pinned("ORG/data", "b" * 40, "data")]
    evaluated(store, manifest, "preference", lines, *data)
    push(store, server, manifest.ref, "ORG/rm")
    before = server.repos["model", "ORG/rm"].head
    assert b"## Evaluations" in before.files["README.md"].content
    assert push(Store(tmp_path / "other"), server, manifest.ref, "ORG/rm").action == "unchanged"
    assert server.repos["model", "ORG/rm"].head is before


@pytest.mark.parametrize("fault", ["500", "412", "cut", "lost"])
def test_where_the_cards_commit_broke_the_same_command_ends_right(
    store: Store, server: Hub, tmp_path: Path, fault: str
) -> None:
    manifest = trained.publish(store, save_tiny_reward(tmp_path / "out"), trained.manifest("rm"))
    push(store, server, manifest.ref, "ORG/rm")
    lines = [Line(manifest.ref, "accuracy", "all", 10, 0.7)]
    evaluated(store, manifest, "static-hhh", lines)
    repo = server.repos["model", "ORG/rm"]
    commits = len(repo.commits)
    failed: list[str] = []

    def once(number: int, method: str, path: str) -> str | None:
        if "/commit/" in path and not failed:
            failed.append(path)
            return fault
        return None

    server.fault = once
    assert push(store, server, manifest.ref, "ORG/rm").action in ("card", "unchanged")
    assert failed and len(repo.commits) == commits + 1
    assert b"## Evaluations" in repo.head.files["README.md"].content
