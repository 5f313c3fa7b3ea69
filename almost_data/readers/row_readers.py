"""How a row is read in each layout: functions from its cells to its preferences, which raise Unusable."""

from collections.abc import Callable, Iterable, Sequence
from itertools import combinations, product
from typing import Any

from msgspec.structs import replace

from ..models.chat import Messages
from . import html_text
from .conversations import NULLS, Conversation, first_value, is_blank, read_reply, read_turns
from .dialogue_text import check_reply, has_hh_turn, read_hh, read_steer
from .layout import (
    SIDES,
    Cells,
    Preference,
    ReadCells,
    Side,
    flag_of,
    has_value,
    name_of,
    number_of,
    objects,
    pair,
    preference,
    prompt_cell,
    prompt_of,
    reply_of,
    text_list,
    with_facts,
)
from .reasons import ORDERS_DISAGREE, TIE, Unusable


def renamed(read: ReadCells, **columns: str) -> ReadCells:
    """Reads the cells of these columns under the names that `read` knows."""
    return lambda row: read({**row, **{name: row.get(column) for name, column in columns.items()}})


# --- two sides that are marked as the better and the worse ----------------------------------------------


def read_hh_pair(row: Cells) -> list[Preference]:
    """Both sides are whole dialogues as text."""
    conversations = []
    for column in SIDES:
        if not row.get(column):
            raise Unusable("no_reply")
        *head, last = read_hh(row[column])
        if last["role"] != "assistant":
            raise Unusable("no_reply")
        conversations.append(Conversation(prompt_of(row, head), last["content"]))
    return with_facts(row, conversations)


def read_hh_replies(row: Cells) -> list[Preference]:
    """Replies after a dialogue as text in `prompt`."""
    prompt = _hh_prompt(row)
    replies = [read_reply(row.get(side), prompt) for side in SIDES]
    if any(has_hh_turn(reply.reply) for reply in replies):
        raise Unusable("not_one_reply", "turns of `Human:` or `Assistant:` follow a reply")
    return with_facts(row, [replace(reply, reply=reply.reply.strip()) for reply in replies])


def _hh_prompt(row: Cells) -> Messages:
    text = row.get("prompt")
    return prompt_of(row, text and read_hh(text))


def same_prompt(*names: str) -> ReadCells:
    """Two sides after a prompt in one of these columns, or the same one in several."""

    def read(row: Cells) -> list[Preference]:
        columns = [name for name in names if row.get(name)] or names
        readings = [pair(name)(row) for name in columns]
        if any(reading != readings[0] for reading in readings):
            raise Unusable("prompts_differ")
        return readings[0]

    return read


def swift(row: Cells) -> list[Preference]:
    """A whole conversation, and another reply in place of its last."""
    chosen = reply_of(row, "messages", None)
    return [preference([chosen, read_reply(row.get("rejected_response"), chosen.prompt)])]


STYLES = 3
"""Right replies and wrong ones of a row of RM-Bench, in three styles."""


def rewardbench2(row: Cells) -> list[Preference]:
    """Every right reply over every wrong one."""
    chosen, rejected = (text_list(row.get(side)) or () for side in SIDES)
    is_counted = number_of(row.get("num_correct")) == len(chosen)
    is_rm_bench = has_value(row.get("domain")) and len(chosen) == len(rejected) == STYLES
    if len(chosen) > 1 and not is_counted and not is_rm_bench:
        detail = f"chosen has {len(chosen)} texts, which may be steps of one reply: write one reply a row"
        raise Unusable("not_one_reply", detail)
    return _right_over_wrong(prompt_of(row, row.get("prompt")), chosen, rejected)


def kto(row: Cells) -> list[Preference]:
    """Rows of one prompt: every reply with the label true over every one with false."""
    replies: dict[bool, list[Any]] = {True: [], False: []}
    for cells in row["rows"]:
        if (label := flag_of(cells.get("label"))) is not None:
            replies[label].append(cells.get("completion"))
    if not all(replies.values()):
        raise Unusable("no_preference", "of the rows of this prompt none is labelled true, or none false")
    return _right_over_wrong(prompt_of(row["rows"][0], row["rows"][0].get("prompt")), *replies.values())


def _right_over_wrong(prompt: Messages, right: Iterable[Any], wrong: Iterable[Any]) -> list[Preference]:
    chosen, rejected = ([read_reply(reply, prompt) for reply in replies] for replies in (right, wrong))
    if not chosen or not rejected:
        raise Unusable("no_reply")
    pairs = list(product(chosen, rejected))
    different = [two for two in pairs if two[0].reply.strip() != two[1].reply.strip()]
    return [preference(sides) for sides in different or pairs]


