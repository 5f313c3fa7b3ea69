"""Every verb that writes, killed: whatever is visible then is whole, and the same command again ends as if
nothing had been.

Each kill is in a copy of one prepared folder.
"""

import copy
import os
import random
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

from almost_data.store.store import Store
from almost_data.store.verify import verify
from tests import hub_server
from tests.crash import Done, Server
from tests.hub_server import TOKEN, Hub
from tests.watched import digests, files, journaled

REPO = "ORG/responses"
MISSES = 5
"""How often a verb is killed again, each time in half the time, where it ended before a random moment."""
FAKE = ("--engine", "fake", "--version", "0.2.0")
FEW_QUERIES = ("--from", "queries@0.1.0", "--limit", "4")
FEW_RESPONSES = ("--from", "responses@0.1.0", "--limit", "4")
POST = (
    '<row Id="{id}" PostTypeId="{kind}" {more} Score="{score}" Body="{body}" ContentLicense="CC BY-SA 4.0" />'
)
ANSWER = "&lt;p&gt;Water the plant in the morning, and never at noon. That is number {id}.&lt;/p&gt;"


@dataclass(frozen=True)
class Verb:
    """A command that writes. In its words, `{at}` is the folder that it works in."""

    name: str
    words: tuple[str, ...]
    codes_again: tuple[int, ...] = (0,)
    """Exit codes of the same command after a kill."""
    root: str = "build"


VERBS = (
    Verb("build queries", ("build", "queries", *FAKE, "--limit", "8")),
    Verb("build responses", ("build", "responses", *FAKE, "--from", "queries@0.1.0", "--limit", "8")),
    Verb("build comparisons", ("build", "comparisons", *FAKE, "--from", "responses@0.1.0")),
    Verb(
        "build demonstrations",
        (
            "build",
            "demonstrations",
            *FAKE,
            *FEW_QUERIES,
            "--rm",
            "baseline:longest",
            "--turns",
            "4",
            "--preference",
        ),
    ),
    Verb(
        "build ratings",
        ("build", "ratings", *FAKE, *FEW_RESPONSES, "--judge", "j", "--judging", "pairs"),
    ),
    Verb(
        "build community",
        ("build", "community", "--version", "0.2.0", "--source", "{at}/Posts.xml", "--site", "a.example"),
    ),
    Verb("import queries", ("import", "queries", "{at}/queries.txt", "--version", "2.0.0")),
    Verb(
        "import responses",
        ("import", "responses", "{at}/answers.jsonl", "--ladder", "good,poor", "--version", "2.0.0"),
    ),
    Verb("import preferences", ("import", "preferences", "{at}/pairs.jsonl", "--version", "2.0.0")),
    Verb("push", ("push", "responses@1.0.0", "--repo", "ORG/another")),
    Verb("pull", ("pull", f"{REPO}@v1.0.0"), root="pulled"),
    Verb("ablate", ("ablate", "--from", "responses@0.1.0", "--version", "0.3.0")),
    Verb("audit -o", ("audit", "{at}/pairs.jsonl", "-o", "{at}/out/audit.html")),
    Verb("journal --prune", ("journal", "--prune")),
    Verb("rm", ("rm", "comparisons@0.1.0", "--yes"), codes_again=(0, 2)),
    Verb("export", ("export", "comparisons@0.1.0", "-o", "{at}/out/rows.jsonl")),
    Verb(
        "export --to",
        ("export", "comparisons@0.1.0", "--to", "verl", "-o", "{at}/out/verl"),
        codes_again=(0, 2),  # a folder that is whole is not written again
    ),
    Verb("view -o", ("view", "comparisons@0.1.0", "-o", "{at}/out/page.html")),
    Verb("eval", ("eval", "preference", "--model", "baseline:longest", "--dataset", "comparisons@0.1.0")),
)


@dataclass
class Outcome:
    """What came of the kills of a verb."""

    verb: str
    kills: Counter[str] = field(default_factory=Counter)
    """By `point` and `moment`."""
    good: int = 0
    """Kills after which all was as it should be."""
    complaints: Counter[str] = field(default_factory=Counter)
    missed: int = 0
    """Kills before which the verb had ended."""

    @property
    def bad(self) -> int:
        """Kills that left a trace, or that were missed."""
        return self.kills.total() - self.good + self.missed


@dataclass(frozen=True)
class Clean:
    """How a verb ends that nobody kills."""

    state: dict[str, Any]
    passes: dict[str, int]
    """Of each point."""
    seconds: float


