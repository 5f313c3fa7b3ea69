"""A user's filter drops replies before the reward model sees them."""

from collections import Counter
from pathlib import Path

import pytest

from almost_data.builders.demonstrations.builder import BUILDER
from almost_data.datasets.builder import text_id
from almost_data.datasets.user_filters import UserFilter
from almost_data.errors import InputError
from almost_data.generation import Request
from almost_data.generation.fake import FakeEngine
from tests.builders.demonstrations.scripted import QUERIES, REF, Judge, Scripted, build_dialogues
from tests.settings import config_of, fake_tiny, with_settings

SORRY = UserFilter(
    name="sorry", description="A reply that is sorry does not answer.", drop="STARTS_WITH(response, 'Sorry')"
)


def first_sample_is_sorry(request: Request) -> str | None:
    is_reply = request.id.count(":") == 3
    return f"Sorry, not {request.id}." if is_reply and request.sample == 0 else None


def test_what_it_drops_is_kept_with_its_reason_and_is_never_scored_or_picked(tmp_path: Path) -> None:
    judge = Judge()
    build = build_dialogues(tmp_path, Scripted(first_sample_is_sorry), judge, turns=4, filters=(SORRY,))
    dropped = build.candidates.filter(reason="sorry")
    assert len(dropped) == 2 * len(QUERIES) and set(dropped["sample"]) == {0}
    assert not any(turns[-1].startswith("Sorry") for turns in judge.recorded)
    assert not any(
        message["content"].startswith("Sorry")
        for conversation in build.talks.values()
        for message in conversation["messages"]
    )
    [entry] = [entry for entry in build.manifest.ledger if entry.filter == "sorry"]
    assert (entry.stage, entry.unit, entry.source) == ("selection", "response", "user filter")
    assert entry.dropped == {"sorry": 2 * len(QUERIES)} and entry.n_in == 8 * len(QUERIES)
    assert SORRY.description in (build.store.path(REF) / "README.md").read_text("utf-8")


def test_it_comes_after_the_checks_and_sees_the_turn_that_is_answered(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("def drop(prompt, response, turn):\n    return turn == 1 and prompt.startswith('What')\n")
    of_first = UserFilter(name="mine", description="One sentence.", python=f"{file}:drop")
    queries = [*QUERIES[:2], "Which of them is the one that you like best?"]
    build = build_dialogues(
        tmp_path / "build",
        Scripted(lambda request: "" if request.id.endswith(":1:3") else None),
        queries=queries,
        filters=(of_first,),
    )
    assert {key[0] for key in build.talks} == {text_id(queries[2])}
    reasons = Counter(build.candidates["reason"].drop_nulls())
    assert (reasons["empty"], reasons["mine"]) == (3, 6)
    assert build.tables["rejected"]["reason"].to_list() == ["no_candidate"] * 2


def test_it_is_another_recipe_that_costs_no_reply(tmp_path: Path) -> None:
    first = build_dialogues(tmp_path, Scripted(first_sample_is_sorry))
    second = build_dialogues(
        tmp_path, engine := Scripted(), judge := Judge(), version="0.2.0", filters=(SORRY,)
    )
    assert (engine.recorded, judge.recorded) == ([], [])
    assert first.manifest.fingerprint != second.manifest.fingerprint


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"unit": "query"}, r"sorry: unit 'query': demonstrations filters by response"),
        ({"drop": "chosen = 'x'"}, r"sorry: no column 'chosen'; columns of a response: prompt"),
        *(
            ({"name": name}, rf"another filter is named '{name}'")
            for name in ("empty", "failed", "not_best", "too_short", "no_candidate")
        ),
    ],
)
def test_a_filter_that_cannot_be_is_refused_by_the_name_of_its_setting(
    change: dict[str, str], why: str
) -> None:
    values = {"name": SORRY.name, "description": SORRY.description, "drop": SORRY.drop, **change}
    preset = with_settings(fake_tiny(), "demonstrations", n=1, filters=(UserFilter(**values),))
    with pytest.raises(InputError, match=rf"^demonstrations\.filters.*{why}"):
        BUILDER.pins(config_of(preset, "demonstrations"), FakeEngine())
