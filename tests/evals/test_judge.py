"""The chat server behind a judge."""

import re
from typing import Any

import pytest

from almost_data.errors import InputError
from almost_data.evals import judge
from almost_data.generation import Model, Sampling
from almost_data.generation.openai import AS_SERVED
from almost_data.scoring.verdicts import TOKENS, Verdict, read, request
from tests.completions_server import CompletionsServer

KEY = "sk-proj-0123456789abcdef"


def verdicts(server: CompletionsServer, count: int = 4, **options: Any) -> dict[str, Verdict]:
    engine = judge.engine(server.url, **{"timeout": 5.0, "retries": 2, **options})
    pairs = [(f"q{n}", (f"Question {n}?", f"first {n}", f"second {n}")) for n in range(count)]
    requests = [request(name, Model("m", AS_SERVED), Sampling(TOKENS, 0.0), texts) for name, texts in pairs]
    return {reply.id: read(reply) for reply in engine.generate(requests)}


def test_a_judge_is_asked_by_chat_and_greedily(server: CompletionsServer) -> None:
    server.chat = lambda prompt: "<think>Scores: 1 1</think>\nFine.\nScores: 7 2"
    reviews = verdicts(server)
    assert {verdict.text for verdict in reviews.values()} == {"\nFine.\nScores: 7 2"}
    assert {review.scores for review in reviews.values()} == {(7, 2)}
    by_question = {re.findall(r"Question (\d)\?", body["prompt"])[0]: body for body in server.bodies}
    assert sorted(by_question) == ["0", "1", "2", "3"]
    for n, body in by_question.items():  # they come in any order
        assert (body["model"], body["temperature"], body["max_tokens"]) == ("m", 0.0, TOKENS)
        assert [message["role"] for message in body["messages"]] == ["user"]
        assert f"first {n}" in body["prompt"] and f"second {n}" in body["prompt"]


def test_a_judge_that_says_nothing_has_said_no_verdict(server: CompletionsServer) -> None:
    server.chat = lambda prompt: None
    assert {review.why for review in verdicts(server).values()} == {"no scores"}


def test_a_server_that_wants_the_other_name_of_the_limit_gets_it(server: CompletionsServer) -> None:
    server.chat = lambda prompt: "Scores: 7 2"
    server.fault = lambda prompt, attempt: "max_tokens" if attempt == 1 else None
    assert all(review.scores == (7, 2) for review in verdicts(server).values())
    assert {("max_tokens" in body, "max_completion_tokens" in body) for body in server.bodies} == {
        (True, False),
        (False, True),
    }


def test_errors_name_the_judges_flag_and_no_key(
    server: CompletionsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match=r"^eval\.judge: an address looks like"):
        judge.engine("http://u:hunter2@h/v1")
    with pytest.raises(InputError, match=r"not served at .*; served there: m"):
        judge.check(judge.engine(server.url), "gpt")
    server.key = "another"
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with pytest.raises(InputError, match=r"^eval\.judge: .*set OPENAI_API_KEY") as refused:
        judge.check(judge.engine(server.url), "m")
    assert KEY not in str(refused.value)


def test_the_one_model_of_a_server_is_the_judge(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("almost_data.generation.client.FIRST_DELAY", 0.01)
    with CompletionsServer(("only",)) as server:
        assert judge.only_model(judge.engine(server.url)) == "only"
    with CompletionsServer(("b", "a\x1b[31m")) as server, pytest.raises(InputError) as error:
        judge.only_model(judge.engine(server.url))
    assert str(error.value) == "eval.judge_model: the judge's server has 2 models: name one of: a [31m, b"
    with pytest.raises(InputError, match=r"eval\.judge: 127"):
        judge.only_model(judge.engine(server.url))
