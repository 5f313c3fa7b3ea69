"""The page as a file: rows are data, its policy allows its own script alone, and a sample is called one."""

import base64
import hashlib
import json
import os
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from almost_data.errors import InputError
from almost_data.store.diff import difference_page
from almost_data.store.samples import overview
from almost_data.store.store import Store
from almost_data.viewer.page import Page, share, share_page
from almost_data.viewer.preferences import preferences_page
from almost_data.viewer.rows import Row, Side
from tests.command import run as cli
from tests.markup import NASTY
from tests.store.test_diff import store  # noqa: F401  # two versions of comparisons


def embedded(page: Page) -> dict[str, object]:
    [data] = re.findall(r'<script type="application/json" id="data">(.*)</script>', page.html)
    assert "<" not in data
    read: dict[str, object] = json.loads(data)
    return read


def hostile_page() -> Page:
    rows = []
    for text in NASTY:
        turn, side, pair = {"role": text, "content": text}, Side(text, text, text, 1.0), {text: text}
        rows.append(Row(text, text, text, (turn,), (side,), text, pair, pair))
    return Page(NASTY[0], NASTY[1], rows, sentences=dict(zip(NASTY, NASTY, strict=True)))


@pytest.mark.parametrize("page", [hostile_page(), Page("empty", "no rows", [])], ids=["hostile", "empty"])
def test_a_page_has_one_script_and_its_policy_allows_that_alone(page: Page) -> None:
    assert page.html.count("<script") == 2 and page.html.count("</script>") == 2
    for tag in ("script", "style"):
        [text] = re.findall(f"<{tag}>(.*?)</{tag}>", page.html, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in page.html
    assert "default-src 'none'" in page.html
    assert len(embedded(page)["rows"]) == len(page.rows)  # type: ignore[arg-type]


def test_no_source_makes_markup_of_text_or_asks_the_network() -> None:
    script = Page("", "", []).html
    for word in "innerHTML outerHTML insertAdjacent document.write eval( fetch( http: https:".split():
        assert word not in script


def test_every_row_is_in_the_overview(fake_store: Store) -> None:
    for name in ("queries", "responses", "comparisons"):
        ref = f"{name}@0.1.0"
        page, counts = overview(fake_store, ref, 10_000), fake_store.manifest(ref).counts
        rows = sum(sum(splits.values()) for splits in counts.values())
        texts = sum(len(row.sides) for row in page.rows) if name == "responses" else len(page.rows)
        assert texts == (sum(counts["default"].values()) if name == "responses" else rows)
        assert page.about.startswith("all ")
        assert ("all responses to a query" in page.about) == (ref == "responses@0.1.0")
    assert all(side.text for row in page.rows for side in row.sides), "also of rows that are stored by id"


def test_a_sample_says_its_size_and_has_every_reason(fake_store: Store) -> None:
    page, whole = (overview(fake_store, "comparisons@0.1.0", n) for n in (40, 10_000))
    assert len(page.rows) == 40 and page.about.startswith(f"40 of {len(whole.rows)} rows")
    assert {row.reason for row in page.rows} == {row.reason for row in whole.rows}
    assert page == overview(fake_store, "comparisons@0.1.0", 40), "the seed decides"


def test_a_page_is_shared_out_whole() -> None:
    assert share([0, 5, 100], 50) == [0, 5, 45]
    assert share_page([1000], [10, 1000], 100) == [50, 10, 40]
    assert share_page([10], [10], 100) == [10, 10]


def test_two_versions_show_what_came_and_went(store: Store) -> None:  # noqa: F811
    page = difference_page(store, "comparisons@0.1.0", "comparisons@0.2.0", 1000)
    changes = [row.change for row in page.rows]
    assert f"{changes.count('lost')} lost, {changes.count('gained')} gained" in page.about
    assert all(row.reason for row in page.rows) and set(changes) == {"lost", "gained"}
    for limit in (4, 1000):
        pages = [difference_page(store, "comparisons@0.1.0", "comparisons@0.2.0", limit) for _ in range(3)]
        assert pages[0] == pages[1] == pages[2], "the seed decides"


def test_a_file_of_preferences_is_shown_as_it_is_read(tmp_path: Path) -> None:
    lines = [{"prompt": f"Is tea {n}?", "chosen": "No, a leaf.", "rejected": "Yes."} for n in range(30)]
    file = tmp_path / "pairs.jsonl"
    file.write_text(
        "\n".join(json.dumps(line) for line in [*lines, {"prompt": None, "chosen": "a", "rejected": "b"}])
    )
    page = preferences_page(str(file), {}, 10)
    assert len(page.rows) == 10 and [row.reason for row in page.rows].count("no_prompt") == 1
    assert "pairs: 30; rows that cannot be used: 1" in page.about
    done = cli("view", str(file), "-o", str(tmp_path / "page.html"))
    assert done.returncode == 0 and (tmp_path / "page.html").is_file()


def test_view_refuses_what_has_no_rows(fake_store: Store, tmp_path: Path) -> None:
    root = ["--root", str(fake_store.root)]
    assert "no such file" in cli("view", "nowhere.jsonl", *root).stderr
    assert "cannot be written" in cli("view", "queries", "-o", str(tmp_path / "a" / "b.html"), *root).stderr
    with pytest.raises(InputError, match="comparisons"):
        overview(fake_store, "comparisons@9.9.9", 10)


def test_a_page_goes_through_links_and_pipes(tmp_path: Path) -> None:
    target, link, pipe = tmp_path / "target.html", tmp_path / "link.html", tmp_path / "pipe.html"
    target.write_text("old")
    link.symlink_to(target)
    page = Page("new", "no row", [], [])
    page.save(link)
    assert link.is_symlink() and target.read_text() == page.html
    os.mkfifo(pipe)
    with ThreadPoolExecutor(1) as executor:
        reader = executor.submit(pipe.read_text)
        page.save(pipe)
        assert reader.result(10) == page.html and pipe.is_fifo()


@pytest.mark.parametrize("name", ["file.txt/page.html", f"{'a' * 250}.html", "folder.html"])
def test_a_place_that_no_page_can_have_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "file.txt").write_text("text")
    (tmp_path / "folder.html").mkdir()
    with pytest.raises(InputError, match=r"^view\.out .*: cannot be written: "):
        Page("new", "no row", [], []).save(tmp_path / name)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["file.txt", "folder.html"]
    with pytest.raises(InputError, match=r"^view\.out .*file\.txt: name an \.html file"):
        Page("new", "no row", [], []).save(tmp_path / "file.txt")
