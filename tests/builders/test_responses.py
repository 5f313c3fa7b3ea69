import random
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from almost_data.builders.responder import Responder
from almost_data.builders.responses import BUILDER, ResponsesConfig, build
from almost_data.datasets import spool
from almost_data.datasets.builder import Built, silent, text_id
from almost_data.datasets.digest import frames
from almost_data.datasets.ledger import check_ledger
from almost_data.errors import InputError
from almost_data.generation import Generator, Reply, Request, journal, prompts
from almost_data.generation.fake import FakeEngine
from almost_data.generation.journal import JournaledGenerator
from almost_data.generation.journal_file import JournalSession
from almost_data.models.chat import user_turn
from almost_data.run import presets
from tests import schema

QUERIES = [f"What is number {n} good for?" for n in range(12)]


class Recorded(FakeEngine):
    def __init__(self, fail: str = "\0") -> None:
        self.requests: list[Request] = []
        self.calls, self.fail = 0, fail

    def generate(self, requests: Iterable[Request]) -> Iterator[Reply]:
        self.calls += 1
        self.requests += requests
        for reply, request in zip(super().generate(self.requests), self.requests, strict=True):
            failed = self.fail in request.text
            yield Reply(reply.id, "", "error", error="context too long") if failed else reply


def answer(config: ResponsesConfig, engine: Generator, queries: list[str] = QUERIES) -> Built:
    rows = [{"query_id": text_id(q), "prompt": user_turn(q), "source": "import"} for q in queries]
    frame = schema.frame("queries", "default", rows)
    with tempfile.TemporaryDirectory() as folder:
        built = build(config, {"queries": lambda _: frame.lazy()}, engine, silent, Path(folder))
        tables = {name: pl.concat(frames(rows)) for name, rows in built.tables.items()}
    check_ledger(built.ledger)
    return replace(built, tables=tables)


@pytest.mark.parametrize("preset", ["tiny", "almost"])
def test_presets_ask_as_the_paper_does(preset: str) -> None:
    config = presets.load(preset).settings(BUILDER)
    engine = Recorded()
    built = answer(config, engine)
    assert engine.calls == 1  # all requests of all responders together: a model is loaded once
    responders = [*config.responders, *config.probes]
    assert len(engine.requests) == len(responders) * len(QUERIES)
    ranks = built.tables[config.responders[0].name]["rank"].unique().to_list()
    assert ranks == [0]
    for probe in config.probes:
        assert built.tables[probe.name]["rank"].null_count() == len(QUERIES)
    for request in engine.requests:
        assert request.sampling.stop == ("-----", "Human:", "Assistant:")
        assert (request.sampling.temperature, request.sampling.top_p) == (1.0, 0.9)
        assert request.text.startswith("\n\nHuman: What is") and request.text.endswith("\n\nAssistant:")
    if preset == "almost":
        assert {(r.name, r.prompt, r.shots) for r in config.responders} == {
            ("30B-Faithful-3shot", "faithful", 3),
            ("30B-HHH-5shot", "hhh", 5),
            ("13B-HHH-3shot", "hhh", 3),
            ("7B-HHH-3shot", "hhh", 3),
            ("7B-HHH-1shot", "hhh", 1),
        }
        tokens = {r.prefix: r.sampling.max_new_tokens for r in engine.requests}
        assert tokens[prompts.load("faithful").head(3)] == 768
        assert tokens[prompts.load("hhh").head(5)] == 384


def test_no_marker_is_left_and_text_is_stripped(fake_preset: presets.Preset) -> None:
    built = answer(fake_preset.settings(BUILDER), FakeEngine(), [f"Query {n}?" for n in range(100)])
    for frame in built.tables.values():
        for text in frame["response"]:
            assert text == text.strip()
            assert not any(marker in text for marker in prompts.STOP)


def test_failed_requests_are_rows_of_rejected_and_the_ledger_says_so(fake_preset: presets.Preset) -> None:
    built = answer(fake_preset.settings(BUILDER), Recorded(fail="number 3 "))
    assert built.ledger[0].failed == 5
    rejected = built.tables["rejected"]
    assert rejected["reason"].to_list() == ["failed"] * 5
    assert rejected["error"].unique().to_list() == ["context too long"]
    assert rejected["response"].null_count() == 5
    assert sum(len(f) for name, f in built.tables.items() if name != "rejected") == 5 * 11


def test_nothing_but_failures_stops_the_build(fake_preset: presets.Preset) -> None:
    with pytest.raises(RuntimeError, match="context too long"):
        answer(fake_preset.settings(BUILDER), Recorded(fail="number"))


