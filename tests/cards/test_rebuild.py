"""The commands of a card, run in an empty store beside the same files, make the same rows."""

import re
import shlex
from pathlib import Path

import pytest

from almost_data.store.store import Store
from tests.command import run
from tests.jsonl import jsonl

TOML = """
[queries]
seeds = "./my files/seeds.txt"
target = 7
round_size = 8
[responses]
temperature = 0.7
[demonstrations]
assistant = { name = "mine", model = "any", prompt = "faithful", shots = 2, max_new_tokens = 64 }
"""
FILTERS = """
[[comparisons.filters]]
name = "mine"
description = "It's short: \\"short\\" is under 5."
python = "./my files/rules.py:short"
[[comparisons.filters]]
name = "sorry"
description = "It is sorry."
drop = "STARTS_WITH(response, 'Sorry')"
"""
POSTS = """<?xml version="1.0"?>
<posts>
<row Id="1" PostTypeId="1" Title="Why is moss green?" Body="&lt;p&gt;It is.&lt;/p&gt;" Score="1" />
<row Id="2" PostTypeId="2" ParentId="1" Body="&lt;p&gt;Light.&lt;/p&gt;" Score="9" />
<row Id="3" PostTypeId="2" ParentId="1" Body="&lt;p&gt;Nobody can tell.&lt;/p&gt;" Score="0" />
</posts>
"""
BUILDER = """
from almost_data import Builder, Built, Column, Config, Filter, Table, frame

class WordsConfig(Config, frozen=True):
    words: tuple[str, ...] = ("tea",)

TABLES = {"default": Table("A word.", ("word",), (Column("word", "string", "the word", "tea"),), None)}

def build(config, parents, generator, progress):
    rows = [{"word": word} for word in config.words]
    ledger = [Filter("words", "word", "Every word is kept.", "words").entry("words", len(rows), len(rows))]
    return Built({"default": frame(TABLES["default"], rows)}, ledger, {})

BUILDER = Builder(
    name="words", doc="Words.", config=WordsConfig, tables=TABLES, build=build,
    uses_engine=False, flags=("words",),
)
"""
FAKE = ("--engine", "fake", "--config", "my files/mine.toml")


def write(folder: Path) -> None:
    def rows(name: str, values: list[dict[str, str]]) -> None:
        jsonl(folder / "my files" / name, values)

    (folder / "my files").mkdir()
    texts = {
        "mine.toml": TOML,
        "filters.toml": FILTERS,
        "Posts.xml": POSTS,
        "words.py": BUILDER,
        "seeds.txt": "### Instruction: Ask.\nWhy is the sky so blue today?\nWho made the first map of it?\n",
        "rules.py": "def short(response):\n    return len(response) < 5\n",
        "queries.txt": "Why is moss green?\nWhat is a fern?\n",
        "bench.txt": "Why is moss green?\n",
    }
    for name, text in texts.items():
        (folder / "my files" / name).write_text(text, "utf-8")
    asks = [f"How does number {n} feel?" for n in range(9)]
    rows("answers.jsonl", [{"q": ask, "a": f"{ask} Fine, really.", "b": "It is bad."} for ask in asks])
    rows("pairs.jsonl", [{"x": ask, "y": "It is good.", "z": "It is bad."} for ask in asks])