# --- responses with scores or ranks ---------------------------------------------------------------------


def _ranked(prompt: Messages, responses: Iterable[Side]) -> list[Preference]:
    """The best response over the worst, by score."""
    scored = [side for side in responses if side.score is not None and not is_blank(side.text)]
    ordered = sorted(scored, key=lambda side: -(side.score or 0.0))
    if len(ordered) < 2:
        raise Unusable("no_preference")
    if ordered[0].score == ordered[-1].score:
        raise Unusable(TIE)
    best, worst = ordered[0], ordered[-1]
    sides = [Conversation(prompt, check_reply(side.text)) for side in (best, worst)]
    return [preference(sides, (best.model, worst.model), (best.score, worst.score))]


def _side(text: Any, score: Any, model: Any = None) -> Side:
    is_text = isinstance(text, str) and text not in NULLS
    return Side(text if is_text else "", name_of(model), number_of(score))


def ultrafeedback(row: Cells) -> list[Preference]:
    """`completions` with `overall_score`, or with the mean of the annotations' ratings where none has it."""
    prompt = prompt_of(row, prompt_cell(row, "instruction"))
    completions = row.get("completions") or ()
    scores = [number_of(item.get("overall_score")) for item in completions]
    if not any(score is not None for score in scores):  # the two have scales of their own
        scores = list(map(_mean_rating, completions))
    scored = zip(completions, scores, strict=True)
    return _ranked(prompt, [_side(item.get("response"), score, item.get("model")) for item, score in scored])


def _mean_rating(completion: Cells) -> float | None:
    annotations = completion.get("annotations")
    values = annotations.values() if isinstance(annotations, dict) else ()
    numbers = [number_of(value.get("Rating")) for value in values if isinstance(value, dict)]
    ratings = [number for number in numbers if number is not None]
    return sum(ratings) / len(ratings) if ratings else None


def distilabel(prompt: str) -> ReadCells:
    """`generations` with `ratings`, and their models where they are named."""

    def read(row: Cells) -> list[Preference]:
        turns = prompt_of(row, prompt_cell(row, prompt))
        generations, ratings = row.get("generations") or [], row.get("ratings") or []
        models = row.get("generation_models")
        models = models if isinstance(models, list) else [None] * len(generations)
        if not len(generations) == len(ratings) == len(models):
            raise Unusable("no_preference", "generations, ratings and models are not of one length")
        return _ranked(turns, map(_side, generations, ratings, models))

    return read


def helpsteer(row: Cells) -> list[Preference]:
    """Rows of one prompt, the most helpful response over the least."""
    rows = row["rows"]
    prompt = prompt_of(rows[0], read_steer(rows[0].get("prompt")))
    return _ranked(prompt, [_side(cells.get("response"), cells.get("helpfulness")) for cells in rows])


def nectar(row: Cells) -> list[Preference]:
    """Replies with ranks after a dialogue as text, the best over the worst."""
    answers = row.get("answers") or ()
    replies = [(item.get("answer"), item.get("rank"), item.get("model")) for item in answers]
    return _by_rank(_hh_prompt(row), replies)


def _by_rank(prompt: Messages, replies: Iterable[tuple[Any, Any, Any]]) -> list[Preference]:
    """Of text, rank and model of each reply the lowest rank over the highest."""
    sides = [
        _side(text, None if (number := number_of(rank)) is None else -number, model)
        for text, rank, model in replies
    ]
    [ranked] = _ranked(prompt, sides)
    return [replace(ranked, **{side: replace(getattr(ranked, side), score=None) for side in SIDES})]


def oasst(row: Cells) -> list[Preference]:
    """A tree of turns: after each user's turn with ranked replies the best over the worst."""
    paths: list[list[Cells]] = [[row.get("prompt") or {}]]
    preferences: list[Preference] = []
    for path in paths:  # which grows by the paths to the replies
        replies = path[-1].get("replies") or []
        if not objects(replies):
            raise Unusable("not_text")
        replies = [item for item in replies if not item.get("deleted")]
        paths += [[*path, item] for item in replies]
        answers = [item for item in replies if item.get("role") == "assistant"]
        ranked = [(item.get("text"), item.get("rank"), item.get("model_name")) for item in answers]
        if sum(number_of(rank) is not None for _, rank, _ in ranked) > 1:
            preferences += _by_rank(prompt_of(row, path), ranked)
    if not preferences:
        raise Unusable("no_preference")
    return preferences


