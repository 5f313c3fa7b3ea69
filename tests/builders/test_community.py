import itertools
import json
import random
from html import escape
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from almost_data.builders.community import rows as community_rows
from almost_data.builders.community.builder import BUILDER, CommunityConfig, build
from almost_data.datasets import digest
from almost_data.datasets.builder import Built, silent, text_id
from almost_data.datasets.digest import frames
from almost_data.datasets.ledger import check_ledger
from almost_data.errors import InputError
from almost_data.generation.fake import FakeEngine
from almost_data.readers.stackexchange import vote_score
from almost_data.run import presets
from almost_data.run.build import BuildRun
from almost_data.run.plan import Step
from almost_data.store.diff import diff
from almost_data.store.store import Store
from almost_data.store.verify import verify
from tests import schema
from tests.command import run as cli
from tests.schema import frame

SITE = "plants.example"
Rows = list[dict[str, Any]]


def question(number: int, **values: object) -> dict[str, object]:
    return {
        "Id": number,
        "PostTypeId": 1,
        "Score": 1,
        "Title": f"Why {number}?",
        "Body": f"<p>Q {number}</p>",
    } | values


def answer(number: int, to: int, votes: int, **values: object) -> dict[str, object]:
    return {
        "Id": number,
        "PostTypeId": 2,
        "ParentId": to,
        "Score": votes,
        "Body": f"<p>A {number}</p>",
    } | values


def write(folder: Path, posts: Rows, name: str = "Posts.xml") -> str:
    lines = [" ".join(f'{key}="{escape(str(value))}"' for key, value in post.items()) for post in posts]
    body = "".join(f"<row {line} />\n" for line in lines)
    (folder / name).write_text(f'<?xml version="1.0" encoding="utf-8"?>\n<posts>\n{body}</posts>', "utf-8")
    return str(folder / name)


def build_posts(folder: Path, posts: Rows, **settings: Any) -> Built:
    config = CommunityConfig(source=write(folder, posts), site=SITE, **settings)
    built = build(config, {}, FakeEngine(), silent)
    check_ledger(built.ledger)
    return built


def rows(built: Built, table: str = "default") -> pl.DataFrame:
    tables = list(frames(built.tables[table])) if table in built.tables else []
    return pl.concat([frame("community", table, []), *tables])


def reasons(built: Built, table: str) -> dict[str, str]:
    return dict(rows(built, table).select(schema.TABLES["community"][table].key[1], "reason").iter_rows())


def same(first: Built, second: Built) -> bool:
    assert first.ledger == second.ledger and first.diagnostics == second.diagnostics
    return all(rows(first, name).equals(rows(second, name)) for name in {*first.tables, *second.tables})


def crowd(questions: int, answers: int, seed: int = 0) -> Rows:
    rng = random.Random(seed)
    posts: Rows = [question(n, AcceptedAnswerId=1000 * n + 1) for n in range(1, questions + 1)]
    for n, k in itertools.product(range(1, questions + 1), range(answers)):
        posts.append(answer(1000 * n + k, n, rng.randint(-3, 40), OwnerUserId=k))
    return posts


def test_columns_of_a_comparison(tmp_path: Path) -> None:
    dates = {"CreationDate": "2012-01-01T00:00:00.000"}
    posts = [
        question(1, Title=" Why\n not? ", Body="<p>It is <em>so</em>.</p>", OwnerUserId=3, **dates),
        answer(7, 1, 1, OwnerDisplayName="Ada", ContentLicense="CC BY-SA 4.0"),
        answer(8, 1, 9, Body="<pre><code>x\n</code></pre>", OwnerUserId=5, **dates),
    ]
    built = build_posts(tmp_path, posts)
    (row,) = rows(built).to_dicts()
    assert row == {
        "prompt": [{"role": "user", "content": "Why not?\n\nIt is *so*."}],
        "chosen": [{"role": "assistant", "content": "```\nx\n```"}],
        "rejected": [{"role": "assistant", "content": "A 7"}],
        "comparison_id": f"{SITE}/8-7",
        "query_id": text_id("Why not?\n\nIt is *so*."),
        "chosen_score": 3,
        "rejected_score": 1,
        "question_url": f"https://{SITE}/questions/1",
        "chosen_url": f"https://{SITE}/a/8",
        "rejected_url": f"https://{SITE}/a/7",
        "question_author": f"https://{SITE}/users/3",
        "chosen_author": f"https://{SITE}/users/5",
        "rejected_author": "Ada",
        "question_license": "CC BY-SA 3.0",
        "chosen_license": "CC BY-SA 3.0",
        "rejected_license": "CC BY-SA 4.0",
    }
    assert built.diagnostics["license"] == "cc-by-sa-4.0"
    assert set(built.tables) == {"default"}


