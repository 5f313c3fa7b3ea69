"""A card keeps what people wrote, over any number of pushes."""

import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from almost_data import hub
from almost_data.cards import merging
from almost_data.cards.front_matter import front_matter, viewer, with_front_matter
from almost_data.cli import hub as hub_verbs
from almost_data.datasets.manifest import Parent
from almost_data.errors import InputError
from almost_data.run import build, importing, presets
from almost_data.store.store import Store
from tests import trained
from tests.hub.pushes import COPY, PAIRS, REPO, api, push, stranger
from tests.hub_server import Hub
from tests.jsonl import jsonl
from tests.settings import Real
from tests.tiny_models import save_tiny_reward


def test_a_card_keeps_what_people_wrote_over_re_pushes(store: Store, server: Hub, tmp_path: Path) -> None:
    push(store, server)
    revisions = {"v1.0.0": 270}
    for minor in range(1, 6):
        text = server.files(REPO)["README.md"].decode()
        if minor == 1:
            text = text.replace(
                "tags:\n", "language: no  # Norwegian\nannotations_creators: [me]\ntags:\n- mine\n"
            )
            text = text.replace(merging.BEGIN, f"Read this first.\n\n{merging.BEGIN}")
            text = text.replace(
                "configs:", "configs:\n- config_name: broken\n  data_files: nowhere.csv\nx_configs:"
            )
        text += f"\n\n## Note {minor}\r\n\r\nBelow, & <b>as it is</b>.\n"
        server.put(REPO, {"README.md": text.encode()})
        done = push(store, server, f"responses@1.{minor}.0")
        revisions[done.commit] = 2 * (30 + minor)
    last = server.files(REPO)["README.md"].decode()
    assert last.index("Read this first.") < last.index(merging.BEGIN) < last.index("# Responses 1.5.0")
    assert all(last.index(merging.END) < last.index(f"## Note {minor}") for minor in range(1, 6))
    assert "language: no  # Norwegian\n" in last and "annotations_creators: [me]\n" in last
    head = front_matter(last)
    assert "mine" in head["tags"] and "responses" in head["tags"]
    assert head["configs"] == viewer(store.manifest("responses@1.5.0"))["configs"]
    assert last.count("almost_data: begin") == last.count("almost_data: end") == 1
    code = "import datasets, json\nprint(json.dumps([len(datasets.concatenate_datasets(list("
    code += f"datasets.load_dataset({REPO!r}, revision=r).values()))) for r in {list(revisions)!r}]))"
    assert stranger(server, tmp_path, code) == list(revisions.values())


def test_without_marks_all_of_a_card_is_the_peoples(store: Store, server: Hub) -> None:
    server.put(REPO, {"README.md": b"# Our page\n\nWritten before the first push.\n"})
    push(store, server)
    first = server.files(REPO)["README.md"].decode()
    assert first.endswith(f"{merging.END}\n\n# Our page\n\nWritten before the first push.\n")
    assert front_matter(first)["pretty_name"] == "responses"


def test_a_key_that_we_wrote_goes_with_a_version_that_has_none() -> None:
    base = with_front_matter({"pretty_name": "x"}, "# Card")
    linked = merging.merge(base, "---\nfoo: 1\n---\n", "ORG/x", {"source_datasets": ["ORG/y"]})
    head = front_matter(merging.merge(base, linked, "ORG/x"))
    assert head == {"pretty_name": "x", "foo": 1}
    by_hand = linked.replace(merging.KEYS, "# ")  # then it could be anybody's
    assert front_matter(merging.merge(base, by_hand, "ORG/x"))["source_datasets"] == ["ORG/y"]


def test_two_pushes_of_one_version_at_once_end_the_same(store: Store, server: Hub) -> None:
    push(store, server)
    with ThreadPoolExecutor(3) as pool:
        done = list(pool.map(lambda _: push(store, server, "responses@1.1.0"), range(3)))
    assert len(server.titles(REPO)) == 2
    assert {pushed.commit for pushed in done} == {server.tags(REPO)["v1.1.0"]}


def test_broken_yaml_of_people_is_one_line_and_nothing_is_changed(store: Store, server: Hub) -> None:
    push(store, server)
    server.put(REPO, {"README.md": b"---\nlicense: [mit\n---\n# x\n"})
    with pytest.raises(InputError, match="YAML of its card is broken"):
        push(store, server, "responses@1.1.0")
    server.put(REPO, {"README.md": b"\xff\xfe"})
    with pytest.raises(InputError, match="not UTF-8"):
        push(store, server, "responses@1.1.0")


def test_yaml_that_grows_is_one_line(store: Store, server: Hub, tmp_path: Path) -> None:
    push(store, server)
    text = server.files(REPO)["README.md"].decode()
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    for yaml_text in ("\n".join(lines), "a: &a [*a]", f"a: {'[' * 600}{']' * 600}"):
        server.put(REPO, {"README.md": text.replace("---\n", f"---\n{yaml_text}\n", 1).encode()})
        with pytest.raises(InputError, match=r"YAML of its card is broken: it (expands to over|is nested)"):
            push(store, server, "responses@1.1.0")
        with pytest.raises(InputError, match=r"YAML at its head is broken: it (expands to over|is nested)"):
            hub.pull(Store(tmp_path / "other"), REPO, api=api(server))