class VerbRuns:
    """Runs verbs in copies of a prepared folder, and compares how they end."""

    def __init__(self, server: Server, hub: Hub, folder: Path) -> None:
        self.server, self.hub, self.folder = server, hub, folder
        self.prepared = folder / "prepared"
        self.runs = 0
        self._clean: dict[Verb, Clean] = {}
        _prepare(server, self.prepared)
        self.repos = copy.deepcopy(hub.repos)

    def sweep(self, verb: Verb, kills: int, rng: random.Random) -> Outcome:
        """Kill a verb at `kills` points and moments, a third of them at random moments."""
        outcome, clean = Outcome(verb.name), self.clean(verb)
        points = sorted(clean.passes.items())
        rng.shuffle(points)
        for number in range(kills):
            point, count = points[number % len(points)]
            where: dict[str, Any] = {"point": point, "at": rng.randint(1, count)}
            if number % 3 == 2:
                where = {"delay": rng.uniform(0, clean.seconds)}
            complaints = self.kill(verb, **where)
            for _ in range(MISSES):
                if complaints is None and "delay" in where:
                    where["delay"] /= 2
                    complaints = self.kill(verb, **where)
            if complaints is None:
                outcome.missed += 1
                outcome.complaints[f"{where}: it ended before it was killed"] += 1
            else:
                outcome.kills["moment" if "delay" in where else "point"] += 1
                outcome.good += not complaints
                outcome.complaints.update(f"{where}: {text}" for text in complaints)
        return outcome

    def clean(self, verb: Verb) -> Clean:
        """How the verb ends where nobody kills it; it is run once."""
        if verb not in self._clean:
            folder, passes, start = self._copy(), self.folder / "passes", time.monotonic()
            done = self._run(verb, folder, counts=str(passes))
            assert done.code == 0, (verb, done)
            seconds = time.monotonic() - start
            self._clean[verb] = Clean(self._state(folder), msgspec.json.decode(passes.read_bytes()), seconds)
            shutil.rmtree(folder)
        return self._clean[verb]

    def kill(self, verb: Verb, **where: Any) -> list[str] | None:
        """What is wrong after a kill and the same command again; None where it ended before the kill.

        `where` is a point and its pass, or a delay in seconds.
        """
        clean, folder = self.clean(verb).state, self._copy()
        try:
            if self._run(verb, folder, **where).code != -9:
                return None
            complaints = self._broken(folder, clean)
            done = self._run(verb, folder)
            if done.code not in verb.codes_again:
                complaints.append(f"exit code {done.code}: {done.err.strip()[-300:]}")
            state = self._state(folder)
            different = [name for name in clean if state[name] != clean[name]]
            return complaints + [f"{name}: {_difference(state[name], clean[name])}" for name in different]
        finally:
            shutil.rmtree(folder)

    def _broken(self, folder: Path, clean: dict[str, Any]) -> list[str]:
        """What is visible in the stores and is not whole, and what is written beside them and is not."""
        complaints = []
        for root, whole in clean["digests"].items():
            store = Store(folder / root)
            complaints += [f"{ref}: {problem}" for ref in store.refs() for problem in verify(store, ref)]
            valid = whole.items() | digests(self.prepared / root).items()
            if not digests(folder / root).items() <= valid:
                complaints.append("another digest")
        for name, content in clean["out"].items():
            if (folder / name).exists() and (folder / name).read_bytes() != content:
                complaints.append(f"{name} is not whole")
        return complaints

    def _copy(self) -> Path:
        self.runs += 1
        self.hub.repos.clear()
        self.hub.repos.update(copy.deepcopy(self.repos))
        return Path(shutil.copytree(self.prepared, self.folder / f"run-{self.runs}"))

    def _run(self, verb: Verb, folder: Path, delay: float | None = None, **how: Any) -> Done:
        words = [word.replace("{at}", str(folder)) for word in verb.words]
        run = self.server.start(*words, "--root", str(folder / verb.root), **how)
        if delay is not None:
            time.sleep(delay)
            run.kill()
        return run.wait()

    def _state(self, at: Path) -> dict[str, Any]:
        """All that a command can have changed, where it does not depend on the clock."""
        return {
            "digests": {root: digests(at / root) for root in ("build", "pulled")},
            "files": {file for file in files(at) if "journal.sqlite-" not in file},
            "journal": journaled(at / "build"),
            "out": {str(file.relative_to(at)): file.read_bytes() for file in (at / "out").rglob("*.*")},
            "hub": {
                name: ({path: blob.oid for path, blob in repo.head.files.items()}, set(repo.tags))
                for (_, name), repo in self.hub.repos.items()
            },
        }


