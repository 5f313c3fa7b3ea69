"""What the tests of push and pull share: repositories, commands, and whether a commit holds a version."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi

from almost_data import hub
from almost_data.cards.front_matter import front_matter, viewer
from almost_data.hub import artifact
from almost_data.store.store import Store
from tests.command import at_hub, run
from tests.hub_server import Hub

REPO, PAIRS, COPY, FOREIGN, MODEL = (
    f"ORG/{name}" for name in ("responses", "comparisons", "copy", "foreign", "rm")
)


def api(server: Hub, token: str | bool | None = None) -> HfApi:
    return HfApi(endpoint=server.endpoint, token=server.token if token is None else token)


def push(store: Store, server: Hub, ref: str = "responses@1.0.0", repo: str = REPO, **how: Any) -> hub.Pushed:
    return hub.push(store, ref, repo, api=api(server), **how)


def is_whole(store: Store, ref: str, files: dict[str, bytes], kind: str = "dataset") -> bool:
    """Whether a commit holds a version's files, byte for byte, and none of ours beside them."""
    folder = store.path(ref)
    ours = {path: content for path, content in files.items() if artifact.is_ours(path, kind)}
    want = {
        file.relative_to(folder).as_posix(): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file() and file.name != "README.md"
    }
    head = front_matter(files["README.md"].decode())
    return ours == want and (kind == "model" or viewer(store.manifest(ref)).items() <= head.items())


def environment(server: Hub, tmp_path: Path, token: str | None = None) -> dict[str, str]:
    home = {"HF_HOME": str(tmp_path / "hf"), "HF_HUB_DISABLE_TELEMETRY": "1", "TQDM_DISABLE": "1"}
    return os.environ | home | {"HF_ENDPOINT": server.endpoint, "HF_TOKEN": token or server.token}


def command(
    server: Hub, tmp_path: Path, *words: str, token: str | None = None
) -> subprocess.CompletedProcess[str]:
    with at_hub(environment(server, tmp_path, token)):
        return run(*words)


def stranger(server: Hub, tmp_path: Path, code: str) -> Any:
    """What another project gets that has no token; `code` prints JSON."""
    (tmp_path / "elsewhere").mkdir(exist_ok=True)
    variables = environment(server, tmp_path)
    clean = {name: value for name, value in variables.items() if name not in ("HF_TOKEN", "PYTHONPATH")}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=clean,
        cwd=tmp_path / "elsewhere",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def shard(store: Store) -> str:
    """Of the responder that only 1.0.0 has."""
    folder = store.path("responses@1.0.0")
    return next(folder.glob("data/poor/train-00000-*")).relative_to(folder).as_posix()


def void(_: object) -> None:
    pass
