"""A model under test is found by what its files say that it is."""

import logging
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from almost_data.datasets.builder import Progress, silent
from almost_data.datasets.records import Pinned
from almost_data.errors import InputError
from almost_data.evals import likelihood, preference, static_hhh, subject, truthfulqa
from almost_data.evals.evaluation import EvalSession, Evaluation
from almost_data.generation import CannotStart
from almost_data.generation.journal_file import count
from almost_data.scoring import Dialogue
from almost_data.store.store import Store
from tests import trained
from tests.evals.known import evaluated, hhh, judged, questions
from tests.jsonl import jsonl
from tests.tiny_models import save_tiny, save_tiny_reward
from tests.training.rows import pair

DIALOGUES = [Dialogue.of("a", "Why?", "Because."), Dialogue.of("b", "Why?", "So it is.")]


def session(store: Store, progress: Progress = silent) -> EvalSession:
    evaluation = Evaluation("t", 1, object, lambda *_: pytest.fail("nothing is planned"), "Made up.")
    return EvalSession(store, evaluation, progress)


def test_a_reward_model_of_a_folder_and_of_the_store(store: Store, tmp_path: Path) -> None:
    folder = save_tiny_reward(tmp_path / "out")
    manifest = trained.publish(store, folder, trained.manifest("rm"))
    by_folder, by_ref = subject.find(store, str(folder)), subject.find(store, "rm@0.1.0")
    assert (by_folder.kind, by_ref.kind) == ("reward", "reward")
    assert by_ref.pinned == Pinned("rm@0.1.0", manifest.digest[:16]) and by_ref.manifest == manifest
    assert by_folder.pinned.id == "out" and str(tmp_path) not in str(by_folder.pinned)
    scores, same_scores = (session(store).scores(at, DIALOGUES) for at in (by_folder, by_ref))
    assert scores == pytest.approx(same_scores, abs=1e-4) and set(scores) == {"a", "b"}