@contextmanager
def at_hub(folder: Path) -> Iterator[Hub]:
    """A Hub that processes started meanwhile ask."""
    with hub_server.run() as hub:
        variables = {"HF_ENDPOINT": hub.endpoint, "HF_TOKEN": TOKEN, "HF_HOME": str(folder / "hf")}
        variables |= {"HF_HUB_DISABLE_XET": "1", "TQDM_DISABLE": "1"}
        before = {name: os.environ.get(name) for name in variables}
        os.environ.update(variables)
        try:
            yield hub
        finally:
            for name, value in before.items():
                os.environ.pop(name) if value is None else os.environ.update({name: value})


def _prepare(server: Server, at: Path) -> None:
    """A folder with a store, files to import, a repository on the Hub, and replies that nothing refers to."""
    (at / "out").mkdir(parents=True)
    (at / "pulled").mkdir()
    questions = [f"What is number {number} good for, and who says so?" for number in range(12)]
    (at / "queries.txt").write_text("\n".join(questions))
    replies = [
        {
            "good": f"Many things, and all of them say so: {text}",
            "poor": f"None that anybody knows of, I am afraid: {text}",
        }
        for text in questions
    ]
    rows = [{"prompt": text} | reply for text, reply in zip(questions, replies, strict=True)]
    (at / "answers.jsonl").write_bytes(msgspec.json.Encoder().encode_lines(rows))
    pairs = [{"prompt": row["prompt"], "chosen": row["good"], "rejected": row["poor"]} for row in rows]
    (at / "pairs.jsonl").write_bytes(msgspec.json.Encoder().encode_lines(pairs))
    posts = []
    for question in range(1, 40, 3):
        title = 'Title="How do I keep a fern alive?" Tags="|fern|"'
        posts.append(POST.format(id=question, kind=1, more=title, score=3, body=ANSWER.format(id=question)))
        for answer, score in ((question + 1, 8), (question + 2, 1)):
            body = ANSWER.format(id=answer)
            posts.append(
                POST.format(id=answer, kind=2, more=f'ParentId="{question}"', score=score, body=body)
            )
    (at / "Posts.xml").write_text("<posts>\n" + "\n".join(posts) + "\n</posts>")
    fake = ("--engine", "fake", "--limit", "8")
    for words in (
        ("build", "comparisons", *fake),
        ("build", "responses", *fake, *FEW_QUERIES[:2], "--version", "0.0.9", "--set", "responses.seed=9"),
        ("rm", "responses@0.0.9", "--yes"),
        ("import", "responses", f"{at}/answers.jsonl", "--ladder", "good,poor", "--version", "1.0.0"),
        ("push", "responses@1.0.0", "--repo", REPO),
    ):  # fmt: skip
        done = server.run(*words, "--root", str(at / "build"))
        assert done.code == 0, (words, done)
    shutil.rmtree(at / "build" / "hub")


def _difference(state: Any, clean: Any) -> str:
    if isinstance(state, set):
        return ", ".join(sorted(state ^ clean)[:5])
    return ", ".join(str(name) for name in {**state, **clean} if state.get(name) != clean.get(name))


def stress(wanted_kills: int, rng: random.Random, console: Console) -> int:
    """Kill every verb, and print what came of it; returns how many kills left a trace or were missed."""
    table = Table("verb", "kills at steps", "at random moments", "same digests, files and replies", box=None)
    for column in table.columns[1:]:
        column.justify = "right"
    start, outcomes = time.monotonic(), []
    with tempfile.TemporaryDirectory() as name, at_hub(Path(name)) as hub, Server(Path(name) / "s") as server:
        runs = VerbRuns(server, hub, Path(name))
        for verb in VERBS:
            outcomes.append(outcome := runs.sweep(verb, -(-wanted_kills // len(VERBS)), rng))
            numbers = (outcome.kills["point"], outcome.kills["moment"], outcome.good)
            table.add_row(verb.name, *map(str, numbers), style="red" if outcome.bad else "")
            for complaint, times in outcome.complaints.items():
                console.print(f"{verb.name}: {complaint} ({times})", markup=False, soft_wrap=True)
    console.print(table)
    kills, good = (
        sum(outcome.kills.total() for outcome in outcomes),
        sum(outcome.good for outcome in outcomes),
    )
    console.print(f"{kills} kills in {time.monotonic() - start:.0f} s, {good} of them without a trace")
    return sum(outcome.bad for outcome in outcomes)