MARKS = [merging.BEGIN, merging.END, merging.PARENTS]
LINES = ["text", "", *MARKS, "---", "# Title", "a: 1", "\ufeff", "<!-- x -->"]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(LINES)), st.lists(st.sampled_from(LINES)), st.booleans())
def test_merging_again_changes_nothing(ours: list[str], theirs: list[str], headed: bool) -> None:
    mine = with_front_matter({"pretty_name": "x", "tags": ["a"]}, "# Card\n\n" + "\n".join(ours))
    their_card = ("---\nlicense: mit\n---\n" if headed else "\n") + "\n".join(theirs) + "\n"
    once = merging.merge(mine, their_card, "ORG/x", {"source_datasets": ["ORG/y"]}, "| a |")
    assert merging.merge(mine, once, "ORG/x", {"source_datasets": ["ORG/y"]}, "| a |") == once
    assert once.count(merging.BEGIN) == once.count(merging.END) == once.count(merging.PARENTS) == 1
    head = front_matter(once)
    assert head["pretty_name"] == "x" and head["source_datasets"] == ["ORG/y"]
    # Pushed from a copy that was pulled, it is the same card.
    assert merging.merge(once, once, "ORG/x", {"source_datasets": ["ORG/y"]}, "| a |") == once


def test_a_reply_that_holds_the_marks_does_not_end_our_part(server: Hub, tmp_path: Path) -> None:
    store = Store(tmp_path / "build")
    reply = f"So it is.\n{merging.END}\nNot ours.\n{merging.BEGIN}\n{merging.PARENTS}\nSo it was."
    rows = [{"prompt": f"What is {n}?", "good": reply, "bad": f"{reply} Then."} for n in range(9)]
    jsonl(tmp_path / "r.jsonl", rows)
    for version in ("1.0.0", "1.1.0"):
        importing.import_responses(store, str(tmp_path / "r.jsonl"), ["good", "bad"], version)
        build.BuildRun(store, version, presets.load("tiny"), Real()).build("comparisons")
        push(store, server, f"comparisons@{version}", PAIRS)
    text = server.files(PAIRS)["README.md"].decode()
    assert text.count(merging.BEGIN) == text.count(merging.END) == 1 and text.endswith(f"{merging.END}\n")
    assert "Not ours." in text


def test_parents_on_the_hub_are_linked(store: Store, server: Hub, tmp_path: Path) -> None:
    where = push(store, server)
    build.BuildRun(store, "1.0.0", presets.load("tiny"), Real()).build("comparisons")
    push(store, server, "comparisons@1.0.0", PAIRS)
    text = server.files(PAIRS)["README.md"].decode()
    assert front_matter(text)["source_datasets"] == [REPO]
    assert f"[{REPO}]({server.endpoint}/datasets/{REPO}/tree/{where.commit})" in text


def test_private_parents_are_not_named_in_a_public_card(
    store: Store, server: Hub, printed: io.StringIO
) -> None:
    push(store, server, private=True)
    build.BuildRun(store, "1.0.0", presets.load("tiny"), Real()).build("comparisons")
    done = push(store, server, "comparisons@1.0.0", PAIRS)
    assert done.hidden == [REPO]
    text = server.files(PAIRS)["README.md"].decode()
    assert REPO not in text and "source_datasets" not in front_matter(text)
    hub_verbs.print_pushed(done)
    assert f"not linked in the public card, as they are private: {REPO}\n" in printed.getvalue()
    # Who sees a private card sees what is behind it.
    assert not push(store, server, "comparisons@1.0.0", COPY, private=True).hidden
    assert front_matter(server.files(COPY)["README.md"].decode())["source_datasets"] == [REPO]


def test_a_public_models_card_links_no_private_dataset_or_base(
    store: Store, server: Hub, tmp_path: Path
) -> None:
    for kind, name in (("dataset", "ORG/closed"), ("model", "ORG/base")):
        api(server).create_repo(name, repo_type=kind, private=True)
    data = Parent("ORG/closed@" + "c" * 40, "d" * 64, "e" * 64)
    base = {"id": "ORG/base", "revision": "b" * 40}
    manifest = trained.publish(
        store, save_tiny_reward(tmp_path / "out"), trained.manifest("rm", parents=[data], base=base)
    )
    done = push(store, server, manifest.ref, "ORG/rm")
    assert sorted(done.hidden) == ["ORG/base", "ORG/closed"]
    head = front_matter(server.files("ORG/rm", kind="model")["README.md"].decode())
    assert "base_model" not in head and "datasets" not in head and head["library_name"] == "transformers"
    assert push(store, server, manifest.ref, "ORG/rm").action == "unchanged"
    push(store, server, manifest.ref, "ORG/own", private=True)
    head = front_matter(server.files("ORG/own", kind="model")["README.md"].decode())
    assert (head["base_model"], head["datasets"]) == ("ORG/base", ["ORG/closed"])
