"""A config is recorded without a folder of the machine, by the types of its fields."""

from pathlib import Path

import msgspec
import pytest

from almost_data.builders.responder import Responder
from almost_data.datasets.config import Config, FilePath, Source, record, with_marked_paths
from almost_data.datasets.user_filters import UserFilter


class Nested(Config, frozen=True, kw_only=True):
    source: Source
    text: str = "./not a path"


class Paths(Config, frozen=True, kw_only=True):
    file: FilePath | None = None
    files: tuple[FilePath, ...] = ()
    source: Source | None = None
    sources: list[Source] = msgspec.field(default_factory=list)
    nested: Nested | None = None
    all_nested: tuple[Nested, ...] = ()
    text: str = "/no/path/at/all"
    texts: tuple[str, ...] = ("./a/b",)


def test_paths_are_cut_to_names_by_type_however_deep() -> None:
    config = Paths(
        file="some/folder/a.txt",
        files=("/x/b.txt", "c.txt"),
        source="/models/rm",
        sources=["~/mine", "ORG/rm", "rm@0.1.0"],
        nested=Nested(source="./models/policy"),
        all_nested=(Nested(source="../a"), Nested(source="pypi:thing")),
    )
    assert record(config) == {
        "file": "a.txt",
        "files": ["b.txt", "c.txt"],
        "source": "rm",
        "sources": ["mine", "ORG/rm", "rm@0.1.0"],
        "nested": {"source": "policy", "text": "./not a path"},
        "all_nested": [
            {"source": "a", "text": "./not a path"},
            {"source": "pypi:thing", "text": "./not a path"},
        ],
        "text": "/no/path/at/all",
        "texts": ["./a/b"],
    }
    assert config.nested == Nested(source="./models/policy"), "the config itself stays"


def test_nothing_depends_on_the_machine_s_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = Paths(source="ORG/rm")
    before = record(config)
    (tmp_path / "ORG" / "rm").mkdir(parents=True)
    assert record(config) == before
    # What a user means is decided once, when the settings are read.
    assert record(with_marked_paths(config))["source"] == "rm"
    assert with_marked_paths(Paths(source="rm@0.1.0")) == Paths(source="rm@0.1.0")


def test_settings_of_builders_are_recorded_likewise() -> None:
    responder = Responder(name="large", model="./models/large", prompt="/prompts/mine.txt", shots=1)
    assert record(responder) | {} == {
        **{"name": "large", "model": "large", "prompt": "mine.txt", "shots": 1},
        **{
            "max_new_tokens": None,
            "style": "raw",
            "system": None,
            "chat_template_kwargs": {},
        },
    }
    user_filter = UserFilter(name="mine", description="One sentence.", python="/somewhere/filters.py:drop")
    assert record(user_filter)["python"] == "filters.py:drop"
