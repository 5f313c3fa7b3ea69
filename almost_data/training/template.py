"""The chat template of all recipes, and tokenizers and models prepared for it.

Turns have the paper's format, `\\n\\nHuman: ...` and `\\n\\nAssistant: ...`; a system turn is
`\\n\\nSystem: ...`. The loss covers each reply from the space after the colon to EOS, so a policy learns to
stop, and a reward model is read at the end. The prompt ends in `Assistant:` without a space, as the few-shot
prompts do: a space there would split the first word of a reply for BPE tokenizers.
"""

from typing import Any

from ..errors import InputError

PAD = "<|pad|>"
_BODY = """\
{%- for message in messages %}
{%- if message.role == "assistant" %}{{ "\\n\\nAssistant:" }}
{%- generation %}{{ " " ~ message.content | trim ~ eos_token }}{% endgeneration %}
{%- elif message.role == "user" %}{{ "\\n\\nHuman: " ~ message.content | trim }}
{%- elif message.role == "system" %}{{ "\\n\\nSystem: " ~ message.content | trim }}
{%- else %}{{ raise_exception("roles are system, user and assistant, not " ~ message.role) }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ "\\n\\nAssistant:" }}{% endif %}"""


def template(bos: bool) -> str:
    """The Jinja text; `bos` puts `bos_token` in front, for models that were trained with it."""
    return ("{{- bos_token }}" if bos else "") + _BODY


def prepare(tokenizer: Any, name: str) -> list[str]:
    """Give the tokenizer the template and a padding token; returns a sentence for each change.

    Padding must not be EOS: a reward model's score is read at the last token that is not padding, and PPO
    removes all padding from what it reads. A tokenizer that pads with EOS pads with its unknown token or
    another special token instead; if it has none, one is added, and `fit` adds its embedding to a model.
    Raises InputError where there is no EOS.
    """
    if tokenizer.eos_token_id is None:
        raise InputError(f"{name}: its tokenizer has no EOS token, so a model could not learn to stop")
    changes = []
    first_id = tokenizer("a")["input_ids"][:1]
    has_bos = tokenizer.bos_token_id is not None and first_id == [tokenizer.bos_token_id]
    previous, tokenizer.chat_template = tokenizer.chat_template, template(has_bos)
    if previous and previous != tokenizer.chat_template:
        changes.append("Human/Assistant replaces the model's own chat template")
    if tokenizer.pad_token_id in (None, tokenizer.eos_token_id):
        tokenizer.pad_token = _padding(tokenizer)
        changes.append(f"padding is `{tokenizer.pad_token}`, since it was EOS or missing")
    return changes


def fit(model: Any, tokenizer: Any) -> Any:
    """Give the model embeddings for every token, and the tokenizer's EOS and padding; returns it."""
    from transformers import GenerationConfig

    if model.get_input_embeddings().num_embeddings < len(tokenizer):
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    model.config.eos_token_id = tokenizer.eos_token_id
    model.config.pad_token_id = tokenizer.pad_token_id
    if model.can_generate():
        # A base's sampling defaults, such as a repetition penalty, would bend the log-probabilities of PPO.
        model.generation_config = GenerationConfig(
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    return model


def _padding(tokenizer: Any) -> str:
    """A token that no text contains: unknown (byte-level tokenizers never write it), special, or new."""
    special = set(tokenizer.get_added_vocab()) & set(tokenizer.all_special_tokens)
    for token in (tokenizer.unk_token, *sorted(special)):
        if token not in (tokenizer.eos_token, tokenizer.bos_token, None):
            return str(token)
    tokenizer.add_special_tokens({"pad_token": PAD})
    return PAD
