"""Hostile text, and a card as a browser shows it."""

import re
from collections.abc import Collection
from html.parser import HTMLParser
from pathlib import Path

import msgspec
from markdown_it import MarkdownIt

from almost_data.datasets.ledger import Entry
from almost_data.datasets.manifest import Manifest

NASTY = (
    "</code></details><img src=x onerror=alert(1)>",
    "</pre><script>alert(1)</script>",
    "```\n# Not a heading\n```",
    "`````",
    "| a | b |\n|---|---|\n| c \\| d \\\\| e |",
    "---\nlicense: stolen\n---",
    "{{ 7*7 }} {% raw %} {# no #}",
    "![x](http://e.example/x.png) [y](javascript:alert(1)) <http://e.example>",
    "[ref]: http://e.example\n\n[ref]",
    "# heading\n\n- list\n\n1. one\n\n===\n\n> quote",
    "<!-- comment",
    "&lt;img src=x&gt; &#60;img&#62;",
    "www.e.example http://e.example me@e.example @someone",
    "*a* **b** _c_ ~~d~~ `e` $f$ \\( g \\)",
    "\u202egnp.exe\u202c \u2066x\x1b[31mred\x00",
    "trailing backslash \\",
    "``odd ` ticks``",
    "long " * 4000,
)


OURS = {
    *"h1 h2 p a br em strong code pre ul ol li blockquote details summary img".split(),
    *"table thead tbody tr th td".split(),
}
"""Elements that cards have."""


class Page(HTMLParser):
    """What a browser sees: tags with their attributes, and tables as rows of cells."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.tables: list[list[list[str]]] = []
        self.open: list[str] = []
        self.headings: list[str] = []
        self.text = ""
        body = text.split("\n---\n", 1)[1]
        # "linkify" is left out: it is not installed, and addresses stand in code, where it would not look.
        self.feed(MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(body))
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.open and self.open[-1] in ("h1", "h2", "h3"):
            self.headings.append(data)
        if "td" in self.open or "th" in self.open:
            self.tables[-1][-1][-1] += data

    def table(self, head: str) -> list[list[str]]:
        return next(table for table in self.tables if table[0][0] == head)


def assert_inert(text: str, headings: Collection[str], links: Collection[str] = ()) -> Page:
    """Nothing hostile in a card became markup, a row, a heading or a sequence that a terminal obeys."""
    body = text.split("\n---\n", 1)[1]
    assert not re.search(r"[\x00-\x08\x1b\u202a-\u202e\u2066-\u2069]", body)
    page = Page(text)
    assert page.open == [], "an element is not closed"
    assert {tag for tag, _ in page.tags} <= OURS
    figures = re.findall(r"^!\[[^]]*\]\((plots/[^)]+)\)$", text, re.MULTILINE)
    assert [attributes["src"] for tag, attributes in page.tags if tag == "img"] == figures
    assert {attributes["href"] for tag, attributes in page.tags if tag == "a"} <= {*links}
    assert all(attrs == {} for tag, attrs in page.tags if tag not in ("img", "a", "code", "th", "td"))
    for table in page.tables:
        assert {len(row) for row in table} == {len(table[0])}, "a cell broke its row"
    assert page.headings == [heading for heading in headings if heading in page.headings], (
        "a heading too much"
    )
    assert "49" not in re.findall(r"\{\{ ?7\*7 ?\}\} (\d+)", text)
    return page


def spoil(manifest: Manifest, nasty: str, ledger: list[Entry]) -> Manifest:
    config = dict(manifest.config)
    if "prompts" in config:
        config["prompts"] = {nasty: nasty}
    for model in config.get("resolved", {}).values():
        model |= {"id": nasty, "revision": nasty}
    if manifest.name == "responses":
        responders = [
            model | {"prompt": nasty, "max_new_tokens": 5} for model in config["settings"]["responders"]
        ]
        config["settings"] = config["settings"] | {"responders": responders}
    config["card"] = {"license": nasty, "language": "en"}
    environment = manifest.environment | {"command": nasty, "platform": nasty, "packages": {nasty: nasty}}
    if "engine" in environment:
        environment["engine"] = environment["engine"] | {"name": nasty, "settings": {nasty: nasty}}
    diagnostics = manifest.diagnostics | {"notes": [nasty]}
    return msgspec.structs.replace(
        manifest, config=config, ledger=ledger, environment=environment, diagnostics=diagnostics
    )


def headings(name: str, title: str = "") -> list[str]:
    """The headings of a template, whose title is that of ALMoST's dataset of this name."""
    template = (Path(__file__).parents[1] / "cards" / f"{name}.md.jinja").read_text("utf-8")
    return [title or f"ALMoST {name} 0.1.0", *re.findall("^## (.*)$", template, re.MULTILINE)]