def test_scores_are_kept(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = save_tiny(tmp_path / "lm")
    first = session(store).scores(subject.find(store, str(folder)), DIALOGUES)
    assert count(store.journal, "score") == 2
    monkeypatch.setattr(likelihood, "harness", lambda *arguments: pytest.fail("it was asked again"))
    reports: list[tuple[str, int, int, int]] = []
    again = subject.find(store, str(folder))
    assert session(store, lambda *report: reports.append(report)).scores(again, DIALOGUES) == first
    assert reports[-1][:3] == ("t, lm", 2, 2) and again.scorer.settings() == {}


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_a_language_model_gives_the_log_probability_of_what_follows(
    store: Store, tmp_path: Path, kind: str
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = save_tiny(tmp_path / "lm", kind)
    language_model = subject.find(store, str(folder))
    assert language_model.kind == "language"
    scores = session(store).scores(language_model, DIALOGUES)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    for dialogue in DIALOGUES:
        before, whole = (
            tokenizer(text)["input_ids"] for text in (dialogue.turns[0], "".join(dialogue.turns))
        )
        with torch.no_grad():
            logs = model(torch.tensor([whole])).logits[0].log_softmax(-1)
        want = sum(float(logs[at - 1, whole[at]]) for at in range(len(before), len(whole)))
        assert scores[dialogue.id] == pytest.approx(want, abs=1e-2)
    assert language_model.scorer.settings() == {"device": "cpu", "dtype": "float32"}


def test_what_is_longer_than_the_model_reads_is_cut(
    store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The library's own word of each such text is not told."""
    levels = logging.getLogger("lm_eval").level, logging.getLogger().level
    language_model = subject.find(store, str(save_tiny(tmp_path / "lm")))
    long = [Dialogue.of("reply", "Why?", " so it is" * 900), Dialogue.of("prompt", "Why? " * 900, " So.")]
    assert all(math.isfinite(value) for value in session(store).scores(language_model, long).values())
    assert "Combined length" not in caplog.text
    assert levels == (logging.getLogger("lm_eval").level, logging.getLogger().level)


def test_what_was_cut_is_counted_from_the_journal_too(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last token is asked for and not read: one more than the limit is read whole."""
    from transformers import AutoTokenizer

    folder = save_tiny(tmp_path / "lm")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    dialogues = [Dialogue.of(f"{n}", "z" * n, " So.") for n in range(20, 60)]
    tokens = [len(tokenizer("".join(dialogue.turns))["input_ids"]) for dialogue in dialogues]
    talks = [dialogues[tokens.index(n)] for n in (40, 41, 42, 43)]
    notes_of_runs: list[list[str]] = []
    for _ in range(2):
        language_model = subject.find(store, str(folder), max_tokens=40)
        (run := session(store)).scores(language_model, talks)
        notes_of_runs.append(run.notes)
        monkeypatch.setattr(likelihood, "harness", lambda *arguments: pytest.fail("it was asked again"))
    note = "2 of 4 texts were longer than lm reads, 40 tokens at most, and were not read whole."
    assert notes_of_runs == [[note]] * 2
    (run := session(store)).scores(language_model, talks[:2])
    assert run.notes == []


def test_a_models_own_context_is_the_limit_where_it_is_less(store: Store, tmp_path: Path) -> None:
    for kind, context in (("llama", 256), ("bloom", subject.CONTEXT)):  # which has no such limit
        folder = str(save_tiny(tmp_path / kind, kind))
        for limit, read in ((None, context), (8, 8)):
            assert subject.find(store, folder, max_tokens=limit).reading["max_tokens"] == read
    (tmp_path / "bloom" / "config.json").write_text('{"architectures": ["XForCausalLM"]}')
    broken = subject.find(store, folder)
    with pytest.raises(CannotStart, match="bloom cannot be loaded: ValueError"):
        session(store).scores(broken, DIALOGUES)


def test_every_benchmark_tells_what_was_cut(store: Store, tmp_path: Path) -> None:
    lm = subject.find(store, str(save_tiny(tmp_path / "lm")), max_tokens=24)
    rm = subject.find(store, str(save_tiny_reward(tmp_path / "rm")), max_tokens=24)
    data = str(hhh(tmp_path / "hhh", 1))
    questions_file = str(questions(tmp_path / "q.jsonl", 2, 3))
    rows = [pair(0, "z" * 400, "It is."), pair(1, "So it is.", "It is.")]
    jsonl(file := tmp_path / "rows.jsonl", rows)
    for result, share, who in (
        (judged(static_hhh, store, lm, data), "16 of 16", "lm"),
        (judged(static_hhh, store, rm, data), "8 of 8", "rm"),
        (judged(truthfulqa, store, lm, questions_file), "12 of 12", "lm"),
        (judged(truthfulqa, store, rm, questions_file), "6 of 6", "rm"),
        (
            evaluated(preference.EVALUATION, store, model=str(tmp_path / "rm"), dataset=str(file)),
            "1 of 4",
            "rm",
        ),
        (
            evaluated(preference.EVALUATION, store, model=str(tmp_path / "lm"), dataset=str(file)),
            "1 of 4",
            "lm",
        ),
    ):
        [note] = [note for note in result.notes if "tokens at most" in note]
        assert note.startswith(f"{share} texts were longer than {who} reads, "), result.task


def test_a_context_is_the_templates_or_the_papers(store: Store, tmp_path: Path) -> None:
    messages = [{"role": "user", "content": " Why? "}]
    plain: Any = subject.find(store, str(save_tiny(tmp_path / "plain"))).scorer
    assert (
        plain.context(messages) == "Human: Why?\n\nAssistant:" and plain.after("Assistant:", "So.") == " So."
    )
    folder = save_tiny(tmp_path / "chat")
    template = "{% for m in messages %}<{{ m.role }}>{{ m.content }}\n{% endfor %}"
    template += "{% if add_generation_prompt %}<it>\n{% endif %}"
    (folder / "chat_template.jinja").write_text(template)
    chat: Any = subject.find(store, str(folder)).scorer
    assert chat.context(messages) == "<user> Why? \n<it>\n" and chat.after("<it>\n", "So.") == "So."


def test_a_baseline_and_a_fake_one(store: Store) -> None:
    longest = subject.find(store, "baseline:longest")
    assert longest.kind == "reward" and longest.manifest is longest.folder is None
    assert session(store).scores(longest, DIALOGUES) == {"a": 8.0, "b": 9.0}
    assert subject.find(store, "fake/one").pinned.is_fake and not longest.pinned.is_fake


def test_a_model_that_fake_text_taught_is_fake(store: Store, tmp_path: Path) -> None:
    diagnostics = {"models": [{"id": "fake/writer", "revision": "1"}]}
    trained.publish_reward(store, tmp_path / "out", "rm", diagnostics=diagnostics)
    assert subject.find(store, "rm@0.1.0").pinned.is_fake


@pytest.mark.parametrize(
    "config", [None, "{", "[]", "{}", '{"architectures": []}', '{"architectures": ["BertModel"]}']
)
def test_what_is_neither_is_one_line(store: Store, tmp_path: Path, config: str | None) -> None:
    folder = save_tiny(tmp_path / "lm")
    (folder / "config.json").unlink()
    if config is not None:
        (folder / "config.json").write_text(config)
    with pytest.raises(InputError) as error:
        subject.find(store, str(folder))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "name", ["", "rm@0.1.0", "no/such/folder", "baseline:best", "pypi:nothing", "fake/", "rm@x", "nothing"]
)
def test_what_is_not_there_is_one_line(store: Store, name: str) -> None:
    with pytest.raises(InputError) as error:
        subject.find(store, name)
    assert "\n" not in str(error.value)
