"""Every natural end of a dialogue has its name, and dropped replies their reasons."""

from collections import Counter
from pathlib import Path

import pytest

from almost_data.datasets.builder import text_id
from almost_data.generation import Request
from almost_data.store.store import Store
from tests.builders.demonstrations.scripted import QUERIES, REF, Scripted, build_dialogues


def test_every_natural_end_has_its_name(tmp_path: Path) -> None:
    curly = "That\u2019s all."
    script: dict[str, dict[str, str | Exception]] = {
        "user_empty": {"3": " \n "},
        "user_repeated": {"5": f" {QUERIES[1]} "},
        "user_closing": {"3": "Great, that helps. Thank you!"},
        "user_closing (curly)": {"5": curly},
        "user_failed": {"3": OSError("context too long")},
        "no_candidate": {f"3:{sample}": "" for sample in range(3)} | {"3:3": OSError("gone")},
        "turns (asks)": {"3": "Thanks! But how often?"},
        "turns (goes on)": {"3": "Thanks. Now tell me how to prune it."},
    }
    ends = dict(zip(map(text_id, QUERIES), script, strict=True))

    def say(request: Request) -> str | Exception | None:
        query, _, turn = request.id.split(":", 2)
        if turn in script[ends[query]]:
            return script[ends[query]][turn]
        return f"And what of {request.id}?" if ":" not in turn else None

    built = build_dialogues(tmp_path, engine := Scripted(say, shuffle=1), turns=6)
    dialogues = {ends[query]: dialogue for (query, _), dialogue in built.talks.items()}
    assert {name: dialogue["end"] for name, dialogue in dialogues.items()} == {
        name: name.split(" ")[0] for name in script
    }
    assert {name: len(dialogue["messages"]) for name, dialogue in dialogues.items()} == {
        "user_empty": 2,
        "user_repeated": 4,
        "user_closing": 2,
        "user_closing (curly)": 4,
        "user_failed": 2,
        "no_candidate": 2,
        "turns (asks)": 6,
        "turns (goes on)": 6,
    }
    # Nothing is asked for a dialogue that has ended; the replies to the turn that nobody answered are kept.
    for request in engine.recorded:
        query, _, turn = request.id.split(":", 2)
        ended = len(dialogues[ends[query]]["messages"])
        assert int(turn.split(":")[0]) <= ended + 1
    lost = built.candidates.filter(query_id=text_id(QUERIES[5]), turn=3).sort("sample")
    assert lost["reason"].to_list() == ["empty", "empty", "empty", "failed"]
    assert lost["error"].to_list() == [None, None, None, "gone"]
    assert lost["response"].to_list() == ["", "", "", None]
    rejected = {
        script_name: row
        for row in built.tables["rejected"].iter_rows(named=True)
        for script_name in [ends[row["query_id"]]]
    }
    assert {name: (row["turn"], row["reason"]) for name, row in rejected.items()} == {
        "user_empty": (2, "user_empty"),
        "user_repeated": (4, "user_repeated"),
        "user_closing": (2, "user_closing"),
        "user_closing (curly)": (4, "user_closing"),
        "user_failed": (2, "failed"),
        "no_candidate": (2, "unanswered"),
    }
    assert rejected["user_closing"]["query"] == "Great, that helps. Thank you!"
    assert (rejected["user_failed"]["query"], rejected["user_failed"]["error"]) == (None, "context too long")


def test_a_conversation_without_a_candidate_is_rejected(tmp_path: Path) -> None:
    def say(request: Request) -> str | Exception | None:
        query, _, sample = request.id.rsplit(":", 2)[0].split(":")[0], 0, request.id[-1]
        if query == text_id(QUERIES[0]):
            return " "
        if query == text_id(QUERIES[1]):
            return OSError("too long")
        return OSError("one") if query == text_id(QUERIES[2]) and sample == "2" else None

    built = build_dialogues(tmp_path, Scripted(say), conversations_per_query=2)
    lost = built.tables["rejected"]
    assert lost.rows() == [
        (text_id(query), number, 0, query, "no_candidate", None)
        for query in sorted(QUERIES[:2], key=text_id)
        for number in (0, 1)
    ]
    failed = built.candidates.filter(reason="failed")
    assert len(failed) == 8 + 2 and failed["response"].null_count() == 10
    assert set(failed["error"]) == {"too long", "one"} and set(failed["finish_reason"]) == {"error"}
    entry = built.manifest.ledger[0]
    assert (entry.n_in, entry.kept, entry.failed) == (64, 54, 10)
    assert built.manifest.ledger[-1].dropped == {"no_candidate": 4}
    # A turn of which one reply is missing is not in the report.
    assert built.manifest.diagnostics["best_of_n"]["turns"] == 2 * 5


def test_nothing_but_empty_replies_leaves_an_empty_dataset(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"no row is left .*empty dropped 32 of 32"):
        build_dialogues(tmp_path, Scripted(lambda request: ""))
    manifest = Store(tmp_path).manifest(REF)
    assert sum(manifest.counts["default"].values()) == 0
    assert sum(manifest.counts["candidates"].values()) == 32


def test_the_response_checks_drop_with_their_reasons(tmp_path: Path) -> None:
    plain = build_dialogues(tmp_path)
    checked = build_dialogues(tmp_path, version="0.2.0", checks=True)
    reasons = set(checked.candidates["reason"].drop_nulls())
    assert {"too_short", "ends_open", "dont_know", "unfinished"} & reasons and "empty" not in reasons
    assert set(plain.candidates["reason"].drop_nulls()) == {"not_best"}
    reason_counts = Counter(checked.candidates["reason"].drop_nulls())
    ledger: Counter[str] = Counter()
    for entry in checked.manifest.ledger:
        ledger.update(entry.dropped)
    assert ledger == reason_counts
    assert {
        "setting": "demonstrations.checks",
        "default": False,
        "used": True,
    } in checked.manifest.diagnostics["deviations"]
    key = ["query_id", "conversation", "turn", "sample"]
    assert plain.candidates.sort(key)["response"].equals(checked.candidates.sort(key)["response"])
