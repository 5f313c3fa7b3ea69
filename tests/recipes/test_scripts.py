"""Recipes as scripts: exit codes, what a reader finds in the file, and who imports TRL."""

import ast
from pathlib import Path

import polars as pl
import pytest

from almost_data.store.store import Store
from almost_data.store.verify import verify
from tests.hub_server import serve
from tests.recipes import running
from tests.recipes.running import QUICK

pytest.importorskip("trl")

pytestmark = pytest.mark.train
SCRIPTS = [running.RECIPES / f"{name}.py" for name in ("dpo", "ppo", "rloo", "rm", "sft")]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_recipe_is_short_and_says_how_to_run_it_and_how_it_deviates(script: Path) -> None:
    text = script.read_text("utf-8")
    assert len(text.splitlines()) <= 125
    docstring = ast.get_docstring(ast.parse(text)) or ""
    assert f"python recipes/{script.stem}.py --config recipes/" in docstring
    assert "--artifact" in docstring and "--dataset" in docstring
    assert "Deviations from the paper" in docstring
    assert text.index('"""') == 0


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda module: module.stem)
def test_recipes_import_trl_at_the_top_and_nobody_else_does(script: Path) -> None:
    names = [
        node.module or ""
        for node in ast.parse(script.read_text("utf-8")).body
        if isinstance(node, ast.ImportFrom)
    ]
    assert "trl" in names
    for file in (running.RECIPES.parent / "almost_data").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            modules += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not [module for module in modules if module.split(".")[0] == "trl"], file


def test_exit_codes(tmp_path: Path) -> None:
    bare = running.script("rm")
    assert (bare.returncode, bare.stdout) == (2, "")
    [line] = bare.stderr.splitlines()
    assert line.startswith("almost-data: ") and "--dataset" in line

    unknown = running.script(
        "rm", "--dataset", "nothing@0.1.0", "--artifact", "rm@0.1.0", "--root", str(tmp_path)
    )
    assert unknown.returncode == 2
    [line] = unknown.stderr.splitlines()
    assert line.startswith("almost-data: no nothing@0.1.0 under ")


def test_a_dataset_of_others_is_read_as_the_user_says_or_refused(base: Path, tmp_path: Path) -> None:
    rows = [{"system": "Be brief.", "prompt": f"Why {n}?", "completion": "So."} for n in range(30)]
    contents: dict[str, bytes] = {"README.md": b"#\n"}
    for split, split_rows in (("train", [*rows, rows[0] | {"completion": ""}]), ("test", rows[:2])):
        pl.DataFrame([row | {"context": "Rain."} for row in split_rows]).write_parquet(
            tmp_path / "rows.parquet"
        )
        contents[f"data/{split}-00000-of-00001.parquet"] = (tmp_path / "rows.parquet").read_bytes()
    arguments = QUICK | {"root": tmp_path / "build", "model_name_or_path": base, "artifact": "sft@0.1.0"}
    with serve("someone/rows", contents) as (endpoint, commit):
        hub = {"HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_DISABLE_XET": "1"}
        arguments |= {"dataset": f"someone/rows@{commit}", "dry_run": "true"}
        refused = running.script("sft", *running.flags(arguments), **hub)
        done = running.script("sft", *running.flags(arguments | {"columns": "prompt=prompt"}), **hub)
    assert (refused.returncode, done.returncode) == (2, 0), done.stderr
    line = refused.stderr.splitlines()[-1]  # behind what the library of datasets writes
    assert "Traceback" not in refused.stderr
    assert "both prompt and context may hold the prompt" in line and line.endswith(" --columns prompt=NAME")
    printed = " ".join(done.stdout.split())
    assert "read as prompt (prompt, system), reply (completion); not read: context" in printed
    assert "no dialogue 1 3.2% rows that cannot be read are left out: no_reply 1; the first is" in printed


def test_help_shows_our_flags_and_trl_s() -> None:
    done = running.script("rm", "--help")
    assert done.returncode == 0
    for flag in ("--dataset_train_split", "--artifact", "--leave_out_pair", "--center_rewards_coefficient",
                 "--learning_rate", "--use_peft", "--model_name_or_path"):  # fmt: skip
        assert flag in done.stdout


def test_of_two_processes_one_publishes(store: Store, base: Path) -> None:
    arguments = QUICK | {"dataset": "comparisons@0.1.0", "root": store.root, "artifact": "rm-two@0.1.0"}
    arguments |= {"model_name_or_path": base, "max_steps": 2, "save_steps": 1, "leave_out_pair": "none"}
    done = running.shell("rm", *running.flags(arguments), processes=2)
    assert done.returncode == 0, done.stderr
    for once in ("before training", "rm-two@0.1.0: ", "'train_runtime'"):
        assert done.stdout.count(once) == 1
    manifest = store.manifest("rm-two@0.1.0")
    assert verify(store, manifest.ref) == []
    assert {"setting": "batch", "default": 128, "used": 8} in manifest.diagnostics["deviations"]
