"""HTML of posts as Markdown for people and models: code, lists, links, quotes and tables are kept.

markdownify over lxml converts it. This module writes a few elements as people do, which markdownify does
not, and bounds what hostile HTML can use of the machine.
"""

import re
import warnings
from functools import cache
from typing import Any

MOST_CHARS = 200_000
"""Longer HTML is no post: Stack Exchange takes 30,000 characters of Markdown."""
MOST_DEPTH = 100
"""No post is nested deeper, and bs4 walks to the deepest element again and again."""
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_LANGUAGE = re.compile(r"lang(?:uage)?-(?!none$)([A-Za-z0-9+#.-]{1,20})")
_SHORT_MARK = re.compile(r"\S{1,8}")
"""Matches an exponent, an index or a footnote's number, but not a sentence in small print."""
_FENCED = re.compile(r"^([ >]*)(`{3,})[^\n`]*\n.*?^\1\2$", re.DOTALL | re.MULTILINE)


def to_text(html: str) -> str | None:
    """The text of a post, stripped; None where it is too long or nested too deep to be one.

    >>> to_text('<p>Call <code>f()</code>:</p><pre class="lang-py"><code>f(1)\\n</code></pre>')
    'Call `f()`:\\n\\n```py\\nf(1)\\n```'
    """
    import bs4

    if len(html) > MOST_CHARS:
        return None
    with warnings.catch_warnings():  # a post that is nothing but an address looks like a mistake to bs4
        warnings.simplefilter("ignore", bs4.MarkupResemblesLocatorWarning)
        soup = bs4.BeautifulSoup(_CONTROL.sub("", html), "lxml")
    level: list[bs4.Tag] = [soup]
    for _ in range(MOST_DEPTH):
        level = [child for tag in level for child in tag.contents if isinstance(child, bs4.Tag)]
    if level:
        return None
    _prepare(soup)
    return _tidy(_converter()().convert_soup(soup))


def _prepare(soup: Any) -> None:
    """Number the items of lists, and remove what would take markdownify quadratic time or space."""
    for ordered in soup.find_all("ol"):
        start = str(ordered.get("start", ""))
        first = int(start) if re.fullmatch(r"[0-9]{1,6}", start) else 1
        for number, item in enumerate(ordered.find_all("li", recursive=False), first):
            item["value"] = str(number)
    for head in soup.find_all("thead"):
        if len(head.find_all("tr", limit=2)) > 1:
            head.name = "tbody"
    for cell in soup.find_all(["td", "th"], colspan=True):
        if not re.fullmatch("1?[0-9]", str(cell["colspan"])):
            del cell["colspan"]


def _tidy(text: str) -> str:
    """Remove blanks at line ends and runs of empty lines, except in code."""
    pieces, end = [], 0
    for code in [*_FENCED.finditer(text), None]:
        prose = re.sub(r"[ \t\u00a0]+$", "", text[end : code.start() if code else None], flags=re.MULTILINE)
        pieces.append(re.sub(r"\n{3,}", "\n\n", prose))
        if code:
            pieces.append(code[0])
            end = code.end()
    return "".join(pieces).strip()


@cache
def _converter() -> Any:
    from markdownify import ATX, MarkdownConverter

    base: Any = MarkdownConverter  # its types leave out most of its methods

    class Converter(base):  # type: ignore[misc]
        class Options:
            heading_style = ATX
            bullets = "-"
            escape_asterisks = escape_underscores = escape_misc = False
            table_infer_header = True

        def convert_a(self, el: Any, text: str, parent_tags: Any) -> str:
            href = str(el.get("href") or "").strip()
            label = text.strip()
            if not label or label == href or not href or el.find("img"):
                return text
            return str(super().convert_a(el, text, parent_tags))

        def convert_br(self, el: Any, text: str, parent_tags: Any) -> str:
            return " " if "_inline" in parent_tags else "\n"

        def convert_img(self, el: Any, text: str, parent_tags: Any) -> str:
            alt = " ".join(str(el.get("alt") or "").split())
            return "" if alt.lower() in _PLACEHOLDER_ALTS else f"[{alt}]"

        def convert_li(self, el: Any, text: str, parent_tags: Any) -> str:
            bullet = f"{el['value']}. " if el.parent.name == "ol" else "- "
            lines = (text or "").strip().split("\n")
            indented = [line and " " * len(bullet) + line for line in lines[1:]]
            return "\n".join([bullet + lines[0], *indented]) + "\n" if lines != [""] else ""

        def convert_pre(self, el: Any, text: str, parent_tags: Any) -> str:
            fence = "`" * max([3, *(len(run) + 1 for run in re.findall("`{3,}", text))])
            code = re.sub(r"\A(?:[ \t]*\n)+|\s+\Z", "", text)
            return f"\n\n{fence}{_language(el)}\n{code}\n{fence}\n\n" if code else ""

        def convert_strike(self, el: Any, text: str, parent_tags: Any) -> str:
            return str(self.convert_del(el, text, parent_tags))

        def convert_td(self, el: Any, text: str, parent_tags: Any) -> str:
            return str(super().convert_td(el, _cell(text), parent_tags))

        def convert_th(self, el: Any, text: str, parent_tags: Any) -> str:
            return str(super().convert_th(el, _cell(text), parent_tags))

        def convert_sub(self, el: Any, text: str, parent_tags: Any) -> str:
            return f"_{text}" if _SHORT_MARK.fullmatch(text) else text

        def convert_sup(self, el: Any, text: str, parent_tags: Any) -> str:
            return f"^{text}" if _SHORT_MARK.fullmatch(text) else text

    return Converter


_PLACEHOLDER_ALTS = {"", "enter image description here", "alt text", "image", "screenshot"}
"""Placeholders that the editor inserts, which do not describe an image."""


def _cell(text: str) -> str:
    """The text of a table's cell: a pipe would end it, also in code."""
    return text.replace("|", r"\|")


def _language(pre: Any) -> str:
    """The language of a code block, from its class or its `code` element's; empty without one."""
    for element in (pre, pre.find("code")):
        for name in (element.get("class") or []) if element is not None else []:
            if match := _LANGUAGE.fullmatch(name):
                return match[1]
    return ""
