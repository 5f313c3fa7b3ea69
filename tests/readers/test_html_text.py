import sys

import pytest

from almost_data.readers.html_text import MOST_CHARS, MOST_DEPTH, to_text


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("<p>One</p>\n\n<p>two <em>three</em> <strong>four</strong></p>", "One\n\ntwo *three* **four**"),
        (
            '<pre class="lang-py prettyprint-override"><code>x = 1\n\n\n  y\n</code></pre>',
            "```py\nx = 1\n\n\n  y\n```",
        ),
        ('<pre><code class="language-c++">x;\n</code></pre>', "```c++\nx;\n```"),
        ('<pre class="lang-none"><code>x\n</code></pre>', "```\nx\n```"),
        ("<pre><code>```\ninside\n```\n</code></pre>", "````\n```\ninside\n```\n````"),
        ("<p>Call <code>a`b</code> now</p>", "Call `` a`b `` now"),
        ("<ul><li>a<ul><li>b</li></ul></li><li>c</li></ul>", "- a\n  - b\n- c"),
        ('<ol start="3"><li>a</li><li>b</li></ol>', "3. a\n4. b"),
        ("<ul><li><p>a</p><pre><code>x\n</code></pre></li></ul>", "- a\n\n  ```\n  x\n  ```"),
        ("<blockquote><p>a</p>\n<p>b</p></blockquote><p>c</p>", "> a\n>\n> b\n\nc"),
        (
            "<table><tr><th>a</th><th>b</th></tr><tr><td>1</td><td>2</td></tr></table>",
            "| a | b |\n| --- | --- |\n| 1 | 2 |",
        ),
        (
            "<table><tr><th>a|b</th></tr><tr><td><code>c|d</code></td></tr></table>",
            "| a\\|b |\n| --- |\n| `c\\|d` |",
        ),
        ('<a href="https://x.example/">here</a>', "[here](https://x.example/)"),
        ('<a href="https://x.example/a_b">https://x.example/a_b</a>', "https://x.example/a_b"),
        ('<p>a <img src="x.png" alt="a graph"> b</p>', "a [a graph] b"),
        ('<a href="x.png"><img src="x.png" alt="enter image description here"></a>', ""),
        ("a<script>alert(1)</script><style>b {}</style><!-- c -->", "a"),
        (
            "2<sup>10</sup>, H<sub>2</sub>O, <sup>a note in small print</sup>",
            "2^10, H_2O, a note in small print",
        ),
        ("a * b, a_b, &lt;x&gt; &amp; #1", "a * b, a_b, <x> & #1"),
        ("<p>one<br>two &nbsp; </p>", "one\ntwo"),
        ("a\x00b\x1bc", "abc"),
        ("https://x.example/", "https://x.example/"),
        ("", ""),
        (" \n ", ""),
    ],
)
def test_html_reads_as_people_write_it(html: str, text: str) -> None:
    assert to_text(html) == text


def test_code_keeps_its_blanks_and_prose_loses_them() -> None:
    html = "<p>a </p><pre><code>x  \n\n\n\n\ny\n</code></pre><p>b</p><p></p><p> </p><p>c</p>"
    assert to_text(html) == "a\n\n```\nx  \n\n\n\n\ny\n```\n\nb\n\nc"


def test_what_is_no_text_is_none() -> None:
    assert to_text("<div>" * (MOST_DEPTH + 1) + "x") is None
    assert to_text("x" * (MOST_CHARS + 1)) is None
    assert to_text("<div>" * (MOST_DEPTH // 2) + "x") == "x"


@pytest.mark.parametrize(
    "part",
    [
        "<a ",
        "<!--",
        "<ol><li>x",
        "<table><thead><tr><td>",
        "<tr><td colspan=1000>x",
        "<td colspan='x'>",
        "</p>",
    ],
)
def test_hostile_html_takes_work_by_its_length(part: str) -> None:
    html = (part.partition("<tr>")[0] if "thead" in part else "") + part * (40_000 // len(part))
    calls = 0

    def count(*event: object) -> None:
        nonlocal calls
        calls += 1

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        text = to_text(html)
    finally:
        sys.setprofile(before)
    assert calls < 100 * len(html), "of Python or C, and returns from them"
    assert text is None or len(text) < 40 * len(html)
