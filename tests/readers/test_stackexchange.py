import json
import math
import os
import zipfile
from collections.abc import Iterator
from html import escape
from pathlib import Path

import polars as pl
import py7zr
import pytest

from almost_data.errors import InputError
from almost_data.readers import formats, stackexchange
from almost_data.readers.stackexchange import (
    Post,
    dump,
    license_of,
    reading,
    record,
    site_of,
    vote_score,
)
from tests.command import script
from tests.hub_server import serve

SITE = "plants.example"
QUESTION = {"Id": 1, "PostTypeId": 1, "Score": 3, "Title": "Why?", "Body": "<p>Q</p>", "AcceptedAnswerId": 2}
ANSWER = {"Id": 2, "PostTypeId": 2, "ParentId": 1, "Score": 5, "Body": "<p>A</p>", "OwnerUserId": 7}
ROW = {
    "qid": 1,
    "question": "<p>Q</p>",
    "answers": [
        {
            "answer_id": 2,
            "pm_score": 3,
            "text": "<p>A</p>",
            "selected": True,
            "author": "Ada",
            "author_id": 9,
        },
        {
            "answer_id": 3,
            "pm_score": -1,
            "text": "B",
            "selected": False,
            "author_profile": "https://p.example/u/8",
        },
    ],
    "date": "2016/08/02",
    "metadata": [f"https://{SITE}/questions/1", f"https://{SITE}", f"https://{SITE}/users/4/"],
}


def xml(posts: list[dict[str, object]], head: str = "") -> bytes:
    lines = [
        "  <row " + " ".join(f'{k}="{escape(str(v))}"' for k, v in post.items()) + " />\n" for post in posts
    ]
    return f'\ufeff<?xml version="1.0" encoding="utf-8"?>\n{head}<posts>\n{"".join(lines)}</posts>'.encode()


def read(source: Path | str, site: str | None = SITE) -> list[Post]:
    progress: list[tuple[int, int]] = []
    with reading(str(source), site) as posts:
        first = list(posts(lambda *tick: progress.append(tick)))
        assert list(posts(lambda *_: None)) == first  # every call begins anew
    assert progress and progress[-1][0] == progress[-1][1]
    return first


def test_score_is_the_logarithm_to_the_nearest_integer() -> None:
    for votes in [*range(5_000), *(2**k + d for k in range(12, 31) for d in (-2, -1, 0, 1))]:
        assert vote_score(votes) == round(math.log2(1 + votes))
    assert [vote_score(votes) for votes in (-100, -1, 0)] == [-1, -1, 0]


def test_no_number_of_votes_is_halfway() -> None:
    # 2^(k + 1/2) is between two whole numbers: the score changes there and nowhere else.
    for k in range(40):
        last = math.isqrt(2 ** (2 * k + 1))
        assert (vote_score(last - 1), vote_score(last)) == (k, k + 1)


@pytest.mark.parametrize(
    ("date", "license"),
    [
        ("2011-04-07T23:59:59.999", "CC BY-SA 2.5"),
        ("2011-04-08T00:00:00.000", "CC BY-SA 3.0"),
        ("2018-05-01T23:59:59.999", "CC BY-SA 3.0"),
        ("2018-05-02T00:00:00.000", "CC BY-SA 4.0"),
        ("", None),
        ("once", None),
    ],
)
def test_licence_by_date(date: str, license: str | None) -> None:
    assert license_of(date) == license


def test_posts_of_a_dump(tmp_path: Path) -> None:
    named = {
        "Id": 4,
        "PostTypeId": 2,
        "ParentId": 1,
        "Score": -2,
        "Body": "",
        "OwnerDisplayName": " Ada\n L. ",
    }
    dated = {"CreationDate": "2010-01-01T00:00:00.000", "LastEditDate": "2020-01-01T00:00:00.000"}
    credit = {"ContentLicense": "CC BY-SA 2.5", "OwnerDisplayName": "Bob"}
    wiki = {"Id": 9, "PostTypeId": 5, "Body": "a tag's"}
    (tmp_path / "Posts.xml").write_bytes(
        xml([QUESTION, wiki, ANSWER | dated, named, ANSWER | credit | {"Id": 5}])
    )
    question, answer, second_answer, last = read(tmp_path / "Posts.xml")
    assert question == Post(SITE, 1, None, 0, 2, "Why?", "<p>Q</p>", None, None)
    assert question.url == f"https://{SITE}/questions/1"
    assert (answer.question, answer.score, answer.license) == (1, 3, "CC BY-SA 4.0")
    assert (answer.url, answer.author) == (f"https://{SITE}/a/2", f"https://{SITE}/users/7")
    assert (second_answer.score, second_answer.author, second_answer.license) == (-1, "Ada L.", None)
    assert (last.author, last.license) == (f"Bob (https://{SITE}/users/7)", "CC BY-SA 2.5")