def nemo_rl(row: Cells) -> list[Preference]:
    """Completions with ranks, the lowest over the highest."""
    prompt = prompt_of(row, row.get("context"))
    ranked = [
        (rank, read_reply(item.get("completion"), prompt))
        for item in row.get("completions") or ()
        if (rank := number_of(item.get("rank"))) is not None
    ]
    ordered = [reply for _, reply in sorted(ranked, key=lambda two: two[0])]
    if len({rank for rank, _ in ranked}) < 2:
        raise Unusable(TIE if len(ranked) > 1 else "no_preference")
    return [preference([ordered[0], ordered[-1]])]


def webgpt(row: Cells) -> list[Preference]:
    """Two answers, each with a score."""
    question = row.get("question")
    prompt = prompt_of(row, question.get("full_text") if isinstance(question, dict) else None)
    return _ranked(prompt, [_side(row.get(f"answer_{n}"), row.get(f"score_{n}")) for n in "01"])


def stack_exchange(row: Cells) -> list[Preference]:
    """Answers with `pm_score`, in HTML: every two with different scores."""
    prompt = prompt_of(row, _from_html(row.get("question")))
    answers = [
        side
        for answer in row.get("answers") or ()
        if (side := _side(_from_html(answer.get("text")), answer.get("pm_score"))).text
        and side.score is not None
    ]
    pairs = (sorted(two, key=lambda side: -(side.score or 0.0)) for two in combinations(answers, 2))
    preferences = [
        preference([Conversation(prompt, side.text) for side in two], scores=[side.score for side in two])
        for two in pairs
        if two[0].score != two[1].score and two[0].text != two[1].text
    ]
    if not preferences:
        is_tie = len(answers) > 1 and len({side.score for side in answers}) == 1
        raise Unusable(TIE if is_tie else "no_preference")
    return preferences


def _from_html(html: Any) -> str | None:
    return html_text.to_text(html) if isinstance(html, str) else None


# --- two responses and a label that says which is better ------------------------------------------------

Winner = Callable[[Any], int | None]
"""A label -> place of the better response, 0 or 1, or None where it does not say. May raise Unusable."""
TIES = ("tie", "draw", "both_bad", "bothbad", "both bad", "a=b")
"""How labels of a tie begin."""


def labelled(
    sides: Sequence[str],
    label: str,
    winner: Winner,
    prompt: str | None = "prompt",
    models: Sequence[str] = (),
) -> ReadCells:
    """Two replies, or two whole conversations, and a label."""

    def read(row: Cells) -> list[Preference]:
        value = row.get(label)
        if value == ORDERS_DISAGREE:
            raise Unusable(ORDERS_DISAGREE)
        if (better := winner(value)) is None:
            detail = f"column {label}: {value!r:.40} does not say which side is better"
            raise Unusable("no_preference", detail)
        before = {**row, "history": None} if prompt == "history" else row
        turns = prompt_of(before, read_steer(prompt_cell(row, prompt))) if prompt else None
        places = (better, 1 - better)
        names = [name_of(row.get(models[place])) if models else None for place in places]
        return [preference([reply_of(row, sides[place], turns) for place in places], names)]

    return read


def by_value(first: str | int, second: str | int) -> Winner:
    """The label is a text, or a number, also as text: its value where the first is better, and the second."""
    places: dict[str | float, int] = {first: 0, second: 1}

    def winner(label: Any) -> int | None:
        number = number_of(label)
        value = label.strip() if isinstance(label, str) and number is None else number
        if isinstance(value, str) and value.lower().startswith(TIES):
            raise Unusable(TIE)
        if value not in places:
            raise Unusable(
                "no_preference",
                f"no side is better: {label!r:.40} is neither {first!r} nor {second!r}: write one of them",
            )
        return places[value]

    return winner


def up_to_turn(read: ReadCells, *columns: str) -> ReadCells:
    """Reads conversations up to the reply that was judged, where the column `turn` has its number."""

    def read_judged(row: Cells) -> list[Preference]:
        _check_earlier(row, row.get(columns[0]))
        number = number_of(row.get("turn"))
        if number is None:
            return read(row)
        filled = [name for name in columns if row.get(name)]
        return read({**row, **{name: _up_to_reply(row[name], number) for name in filled}})

    return read_judged


EARLIER = ("evaluation_order", "full_conversation")
"""Columns of a vote within a session: its number, and the exchanges up to it."""


def _check_earlier(row: Cells, conversation: Any) -> None:
    """Raise Unusable where a conversation is the end of a longer one, as in the Arena's later votes."""
    order, exchanges = number_of(row.get(EARLIER[0])), row.get(EARLIER[1])
    size = len(exchanges) if isinstance(exchanges, list) else 0
    if (order is not None and order > 1) or 2 * size > len(read_turns(conversation) or () if size else ()):
        raise Unusable("earlier_turns", "the turns before conversation_a and conversation_b are left out")


