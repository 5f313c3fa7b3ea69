"""Write a small made-up dump of a question site, for `make train-tiny` where no real one is at hand.

    python recipes/tiny_posts.py build/posts.xml

It has the format of Stack Exchange's `Posts.xml`. Each question has an answer that helps, one that helps a
little, and one that does not, with votes to match. It only shows that the step of the As-is RM works.
"""

import sys
from html import escape
from pathlib import Path

ITEMS = (
    *("coffee grinder", "cast-iron pan", "bicycle chain", "rain jacket", "wooden chopping board", "kettle"),
    *("garden hose", "window blind", "pair of boots", "tea pot", "camping stove", "guitar", "sieve"),
    "desk lamp",
)
KINDS = (
    (
        "How do I clean a {0} that has not been used for years?",
        "Take the {0} apart as far as it goes, and brush off what is loose. Soak the parts in warm water "
        "with a little vinegar for half an hour, rinse them, and let them dry before you put it together.",
        "Warm water and a brush have always been enough for my {0}.",
        "Buy a new one. Nobody cleans a {0}.",
    ),
    (
        "What should I look at before I buy a second-hand {0}?",
        "Look at the parts that wear first, and ask how often the {0} was used. Try it where it stands, "
        "listen for rattles, and check that spare parts are still sold. A scratch is fine, a crack is not.",
        "Ask why it is sold. People tell you more about a {0} than they mean to.",
        "I have never owned a {0}, sorry.",
    ),
    (
        "Where is the best place to keep a {0} over the winter?",
        "Keep it dry and out of the frost. Clean the {0} first, leave it open so that air gets to every "
        "part, and put it on a shelf rather than on the floor, where the damp collects.",
        "Mine hangs in the hall. A {0} does not mind the cold much.",
        "Winter is long and my {0} is gone.",
    ),
)
VOTES = (15, 4, -2)


def posts() -> str:
    """The rows of the table, questions before their answers."""
    rows: list[dict[str, object]] = []
    for item in ITEMS:
        for title, *answers in KINDS:
            first = len(rows) + 1
            question = {"Title": title.format(item), "Body": "<p>I would like to do it well.</p>"}
            rows.append({"PostTypeId": 1, "AcceptedAnswerId": first + 1, "Score": 3, **question})
            for text, votes in zip(answers, VOTES, strict=True):
                body = f"<p>{text.format(item)}</p>"
                rows.append({"PostTypeId": 2, "ParentId": first, "Score": votes, "Body": body})
    lines = [
        "<row "
        + " ".join(f'{k}="{escape(str(v))}"' for k, v in {"Id": n, "OwnerUserId": 1, **row}.items())
        + "/>"
        for n, row in enumerate(rows, start=1)
    ]
    return "\n".join(["<posts>", *lines, "</posts>", ""])


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(posts(), encoding="utf-8")