BOMB = '<!DOCTYPE posts [<!ENTITY a "ha"><!ENTITY b "' + "&a;" * 50 + '"><!ENTITY c "' + "&b;" * 50 + '">]>\n'


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (xml([QUESTION | {"Body": "&c;"}], BOMB).replace(b"&amp;c;", b"&c;"), r":2: .*DTD or entities"),
        (xml([QUESTION], '<!DOCTYPE posts SYSTEM "http://127.0.0.1:9/x.dtd">\n'), ":2: .*DTD or entities"),
        (xml([QUESTION], '<!DOCTYPE posts [<!ENTITY x SYSTEM "file:///etc/passwd">]>\n'), "DTD or entities"),
        (b"", r":1: broken XML \(no element found\)"),
        (xml([QUESTION])[:-20], r":\d+: broken XML"),
        (xml([QUESTION])[:-8], r":\d+: broken XML"),
        (b"<posts><row Id='1'</posts>", ":1: broken XML"),
        (b"<posts>\n<row Id='1' Id='2'/></posts>", ":2: broken XML .*duplicate attribute"),
        (b"<posts>\n\n<row Body='a\x00b'/></posts>", ":3: broken XML"),
        (b"<posts><row Body='&#0;'/></posts>", "broken XML"),
        (b"<posts><row Body='&nbsp;'/></posts>", "broken XML .*undefined entity"),
        (b"<posts><row Body='\xff\xfe'/></posts>", "broken XML"),
        (b"\n<users>\n</users>", r":2: <users> where <posts> should be: give a dump's Posts\.xml"),
        (b"<posts><post/></posts>", "<post> where <row> should be"),
        (b"<posts><row Id='1' PostTypeId='3'><b/></row></posts>", "<b> where no element should be"),
        (b"<" * 1000, "broken XML"),
        (b"PK\x03\x04" * 50, "broken XML"),
        (xml([QUESTION | {"Id": "x"}]), r":3: Id is 'x', not a whole number"),
        (xml([QUESTION | {"Id": -1}]), r"Id is '-1', not a whole number"),
        (xml([QUESTION | {"Id": "\u0663"}]), "not a whole number"),
        (xml([QUESTION | {"Id": "9" * 30}]), "not a whole number"),
        (xml([QUESTION, {k: v for k, v in ANSWER.items() if k != "Id"}]), ":4: Id is missing"),
        (xml([ANSWER | {"Score": "abc"}]), "Score is 'abc'"),
        (xml([ANSWER | {"Score": "1e3"}]), "Score is '1e3'"),
        (xml([{k: v for k, v in ANSWER.items() if k != "Score"}]), "Score is missing"),
        (xml([{k: v for k, v in ANSWER.items() if k != "ParentId"}]), "ParentId is missing"),
        (xml([{k: v for k, v in ANSWER.items() if k != "PostTypeId"}]), "PostTypeId is missing"),
        (xml([ANSWER | {"OwnerUserId": "1 OR 1"}]), "OwnerUserId is '1 OR 1'"),
        (xml([QUESTION | {"AcceptedAnswerId": "yes"}]), "AcceptedAnswerId is 'yes'"),
    ],
)
def test_a_dump_that_is_none_is_refused(tmp_path: Path, content: bytes, match: str) -> None:
    (tmp_path / "Posts.xml").write_bytes(content)
    with pytest.raises(InputError, match=match) as error:
        read(tmp_path / "Posts.xml")
    assert "Posts.xml" in str(error.value)
    assert len(str(error.value)) < 400 + len(str(tmp_path))


@pytest.mark.parametrize("head", [b"<posts>", b"<posts><row Id='1' PostTypeId='1' Body='"])
def test_an_element_has_a_longest_size(tmp_path: Path, head: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dump, "MAX_ELEMENT", 3 << 20)
    (tmp_path / "Posts.xml").write_bytes(head + b" " * (6 << 20))
    with pytest.raises(InputError, match="4 MiB without the end of a row"):
        read(tmp_path / "Posts.xml")


def packed(path: Path, members: dict[str, bytes]) -> Path:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in members.items():
                archive.writestr(name, content)
    else:
        with py7zr.SevenZipFile(path, "w") as archive:
            for name, content in members.items():
                archive.writestr(content, name)
    return path