@pytest.mark.parametrize(
    ("votes", "accepted", "chosen"),
    [
        ((0, 1), None, 8),
        ((1, 2), None, 8),  # log2(3) = 1.58 is nearer to 2
        ((3, 4), None, None),  # 2 and 2.32
        ((4, 5), None, 8),  # 2.32 and 2.58
        ((0, -1), None, 7),
        ((-5, -1), None, None),
        ((-5, 0), 7, None),  # -1 + 1 = 0
        ((-5, 0), 8, 8),
        ((0, 0), 7, 7),
        ((1, 0), 8, None),  # 1 against 0 + 1
        ((10**15, 10**15), 8, 8),
    ],
)
def test_the_better_score_is_chosen_and_the_same_score_is_no_pair(
    tmp_path: Path, votes: tuple[int, int], accepted: int | None, chosen: int | None
) -> None:
    accepted_field = {} if accepted is None else {"AcceptedAnswerId": accepted}
    # A second question, so that there is always a comparison.
    posts = [question(1, **accepted_field), answer(7, 1, votes[0]), answer(8, 1, votes[1])]
    posts += [question(2), answer(17, 2, 0), answer(18, 2, 9)]
    built = build_posts(tmp_path, posts)
    ids = {row["comparison_id"] for row in rows(built).to_dicts()}
    expected = {None: set(), 7: {f"{SITE}/7-8"}, 8: {f"{SITE}/8-7"}}[chosen]
    assert ids == {f"{SITE}/18-17"} | expected
    assert reasons(built, "rejected") == ({} if chosen else {f"{SITE}/7-8": "equal_score"})


def test_every_row_is_accounted_for_with_its_reason(tmp_path: Path) -> None:
    deep = "<div>" * 200 + "x"
    posts = [
        *(question(1), answer(11, 1, 5), answer(12, 1, 0), answer(13, 1, 5, Body=" ")),
        *(question(2), answer(21, 2, 5)),
        *(question(3, Title="", Body=" \n"), answer(31, 3, 5), answer(32, 3, 0)),
        *(question(4, Title="Why 1?", Body="<p>Q 1</p>"), answer(41, 4, 5), answer(42, 4, 0)),
        *(question(5), answer(51, 5, 5, Body="<img src='x'>"), answer(52, 5, 0)),
        *(question(6), answer(61, 6, 5, Body="same"), answer(62, 6, 0, Body="<p>same</p>")),
        *(question(7), answer(71, 7, 5, Body=deep), answer(72, 7, 0)),
        *(question(8), answer(81, 8, 5), answer(82, 8, 5)),
        *(answer(91, 99, 5), answer(92, 11, 5)),
        {"Id": 100, "PostTypeId": 4, "Body": "a tag's wiki"},
    ]
    built = build_posts(tmp_path, posts)
    assert rows(built)["comparison_id"].to_list() == [f"{SITE}/11-12"]
    ask, reply = f"https://{SITE}/questions/", f"https://{SITE}/a/"
    assert reasons(built, "rejected_queries") == {f"{ask}2": "few_answers", f"{ask}3": "empty_question"}
    assert reasons(built, "rejected_responses") == {
        **{f"{reply}{n}": "no_question" for n in (31, 32, 91, 92)},
        f"{reply}13": "empty_answer",
        f"{reply}21": "only_answer",
    }
    assert reasons(built, "rejected") == {
        f"{SITE}/41-42": "duplicate_query",
        f"{SITE}/51-52": "empty_text",
        f"{SITE}/61-62": "same_text",
        f"{SITE}/71-72": "unreadable",
        f"{SITE}/81-82": "equal_score",
    }
    first = {
        unit: next(e.n_in for e in built.ledger if e.unit == unit) for unit in ("query", "response", "pair")
    }
    assert first == {"query": 8, "response": 18, "pair": 6}