IMPORTED = ("import", "responses", "my files/answers.jsonl", "--ladder", "a,b", "--columns", "prompt=q")
BUILDS: dict[str, list[tuple[str, ...]]] = {
    "queries": [("build", "queries", *FAKE)],
    "comparisons": [("build", "comparisons", *FAKE, "--checks", "none", "--limit", "5")],
    "responses": [
        ("import", "queries", "my files/queries.txt", "--license", "mit"),
        ("build", "responses", "--engine", "fake", "--from", "queries"),
    ],
    "comparisons of imports": [
        (*IMPORTED, "--language", "en"),
        ("build", "comparisons", "--config", "my files/filters.toml", "--benchmark", "my files/bench.txt"),
    ],
    "comparisons in a language": [
        IMPORTED,
        ("build", "comparisons", "--set", "card.language=en", "--checks", "none"),
    ],
    "demonstrations": [("build", "demonstrations", *FAKE, "--rm", "any/rm", "--limit", "4")],
    "community": [("build", "community", "--source", "my files/Posts.xml", "--site", "plants.example.com")],
    "ratings": [IMPORTED, ("build", "ratings", "--engine", "fake", "--judge", "j", "--judging", "pairs")],
    "comparisons by ratings": [
        IMPORTED,
        ("build", "ratings", "--engine", "fake", "--rm", "baseline:longest"),
        ("build", "comparisons", "--ratings", "ratings", "--checks", "none", "--label", "ratings"),
    ],
    "preferences": [
        ("import", "preferences", "my files/pairs.jsonl", "--columns", "prompt=x,chosen=y,rejected=z")
    ],
    "filtered": [
        ("import", "preferences", "my files/pairs.jsonl", "--columns", "prompt=x,chosen=y,rejected=z"),
        ("build", "filtered", "--benchmark", "my files/bench.txt", "--decontaminate", "--target", "6"),
    ],
    "a builder in a file": [("build", "my files/words.py:BUILDER", "--word", "tea", "--word", "rye")],
}


def commands(card: str) -> list[list[str]]:
    block = re.search(r"<summary>Rebuild it</summary>\n\n```text\n(.*?)\n```", card, re.DOTALL)
    assert block, "no commands"
    return [shlex.split(line)[1:] for line in block[1].replace("\\\n", " ").splitlines()]


@pytest.mark.parametrize("name", BUILDS)
def test_the_commands_of_a_card_make_the_same_rows(tmp_path: Path, name: str) -> None:
    write(tmp_path)
    for arguments in BUILDS[name]:
        done = run(*arguments, "--version", "1.2.0", "--root", "first", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    store = Store(tmp_path / "first")
    target = store.manifest(store.refs()[-1] if name != "comparisons" else "comparisons@1.2.0")
    for manifest in map(store.manifest, store.refs()):
        card = (store.path(manifest.ref) / "README.md").read_text("utf-8")
        again = Store(tmp_path / "again" / manifest.name)
        for words in commands(card):
            assert words[:2] == ["-m", "almost_data"]
            done = run(*words[2:], "--root", str(again.root), cwd=tmp_path / "my files")
            assert done.returncode == 0, done.stderr
        rebuilt = again.manifest(manifest.ref)
        assert (rebuilt.digest, rebuilt.fingerprint) == (manifest.digest, manifest.fingerprint)
        assert str(tmp_path) not in card and "my files" not in card
    assert target.ref in store.refs()


def test_commands_name_only_what_was_changed(tmp_path: Path) -> None:
    write(tmp_path)
    done = run(*BUILDS["comparisons"][0], "--version", "1.2.0", "--root", "first", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    words = commands((tmp_path / "first/comparisons/1.2.0/README.md").read_text("utf-8"))
    changed = [[word for word in command if re.match(r"(?!-)[a-z]+\.[a-z_]+=", word)] for command in words]
    queries = ["queries.target=7", "queries.limit=5", "queries.seeds=seeds.txt", "queries.round_size=8"]
    assert changed[0] == queries
    assert changed[1] == ["responses.temperature=0.7", "responses.limit=5"]
    assert changed[2] == ["comparisons.limit=5", 'comparisons.checks="none"']


def test_files_are_told_by_name_and_hash(tmp_path: Path) -> None:
    write(tmp_path)
    for arguments in BUILDS["comparisons of imports"]:
        assert run(*arguments, "--version", "1.2.0", "--root", "first", cwd=tmp_path).returncode == 0
    card = (tmp_path / "first/comparisons/1.2.0/README.md").read_text("utf-8")
    for name in ("answers.jsonl", "rules.py", "bench.txt"):
        assert re.search(rf"^- `{re.escape(name)}`, sha256 [0-9a-f]{{64}}$", card, re.MULTILINE), name