def test_replies_cut_at_the_token_limit_are_marked(fake_preset: presets.Preset) -> None:
    short = tuple(
        Responder(name=r.name, model=r.model, prompt=r.prompt, shots=r.shots, max_new_tokens=8)
        for r in fake_preset.settings(BUILDER).responders
    )
    built = answer(ResponsesConfig(responders=short), FakeEngine())
    replies = pl.concat(built.tables.values())
    assert replies.filter(pl.col("response").str.split(" ").list.len() > 8).is_empty()
    assert "length" in replies["finish_reason"].to_list()
    shares = built.diagnostics["responders"]
    assert shares[short[0].name]["share_cut_at_token_limit"] > 0.5


@pytest.mark.parametrize(
    ("names", "match"),
    [
        (["a", "a"], "duplicate responder 'a'"),
        (["a", "../b"], "use letters"),
        (["a", "default"], "'default': this is the name of a table of responses: give it another"),
        (["a", ""], "use letters"),
        (["a"], "at least two"),
    ],
)
def test_bad_ladders_are_refused(names: list[str], match: str) -> None:
    ladder = tuple(Responder(name=name, model="m", prompt="hhh", shots=1) for name in names)
    with pytest.raises(InputError, match=match):
        BUILDER.pins(ResponsesConfig(responders=ladder), FakeEngine())


def test_two_models_and_prompts_of_the_same_file_name_stay_apart(tmp_path: Path) -> None:
    def of(text: str) -> object:
        for folder, words in (("one", "first"), ("two", text)):
            (tmp_path / folder).mkdir(exist_ok=True)
            (tmp_path / folder / "p.txt").write_text(f"p\n\n-----\n\nHuman:  a\n\nAssistant:  {words}\n")
        ladder = tuple(
            Responder(name=name, model="m", prompt=str(tmp_path / name / "p.txt"), shots=1, max_new_tokens=9)
            for name in ("one", "two")
        )
        return BUILDER.pins(ResponsesConfig(responders=ladder), FakeEngine())

    assert len(of("second")["prompts"]) == 2  # type: ignore[index]
    assert of("second") != of("third")


def test_a_foreign_prompt_needs_a_token_limit() -> None:
    ladder = tuple(Responder(name=name, model="m", prompt="user", shots=1) for name in "ab")
    with pytest.raises(InputError, match="set max_new_tokens"):
        BUILDER.pins(ResponsesConfig(responders=ladder), FakeEngine())


def test_a_shipped_prompt_is_meant_whatever_folder_lies_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "hhh").mkdir()
    monkeypatch.chdir(tmp_path)
    config = presets.load("tiny").settings(BUILDER)
    assert "hhh" in {responder.prompt for responder in config.responders}


class Shuffled(FakeEngine):
    """Replies in any order; some fail."""

    def generate(self, requests: Iterable[Request]) -> Iterator[Reply]:
        replies = list(super().generate(requests))
        random.Random(len(replies)).shuffle(replies)
        for reply in replies:
            yield Reply.failed(reply.id, "no") if reply.id.startswith("0") else reply


@pytest.mark.parametrize(("window", "chunk", "block"), [(7, 1, 5), (13, 4, 1), (100_000, 20_000, 250_000)])
def test_rows_do_not_depend_on_parts_and_order(
    window: int, chunk: int, block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "WINDOW", window)
    monkeypatch.setattr(spool, "CHUNK", chunk)
    monkeypatch.setattr(spool, "BLOCK_ROWS", block)
    config = presets.load("almost").settings(BUILDER)
    engine = JournaledGenerator(Shuffled(), JournalSession(tmp_path / "journal"), max_failures=0.5)
    built, plain = answer(config, engine), answer(config, Plain())
    assert schema.digest(BUILDER.tables, built.tables) == schema.digest(BUILDER.tables, plain.tables)
    assert (built.ledger, built.diagnostics) == (plain.ledger, plain.diagnostics)
    for name, rows in built.tables.items():
        assert rows["row" if name == "rejected" else "query_id"].is_sorted()


class Plain(FakeEngine):
    """The same replies in their order."""

    def generate(self, requests: Iterable[Request]) -> Iterator[Reply]:
        for reply in super().generate(requests):
            yield Reply.failed(reply.id, "no") if reply.id.startswith("0") else reply


def test_requests_are_made_as_they_are_asked(fake_preset: presets.Preset) -> None:
    """Of millions of requests, no more than the engine takes at a time are in memory."""
    count = 0

    class Watching(FakeEngine):
        def generate(self, requests: Iterable[Request]) -> Iterator[Reply]:
            nonlocal count
            for done, request in enumerate(requests):
                count += 1
                assert count == done + 1
                yield from super().generate([request])

    answer(fake_preset.settings(BUILDER), Watching())
    assert count == 5 * len(QUERIES)