def test_nothing_depends_on_the_order_of_the_source(tmp_path: Path) -> None:
    posts = crowd(12, 9)
    settings = {"pairs_per_question": 3, "sample": 20, "answers_per_question": 6}
    first = build_posts(tmp_path, posts, **settings)
    for seed in range(3):
        random.Random(seed).shuffle(posts)
        again = build_posts(tmp_path, posts, **settings)
        assert same(first, again)
    reseeded = build_posts(tmp_path, posts, **settings, seed=1)
    assert not rows(reseeded).equals(rows(first))


def test_of_many_sites_the_first_by_name_has_a_query(tmp_path: Path) -> None:
    answers = [{"answer_id": n, "pm_score": n, "text": f"A {n}"} for n in (2, 3, 4)]
    lines = [
        {
            "qid": 1,
            "question": f"Q {k}",
            "answers": answers,
            "metadata": [f"https://{site}.example/questions/1"],
        }
        for k, site in enumerate("gbfaced")
    ]
    lines += [
        row | {"qid": 9, "answers": [a | {"answer_id": a["answer_id"] + 10} for a in answers]}
        for row in lines
    ]
    first = None
    for seed in range(4):
        random.Random(seed).shuffle(lines)
        (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, lines)))
        config = CommunityConfig(source=str(tmp_path / "a.jsonl"), pairs_per_question=2, sample=10)
        built = build(config, {}, FakeEngine(), silent)
        first = first or built
        assert same(first, built)
    rejected = rows(first, "rejected").filter(reason="duplicate_query")
    assert len(rejected) and set(rejected["question_url"].str.extract(r"/(\d+)$")) == {"9"}
    assert first.diagnostics["sites"] == [f"{site}.example" for site in "abcdefg"]
    assert first.diagnostics["licenses"][0]["license"] == "unknown"


@pytest.mark.parametrize("bound", [1, 3, None])
@pytest.mark.parametrize("sample", [1, 10, None])
def test_bounds_hold_and_none_keeps_all(tmp_path: Path, bound: int | None, sample: int | None) -> None:
    posts = crowd(8, 7)
    built = build_posts(tmp_path, posts, pairs_per_question=bound, sample=sample)
    kept = rows(built)
    accepted = {post["AcceptedAnswerId"] for post in posts if "AcceptedAnswerId" in post}
    scores = {
        post["Id"]: vote_score(post["Score"]) + (post["Id"] in accepted)
        for post in posts
        if "ParentId" in post
    }
    pairs = {
        f"{SITE}/{a}-{b}"
        for a, b in itertools.permutations(scores, 2)
        if a // 1000 == b // 1000 and scores[a] > scores[b]
    }
    assert set(kept["comparison_id"]) <= pairs
    per_question = kept["question_url"].value_counts()["count"]
    assert bound is None or per_question.max() <= bound  # type: ignore[operator]
    bounded = sum(
        min(bound or 99, sum(pair.startswith(f"{SITE}/{n}0") for pair in pairs)) for n in range(1, 9)
    )
    assert len(kept) == min(bounded, sample or bounded)
    if bound is None and sample is None:
        assert set(kept["comparison_id"]) == pairs


def test_a_question_with_many_answers_is_bounded_before_it_is_paired(tmp_path: Path) -> None:
    posts = [question(1), *(answer(n, 1, n) for n in range(10, 3010))]
    built = build_posts(tmp_path, posts, answers_per_question=5)
    (dropped,) = [entry.dropped for entry in built.ledger if entry.filter == "over_answers"]
    assert dropped == {"over_answers": 2995}
    assert next(entry.n_in for entry in built.ledger if entry.unit == "pair") == 10


def test_the_sample_is_fair_to_questions_with_many_pairs(tmp_path: Path) -> None:
    # If the bound's draw made the sample too, the 40 questions with 36 pairs would fill it.
    posts = [question(n) for n in range(1, 81)]
    for n in range(1, 81):
        posts += [answer(1000 * n + k, n, 2**k) for k in range(9 if n <= 40 else 2)]
    kept = rows(build_posts(tmp_path, posts, pairs_per_question=1, sample=40))
    crowded = sum(int(url.rpartition("/")[2]) <= 40 for url in kept["question_url"])
    assert 10 <= crowded <= 30