@pytest.mark.parametrize("suffix", [".7z", ".zip"])
def test_a_packed_dump_reads_as_the_plain_one(tmp_path: Path, suffix: str) -> None:
    content = xml([QUESTION, ANSWER])
    (tmp_path / "Posts.xml").write_bytes(content)
    archive = packed(tmp_path / f"{SITE}{suffix}", {"Users.xml": b"<users/>", "Posts.xml": content})
    assert read(archive) == read(tmp_path / "Posts.xml")
    assert site_of(str(archive), None) == SITE
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(["Posts.xml", archive.name])


@pytest.mark.parametrize("suffix", [".7z", ".zip"])
@pytest.mark.parametrize(
    ("members", "match"),
    [
        ({"Users.xml": b"<users/>"}, r"needs exactly one Posts\.xml, but holds: Users\.xml"),
        ({"../Posts.xml": b"<posts/>"}, r"needs exactly one Posts\.xml"),
        ({"/Posts.xml": b"<posts/>"}, r"needs exactly one Posts\.xml"),
        ({"Posts.xml/x": b"<posts/>"}, r"needs exactly one Posts\.xml"),
        ({"Posts.xml": b"<posts>"}, "broken XML"),
    ],
)
def test_an_archive_without_the_one_file_is_refused(
    tmp_path: Path, suffix: str, members: dict[str, bytes], match: str
) -> None:
    if suffix == ".7z" and min(members).startswith(("/", ".")):
        pytest.skip("the library does not write such an archive")
    (tmp_path / "in").mkdir()
    archive = packed(tmp_path / "in" / f"a{suffix}", members)
    with pytest.raises(InputError, match=match):
        read(archive)
    assert os.listdir(tmp_path / "in") == [archive.name] and os.listdir(tmp_path) == ["in"]


