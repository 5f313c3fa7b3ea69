"""Settings of demonstrations."""

from pathlib import Path
from typing import Annotated

from msgspec import Meta, structs

from ...datasets.config import NamedFile, Positive, Source
from ...datasets.user_filters import UserFilter
from ..responder import Responder, SamplingConfig


class DemonstrationsConfig(SamplingConfig, frozen=True, kw_only=True):
    """Defaults are the paper's (2.2); responders have none."""

    assistant: Responder
    """Responder that answers: the best of the ladder."""
    user: Responder
    """Responder that writes the user's next turn, if `turns` is over 2."""
    prompt: NamedFile | None = None
    """Another prompt for the assistant, such as `hhh` (the paper's Table 5)."""
    n: Positive = 4
    """Replies that the reward model picks from; 1 is Self-Play."""
    turns: Annotated[int, Meta(ge=2, multiple_of=2)] = 2
    """Most turns of a dialogue, the user's and the assistant's together."""
    conversations_per_query: Positive = 2
    """How often each query is answered: our reading of about 20k demonstrations from 10k queries."""
    rm: Source | None = None
    """Reward model: `name@version` in the store, `ORG/NAME[@REVISION]` on the Hub, or a local folder."""
    rm_max_tokens: Positive = 1024
    """Most tokens of a dialogue that it reads; the paper's RM was trained on as many."""
    second_rm: Source | None = None
    """A second reward model, which does not pick: the card reports how often it agrees."""
    checks: bool = False
    """Whether replies must pass the checks `paper` of comparisons."""
    filters: tuple[UserFilter, ...] = ()
    """User-defined filters on replies, applied before the reward model."""
    preference: bool = False
    """Also write a config `preference` for DPO: the best of the N replies over the worst."""
    limit: Positive | None = None
    """Use only the first queries by query_id."""


def assistant(config: DemonstrationsConfig) -> Responder:
    """The assistant's responder, with the prompt of the config."""
    responder = config.assistant
    if config.prompt is None or config.prompt == responder.prompt:
        return responder
    # Not the whole path: the name is fingerprinted, and a machine's folders are not part of a recipe.
    name = f"{responder.name}-as-{Path(config.prompt).stem}"
    return structs.replace(responder, prompt=config.prompt, name=name)