def test_two_posts_of_one_id_are_refused(tmp_path: Path) -> None:
    for posts in (
        [question(1), question(1)],
        [question(1), answer(1, 1, 2)],
        [answer(2, 1, 0), answer(2, 1, 0)],
    ):
        with pytest.raises(InputError, match=r"Posts\.xml: two posts of plants\.example have the id [12]"):
            build_posts(tmp_path, posts)


def test_a_source_without_a_post_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"Posts\.xml: it has no posts"):
        build_posts(tmp_path, [])


@pytest.mark.parametrize("posts", [[question(1)], [question(1), answer(2, 1, 1), answer(3, 1, 1)]])
def test_a_source_without_a_pair_keeps_what_was_dropped(tmp_path: Path, posts: Rows) -> None:
    built = build_posts(tmp_path, posts)
    assert "default" not in built.tables and built.tables


def test_a_source_that_changes_meanwhile_is_refused(tmp_path: Path) -> None:
    file = write(tmp_path, crowd(3, 3))

    def meddle(stage: str, done: int, total: int, tokens: int) -> None:
        if stage == "votes" and done == total:
            write(tmp_path, crowd(1, 2))

    with pytest.raises(InputError, match="changed while it was read"):
        build(CommunityConfig(source=file, site=SITE), {}, FakeEngine(), meddle)


def test_licences_that_are_no_cc_by_sa_are_said(tmp_path: Path) -> None:
    posts = [question(1), answer(2, 1, 0, ContentLicense="All rights reserved"), answer(3, 1, 5)]
    diagnostics = build_posts(tmp_path, posts).diagnostics
    assert diagnostics["license"] == "other"
    assert {row["license"]: row["count"] for row in diagnostics["licenses"]} == {
        "All rights reserved": 1,
        "unknown": 2,
    }


def test_pins_name_the_source_by_its_content(tmp_path: Path) -> None:
    file = write(tmp_path, crowd(2, 2))
    first = BUILDER.pins(CommunityConfig(source=file, site=SITE), FakeEngine())
    assert first["file"]["name"] == "Posts.xml" and first["site"] == SITE
    write(tmp_path, crowd(2, 3))
    assert BUILDER.pins(CommunityConfig(source=file, site=SITE), FakeEngine()) != first
    with pytest.raises(InputError, match=r"community\.source: give Posts\.xml"):
        BUILDER.pins(CommunityConfig(), FakeEngine())
    with pytest.raises(InputError, match=r"community\.site=HOST"):
        BUILDER.pins(CommunityConfig(source=file), FakeEngine())


def run(store: Store, version: str, **settings: Any) -> list[Step]:
    preset = presets.load("tiny").with_config("community", CommunityConfig(site=SITE, **settings))
    return BuildRun(store, version, preset, FakeEngine()).build(BUILDER)


def test_it_is_an_artifact_like_any_other(tmp_path: Path) -> None:
    import datasets

    hostile = "<p>![x](https://t.example/i.png) | <b>&lt;script&gt;</b></p>\n" + "`" * 5 + "\n# Not a heading"
    posts = crowd(40, 4)
    for post in posts[:40]:
        post |= {"Body": hostile + f"<p>{post['Id']}</p>", "OwnerDisplayName": "[Eve](javascript:x) | `"}
    store, file = Store(tmp_path / "build"), write(tmp_path, posts)
    (step,) = run(store, "1.0.0", source=file)
    assert step.action == "build" and verify(store, "community@1.0.0") == []
    assert [planned_step.action for planned_step in run(store, "1.0.0", source=file)] == ["reuse"]
    assert str(tmp_path) not in (store.path("community@1.0.0") / "manifest.json").read_text("utf-8")
    with pytest.raises(InputError, match=r"pairs_per_question: 4 -> 2.*choose another version"):
        run(store, "1.0.0", source=file, pairs_per_question=2)
    card = (store.path("community@1.0.0") / "README.md").read_text("utf-8")
    head = card.split("---\n")[1]
    assert "license: cc-by-sa-4.0" in head and "synthetic" not in head
    assert "# Not a heading" not in [line for line in card.splitlines() if line.startswith("# ")]
    loaded = datasets.load_dataset(str(store.path("community@1.0.0")))
    assert {split: len(rows) for split, rows in loaded.items()} == step.manifest.counts["default"]