@pytest.mark.parametrize("suffix", [".7z", ".zip"])
def test_damaged_and_hostile_archives_are_refused(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = packed(tmp_path / f"good{suffix}", {"Posts.xml": xml([QUESTION, ANSWER] * 50)}).read_bytes()
    bad = tmp_path / f"bad{suffix}"
    for content in (b"", b"PK", good[: len(good) // 2], good[:40] + bytes(20) + good[60:], b"<posts/>"):
        bad.write_bytes(content)
        with pytest.raises(InputError, match=r"bad\.(7z|zip): .*fetch"):
            read(bad)
    monkeypatch.setattr(dump, "FREE_GROWTH", 1 << 20)
    bomb = packed(tmp_path / f"bomb{suffix}", {"Posts.xml": b"<posts>" + b" " * (4 << 20)})
    with pytest.raises(InputError, match="over 100 times the archive"):
        read(bomb)


def test_an_archive_that_understates_its_size_is_refused(tmp_path: Path) -> None:
    archive = packed(tmp_path / "a.zip", {"Posts.xml": xml([QUESTION, ANSWER])})
    size = len(xml([QUESTION, ANSWER])).to_bytes(4, "little")
    archive.write_bytes(archive.read_bytes().replace(size, (20).to_bytes(4, "little")))
    with pytest.raises(InputError):
        read(archive)


def layout(tmp_path: Path, content: list[dict[str, object]]) -> Iterator[Path]:
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n\n" for row in content))
    pl.DataFrame(content).write_parquet(tmp_path / "a.parquet")
    yield from (tmp_path / "a.jsonl", tmp_path / "a.parquet")


def test_rows_in_the_hubs_layout(tmp_path: Path) -> None:
    for file in layout(tmp_path, [ROW, ROW | {"qid": 5, "answers": [], "metadata": []}]):
        question, first, second, second_question = read(file, "other.example")
        assert (question.site, question.title, question.accepted) == (SITE, "", None)
        assert question.author == f"https://{SITE}/users/4/"
        # pm_score is the score: `selected` adds nothing to it.
        assert [(a.id, a.question, a.score) for a in (first, second)] == [(2, 1, 3), (3, 1, -1)]
        assert [a.author for a in (first, second)] == ["Ada", "https://p.example/u/8"]
        assert (second_question.site, second_question.id) == ("other.example", 5)


@pytest.mark.parametrize(
    ("row", "match"),
    [
        ({k: v for k, v in ROW.items() if k != "qid"}, "1: not a question with answers: .*`qid`"),
        (ROW | {"qid": "1"}, r"Expected `int`, got `str` - at `\$.qid`"),
        (ROW | {"qid": True}, "Expected `int`, got `bool`"),
        (ROW | {"qid": -1}, "Expected `int` >= 0"),
        (ROW | {"answers": [{"answer_id": 2, "pm_score": 10**6, "text": ""}]}, "Expected `int` <= 100"),
        (ROW | {"answers": [{"answer_id": 2, "pm_score": 1.5, "text": ""}]}, "Expected `int`, got `float`"),
        (ROW | {"answers": [{"answer_id": 2, "pm_score": 1, "text": None}]}, "Expected `str`, got `null`"),
        (ROW | {"question": ["x"]}, "Expected `str`, got `array`"),
        (
            ROW | {"metadata": ["javascript:alert(1)", "https://x y/"]},
            "1: metadata has no address of the site",
        ),
    ],
)
def test_a_row_of_another_layout_is_refused(tmp_path: Path, row: dict[str, object], match: str) -> None:
    for file in layout(tmp_path, [row]):
        with pytest.raises(InputError, match=match.replace("`null`", "`null`|None")):
            read(file, None)


@pytest.mark.parametrize(
    ("name", "content", "match"),
    [
        ("a.jsonl", b'{"qid": 1,\n', r"a\.jsonl:1: broken JSON"),
        ("a.jsonl", b"[]\n", r"a\.jsonl:1: not a JSON object"),
        ("a.jsonl", b'\n{"qid": "\xff"}\n', r"a\.jsonl:2: "),
        ("a.parquet", b"no", r"a\.parquet: cannot be read as Parquet"),
    ],
)
def test_a_broken_file_of_rows_is_refused(tmp_path: Path, name: str, content: bytes, match: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=match):
        read(tmp_path / name)


def test_a_line_has_a_longest_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "MAX_LINE", 1000)
    (tmp_path / "a.jsonl").write_text(json.dumps(ROW | {"question": "x" * 1000}))
    with pytest.raises(InputError, match=r"a\.jsonl:1: a line of"):
        read(tmp_path / "a.jsonl")


@pytest.mark.parametrize(
    ("source", "match"),
    [
        ("nowhere.xml", r"nowhere\.xml: no such file"),
        ("some/nowhere.xml", "no such file"),
        ("folder.xml", "not a file"),
        ("a.txt", r"cannot tell its format: save it as one of \.xml, \.7z"),
        ("a name", "no such file"),
    ],
)
def test_what_is_no_source_is_refused(
    tmp_path: Path, source: str, match: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.xml").mkdir()
    (tmp_path / "a.txt").touch()
    with pytest.raises(InputError, match=match):
        record(source)


def test_the_record_follows_the_content(tmp_path: Path) -> None:
    file = tmp_path / "Posts.xml"
    file.write_bytes(b"one")
    first = record(str(file))
    assert first == record(str(file)) and first["name"] == "Posts.xml"
    file.write_bytes(b"other")
    assert record(str(file)) != first


@pytest.mark.parametrize(
    ("source", "site"),
    [
        ("x/plants.example.7z", "plants.example"),
        ("plants.example-Posts.7z", "plants.example"),
        ("plants.example.zip", "plants.example"),
        ("ORG/NAME", None),
        ("a.jsonl", None),
    ],
)
def test_site_from_the_archives_name(source: str, site: str | None) -> None:
    assert site_of(source, None) == site
    assert site_of(source, "given.example") == "given.example"


@pytest.mark.parametrize("source", ["Posts.xml", "plants.example.xml", "dump.7z", "My Site.zip"])
def test_a_dump_without_a_site_says_what_to_give(source: str) -> None:
    with pytest.raises(InputError, match=r"does not name its site: give community\.site=HOST"):
        site_of(source, None)


def test_a_hub_dataset_is_read_at_its_commit(tmp_path: Path) -> None:
    lines = json.dumps(ROW) + "\n" + json.dumps(ROW | {"qid": 5, "answers": []})
    code = (
        "from almost_data.readers import stackexchange as s\n"
        "from almost_data.errors import InputError\n"
        "print(s.record('org/qa')['revision'])\n"
        "with s.reading('org/qa', None) as posts:\n"
        "    print([(p.site, p.id, p.score) for p in posts(lambda *_: None)])\n"
        "try:\n    s.record('org/none')\nexcept InputError as error:\n    print(error)"
    )
    with serve("org/qa", {"data.jsonl": lines.encode()}) as (endpoint, commit):
        done = script(code, env={"HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path)})
    out = done.stdout.splitlines()
    assert out[0] == commit
    assert out[1] == str([(SITE, 1, 0), (SITE, 2, 3), (SITE, 3, -1), (SITE, 5, 0)])
    assert out[2].startswith("org/none: no such file, and not available on the Hub")


def test_a_commit_in_full_asks_nobody() -> None:
    assert stackexchange.record("org/name@" + "a" * 40) == {"name": "org/name", "revision": "a" * 40}