def _up_to_reply(conversation: Any, number: float) -> Messages:
    turns = read_turns(conversation) or ()
    ends = [end for end, turn in enumerate(turns, 1) if turn["role"] == "assistant"]
    if number not in range(1, len(ends) + 1):
        raise Unusable("not_one_reply", f"column turn: the conversation has no reply {number:g}")
    return turns[: ends[int(number) - 1]]


MOST_BETTER = 3
"""The end of HelpSteer's scales; what is beyond it is no preference, such as -100."""


def by_sign(label: Any) -> int | None:
    """The label says how much better the second response is than the first, below 0 the other way."""
    number = number_of(label)
    if number == 0:
        raise Unusable(TIE)
    return None if number is None or abs(number) > MOST_BETTER else int(number > 0)


def are_signed(numbers: set[float]) -> bool:
    """Whether numbers are labels of `by_sign`: several of which none is below 0 are those of others."""
    return min(numbers) < 0 or len(numbers) == 1


def by_nearness(label: Any) -> int | None:
    """The label is a number from 1, the first is better, to 2, the second is; 1.5 is a tie, and so is 0."""
    number = number_of(label)
    if number in (0, 1.5):
        raise Unusable(TIE)
    return None if number is None or not 1 <= number <= 2 else round(number) - 1


def are_nearness(numbers: set[float]) -> bool:
    """Whether numbers are labels of `by_nearness`: 0 and 1 alone are those of others."""
    return all(number == 0 or 1 <= number <= 2 for number in numbers) and (
        0 not in numbers or max(numbers) > 1
    )


PAIRWISE = {"left": ("answer1", "answer2"), "right": ("answer2", "answer1")}
"""What an annotator selects -> the better answer of a task, and the worse."""


def is_pairwise_task(value: Any) -> bool:
    return isinstance(value, dict) and {"prompt", *PAIRWISE["left"]} <= value.keys()


def label_studio(row: Cells) -> list[Preference]:
    """A task's two answers, and what all of its annotators selected."""
    task, annotations = row.get("data") or {}, row.get("annotations") or ()
    annotations = [annotation for annotation in annotations if not annotation.get("was_cancelled")]
    prompt = prompt_of(row, task.get("prompt"))
    results = [result for annotation in annotations if objects(result := annotation.get("result"))]
    values = [item.get("value") for result in results for item in result if item.get("type") == "pairwise"]
    selected = {str(value.get("selected")) if isinstance(value, dict) else "" for value in values}
    if len(selected) != 1 or not selected <= PAIRWISE.keys():
        raise Unusable("no_preference", "the annotators select no answer, or not the same")
    return [preference([read_reply(task.get(name), prompt) for name in PAIRWISE[selected.pop()]])]


def arena_55k(row: Cells) -> list[Preference]:
    """The user's turns and those of two models, each a list of texts, and a flag for who won."""
    user_turns = text_list(row.get("prompt"))
    flags = [flag_of(row.get(f"winner_model_{letter}")) for letter in "ab"]
    if not user_turns:
        raise Unusable("no_prompt")
    if set(flags) != {True, False}:
        is_tie = not any(flags) and flag_of(row.get("winner_tie"))
        raise Unusable(TIE if is_tie else "no_preference")
    letters = "ab" if flags[0] else "ba"
    sides = [
        reply_of({**row, "side": _alternating(user_turns, row.get(f"response_{letter}"))}, "side", None)
        for letter in letters
    ]
    return [preference(sides, [name_of(row.get(f"model_{letter}")) for letter in letters])]


def _alternating(user_turns: Sequence[Any], replies: Any) -> list[dict[str, Any]]:
    texts = text_list(replies)
    if not texts or len(texts) != len(user_turns):
        raise Unusable("not_one_reply" if texts else "no_reply")
    two_turns = zip(user_turns, texts, strict=True)
    return [
        {"role": role, "content": text}
        for two in two_turns
        for role, text in zip(("user", "assistant"), two, strict=True)
    ]


def summaries(row: Cells) -> list[Preference]:
    """Two summaries of `info.post` or of `info.article`, and the place of the better one."""
    info, texts, better = row.get("info"), row.get("summaries") or (), number_of(row.get("choice"))
    prompt = prompt_of(row, first_value(info, "post", "article") if isinstance(info, dict) else None)
    if len(texts) != 2 or better not in (0, 1):
        raise Unusable("no_preference")
    ordered = texts if better == 0 else texts[::-1]
    sides = [read_reply(summary.get("text"), prompt) for summary in ordered]
    return [preference(sides, [name_of(summary.get("policy")) for summary in ordered])]
