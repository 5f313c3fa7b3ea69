"""The page in Chromium: filters, keys, links and 20,000 rows, and that hostile text stays text."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from almost_data.cards.markdown import clean
from almost_data.store.diff import difference_page
from almost_data.store.samples import overview
from almost_data.store.store import Store
from almost_data.viewer.page import Page
from almost_data.viewer.rows import Row, Side
from tests.store.test_diff import store  # noqa: F401  # two versions of comparisons
from tests.viewer.test_page import hostile_page

if TYPE_CHECKING:
    from playwright.sync_api import Browser
    from playwright.sync_api import Page as Tab

pytestmark = pytest.mark.browser
Show = Callable[..., "Tab"]


@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    playwright = pytest.importorskip("playwright.sync_api")
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no Chromium here")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def show(browser: "Browser", tmp_path: Path) -> Iterator[Show]:
    """Opens a page from disk; at the end, nothing was reported, and nothing was asked of a network."""
    tabs, problems = [], []

    def show(page: Page, link: str = "", **options: Any) -> "Tab":
        file = page.save(tmp_path / "page.html")
        tab = browser.new_page(**options)
        tab.on("console", lambda message: problems.append(message.text))
        tab.on("pageerror", lambda error: problems.append(str(error)))
        tab.on("dialog", lambda dialog: problems.append(dialog.message))
        tab.on(
            "request",
            lambda request: problems.append(request.url) if "page.html" not in request.url else None,
        )
        tab.goto(file.as_uri() + link)
        tabs.append(tab)
        return tab

    yield show
    for tab in tabs:
        tab.close()
    assert not problems


def count(tab: "Tab") -> str:
    return tab.locator("#count").inner_text()


def url(tab: "Tab") -> str:
    """The address as the page has it: the driver hears of a change only later."""
    return str(tab.evaluate("location.href"))


def pairs(n: int) -> Page:
    """Pairs of which every tenth was dropped, each with a length of its own."""
    rows = [
        Row(
            f"row-{i}",
            "default",
            "test" if i % 20 == 0 else "train",
            ({"role": "user", "content": f"Question {i} of many?"},),
            (
                Side("chosen", f"Yes, number {i}. " + "a " * (i % 50), "large", 2.0),
                Side("rejected", "No. " + "b " * 25, "small", 1.0),
            ),
            "too_long" if i % 10 == 0 else None,
        )
        for i in range(n)
    ]
    return Page("pairs", f"all {n:,} rows", rows)


def test_filters_follow_each_other_and_keys_move(show: Show, fake_store: Store) -> None:
    page = overview(fake_store, "comparisons@0.1.0", 10_000)
    total, dropped = len(page.rows), [row for row in page.rows if row.reason == "too_short"]
    tab = show(page)
    assert count(tab) == f"{total} rows"
    tab.get_by_role("button", name=f"too_short {len(dropped)}").first.click()
    assert count(tab) == f"{len(dropped)} of {total} rows"
    assert "Dropped, too_short: " in tab.locator(".why").inner_text()
    tab.keyboard.press("j")
    assert f"row={dropped[1].id.replace(' ', '+')}" in url(tab)
    assert dropped[1].sides[0].text in tab.locator("#row").inner_text()
    tab.keyboard.press("k")
    tab.keyboard.press("Escape")
    assert count(tab) == f"{total} rows"
    tab.keyboard.press("1")
    assert count(tab) == f"{sum(row.reason is None for row in page.rows)} of {total} rows"
    tab.locator("#longer").select_option("rejected")
    longer = [
        row
        for row in page.rows
        if not row.reason and len(row.sides[0].text or "") < len(row.sides[1].text or "")
    ]
    assert count(tab) == f"{len(longer)} of {total} rows"
    assert tab.get_by_role("button", name="kept").locator(".n").inner_text() == str(len(longer))


def test_search_takes_words_and_marks_them(show: Show) -> None:
    tab = show(pairs(300))
    tab.keyboard.press("/")
    tab.keyboard.type("question 123")
    assert count(tab) == "1 of 300 rows"
    assert (
        tab.evaluate("CSS.highlights.get('found').size") == 2 + 1
    )  # `question` and `123` above, `123` in chosen
    tab.keyboard.type("x")
    assert "No row passes" in tab.locator("#row").inner_text()


def test_a_link_shows_the_same_row_and_filters(show: Show) -> None:
    tab = show(pairs(300), "#row=row-40&reason=too_long&split=test&sort=-gap")
    assert tab.locator("#row h2").inner_text() == "row-40"
    assert count(tab) == "15 of 300 rows"
    assert tab.locator("#split").input_value() == "test" and tab.locator("#sort").input_value() == "-gap"
    again = show(pairs(300), url(tab).partition("page.html")[2])
    assert again.locator("#row h2").inner_text() == "row-40" and count(again) == count(tab)


def test_a_rating_is_called_one(show: Show) -> None:
    sides = (Side("chosen", "Yes.", "large", 8.0, "rating"), Side("rejected", "No.", "small", 3.0, "rating"))
    tab = show(Page("rated", "", [Row("1", "default", "train", (), sides)]))
    text = tab.locator("body").inner_text()
    assert "rating 8" in text and "rating 3" in text and "score" not in text.lower()
    assert tab.locator("#score-name").text_content() == "Rating, chosen - rejected"
    assert "highest rating" in (tab.locator("#sort").text_content() or "")


def test_words_that_differ_are_marked_and_common_ones_are_not(show: Show) -> None:
    sides = (
        Side("chosen", "The cat sat on the red mat today."),
        Side("rejected", "The cat sat on the blue mat today."),
    )
    tab = show(Page("pair", "", [Row("1", "default", "train", (), sides)]))
    assert [text.strip() for text in tab.locator("mark").all_inner_texts()] == ["red", "blue"]
    tab.keyboard.press("d")
    assert tab.locator("mark").count() == 0
    assert tab.locator(".side .text").first.inner_text() == sides[0].text


def test_twenty_thousand_rows_draw_a_screen_only(show: Show) -> None:
    tab = show(pairs(20_000))
    assert count(tab) == "20,000 rows" and tab.locator(".item").count() < 60
    tab.keyboard.press("End")
    assert tab.locator("#row h2").inner_text() == "row-19999"
    assert tab.locator(".item[aria-selected=true]").inner_text().startswith("Question 19999")
    tab.locator("#q").fill('"number 77."')
    assert count(tab) == "1 of 20,000 rows"


def test_hostile_text_is_shown_as_text(show: Show) -> None:
    page = hostile_page()
    tab = show(page)
    for row in page.rows:
        assert tab.locator(".turn .text").text_content() == clean(row.prompt[0]["content"])
        assert not tab.locator("img, iframe, a, object, form[action], #row script, #row style").count()
        tab.keyboard.press("j")
    tab.keyboard.press("?")
    assert tab.evaluate("document.scripts.length") == 1, "the data is taken out of the page when it is read"


def test_a_row_is_copied_as_json(show: Show) -> None:
    tab = show(pairs(3))
    tab.context.grant_permissions(["clipboard-read", "clipboard-write"])
    tab.keyboard.press("c")
    tab.get_by_text("Copied").wait_for()
    row = json.loads(tab.evaluate("navigator.clipboard.readText()"))
    assert row["id"] == "row-0" and row["sides"][0]["text"].startswith("Yes, number 0.")


@pytest.mark.parametrize("width", [380, 800, 1400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_cut_at_any_width(show: Show, fake_store: Store, width: int, scheme: str) -> None:
    page = overview(fake_store, "comparisons@0.1.0", 100)
    tab = show(page, viewport={"width": width, "height": 800}, color_scheme=scheme)
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
    tab.evaluate("document.getElementById('filters').open = true")
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_two_versions_are_filtered_by_what_was_lost_and_gained(show: Show, store: Store) -> None:  # noqa: F811
    page = difference_page(store, "comparisons@0.1.0", "comparisons@0.2.0", 1000)
    tab = show(page)
    tab.locator("#change").select_option("lost")
    lost = sum(row.change == "lost" for row in page.rows)
    assert count(tab) == f"{lost} of {len(page.rows)} rows"
    assert tab.locator(".why").inner_text().startswith("Lost: the newer version dropped it")
