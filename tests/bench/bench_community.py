"""Comparisons from a Stack Exchange dump: time and memory of the whole builder, as the dump grows."""

import random
import tempfile
from html import escape
from pathlib import Path

from almost_data.builders.community.builder import CommunityConfig, build
from almost_data.datasets.builder import silent
from almost_data.generation.fake import FakeEngine
from tests.bench import Result, in_process

SIZES = (75_000, 300_000)


def run() -> list[Result]:
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for size in SIZES:
            dump = Path(folder) / f"{size}.xml"
            write(dump, size)
            seconds, peak = in_process(build_pairs, str(dump))
            label = f"community builder, dump of {size:,} posts ({dump.stat().st_size >> 20} MiB)"
            results.append(Result(label, "posts/s", size / seconds, None, ""))
            results.append(Result(f"{label}: peak memory", "MiB", peak, None, "bounded"))
    return results


def write(dump: Path, posts: int) -> None:
    """Two questions to three answers, the earlier questions with more of them, a kilobyte each."""
    rng = random.Random(0)
    words = [f"word{n}" for n in range(5_000)]
    questions = posts * 2 // 5
    with dump.open("w") as file:
        file.write('<?xml version="1.0" encoding="utf-8"?>\n<posts>\n')
        for number in range(1, posts + 1):
            kind = f'PostTypeId="1" Title="{" ".join(rng.choices(words, k=8))}"'
            if number > questions:
                kind = f'PostTypeId="2" ParentId="{int(questions * rng.random() ** 2) + 1}"'
            text = " ".join(rng.choices(words, k=rng.randint(20, 250)))
            body = escape(f"<p>{text}</p>\n<pre><code>x = {number}\n</code></pre>\n")
            score = int(rng.expovariate(0.3)) - 1
            file.write(
                f'  <row Id="{number}" {kind} Score="{score}" Body="{body}" OwnerUserId="{number}" />\n'
            )
        file.write("</posts>\n")


def build_pairs(dump: str) -> None:
    build(CommunityConfig(source=dump, site="plants.example"), {}, FakeEngine(), silent)