def test_large_tables_are_named_block_by_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, file = Store(tmp_path / "build"), write(tmp_path, crowd(40, 6))
    (whole,) = run(store, "1.0.0", source=file)
    for module in (community_rows, digest):
        monkeypatch.setattr(module, "RANGE_ROWS", 7)
    built = build_posts(tmp_path, crowd(40, 6))
    blocks = list(frames(built.tables["rejected"]))
    assert len(blocks) > 10 and all(len(block) < 7 + 15 for block in blocks)
    assert schema.digest(BUILDER.tables, built.tables) == whole.manifest.digest
    assert verify(store, "community@1.0.0") == []


def test_diff_says_why_a_comparison_is_gone(tmp_path: Path) -> None:
    store, file = Store(tmp_path / "build"), write(tmp_path, crowd(30, 4))
    run(store, "1.0.0", source=file)
    run(store, "2.0.0", source=file, sample=10)
    difference = diff(store, "community@1.0.0", "community@2.0.0")
    assert difference.reasons == [("not_sampled", difference.lost, 0)] and difference.lost


def test_splits_share_no_question(tmp_path: Path) -> None:
    store = Store(tmp_path / "build")
    run(store, "1.0.0", source=write(tmp_path, crowd(150, 4)))
    urls = [set(store.scan("community@1.0.0", split=s).collect()["question_url"]) for s in ("train", "test")]
    assert all(urls) and not urls[0] & urls[1]


def test_the_command_line_builds_it_and_no_engine_starts(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    write(tmp_path / "in", crowd(20, 3))
    command = ("build", "community", "--source", "in/Posts.xml", "--set", f"community.site={SITE}")
    first = cli(*command, "--version", "1.0.0", cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    assert f"https://{SITE}/a/" in first.stdout and "engine" not in first.stdout
    again = cli(*command, "--version", "1.0.0", cwd=tmp_path)
    assert again.returncode == 0 and "was there" in again.stdout
    assert cli("verify", "community@1.0.0", cwd=tmp_path).returncode == 0
    tree = cli("lineage", "community@1.0.0", cwd=tmp_path).stdout
    assert "Posts.xml" in tree and "sha256" in tree


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("build community", "source: give Posts.xml"),
        ("build community --source nowhere.xml", "nowhere.xml: no such file"),
        ("build community --source Posts.xml", "give --site=HOST"),
        (
            "build community --source Posts.xml --set community.site=https://a.example",
            "--site=https://a.example",
        ),
        ("build community --source Posts.xml --set community.sample=0", "community.sample"),
        ("build community --source Posts.xml --set community.more=1", "unknown key community.more"),
        ("build community --source Posts.xml --set community.site=a.example", "Posts.xml:1: broken XML"),
        ("build community --source Posts.xml --limit 5", "Unknown option: --limit"),
        ("build community --source Posts.xml --retry-failed", "Unknown option: --retry-failed"),
        ("build community --source Posts.xml --from queries@1.0.0", "--from queries@1.0.0"),
        ("build comparisons --engine fake --source Posts.xml", "Unknown option: --source"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(tmp_path: Path, arguments: str, message: str) -> None:
    (tmp_path / "Posts.xml").write_text("<posts>")
    done = cli(*arguments.split(), cwd=tmp_path)
    assert done.returncode == 2, done.stdout
    assert message in done.stderr and done.stderr.count("\n") == 1
    assert not list(tmp_path.glob("build/community/*"))


def test_the_real_dump(shared: Path, tmp_path: Path) -> None:
    source = str(shared / "stackexchange_beer" / "Posts.xml")
    config = CommunityConfig(
        source=source, site="beer.stackexchange.com", pairs_per_question=None, sample=None
    )
    built = build(config, {}, FakeEngine(), silent)
    check_ledger(built.ledger)
    assert (built.diagnostics["queries"], built.diagnostics["answers"]) == (663, 1572)
    assert 0.62 < built.diagnostics["share_chosen_longer"] < 0.65
    assert built.diagnostics["license"] == "cc-by-sa-3.0"
    prompts = rows(built)["prompt"].list.first().struct.field("content")
    assert not prompts.str.contains(r"</?(p|li|strong|blockquote)>|&(amp|quot|lt|#\d+);").any()
