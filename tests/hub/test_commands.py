"""The commands on a Hub."""

from pathlib import Path

from almost_data.store.store import Store
from tests.hub.pushes import REPO, command
from tests.hub_server import TOKEN, Hub


def test_the_commands_say_what_they_did_and_never_the_token(
    store: Store, server: Hub, tmp_path: Path
) -> None:
    root = ("--root", str(store.root))
    target = ("--root", str(tmp_path / "other"))
    broken = iter(["500", "lost"])
    server.fault = lambda number, method, path: next(broken, None) if "/commit/" in path else None
    runs = [
        (0, "is tagged now", command(server, tmp_path, "push", "responses@1.0.0", "--repo", REPO, *root)),
        (0, "no commit", command(server, tmp_path, "push", "responses@1.0.0", "--repo", REPO, *root)),
        (
            0,
            f"next: python -m almost_data show responses@1.0.0 --root {target[1]}",
            command(server, tmp_path, "pull", f"{REPO}@v1.0.0", *target),
        ),
        (0, "agree", command(server, tmp_path, "verify", f"{REPO}@v1.0.0", *target)),
        (2, "no such revision", command(server, tmp_path, "pull", f"{REPO}@v7.0.0", *target)),
        (
            2,
            "the Hub refused the token in HF_TOKEN: set one with access, and to push with the right to write",
            command(server, tmp_path, "push", "responses@1.1.0", "--repo", REPO, *root, token="hf_Bad"),
        ),
    ]
    for code, expected, done in runs:
        out = done.stdout + done.stderr
        assert done.returncode == code and expected in " ".join(out.split()), out
        assert TOKEN not in out and "hf_Bad" not in out and "Traceback" not in out
        assert "127.0.0.1" not in out
    texts = [file.read_bytes() for root in (store.root, tmp_path / "other") for file in root.rglob("*.*")
             if file.is_file()]  # fmt: skip
    assert not any(TOKEN.encode() in text for text in texts)
    assert not any(TOKEN.encode() in content for content in server.files(REPO).values())
