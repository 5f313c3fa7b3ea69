"""The one chat template of all recipes, and a tokenizer made ready for it.

Turns are written as the paper writes them, `\\n\\nHuman: ...` and `\\n\\nAssistant: ...`. What the assistant
writes is marked for the loss, begins with the space after the colon and ends in EOS, so a policy learns to
stop and a reward model is read where it stops. The prompt ends in `Assistant:` without a space, as the
few-shot prompts do: a space there would split the first word of a reply for BPE tokenizers.
"""

from typing import Any

from ..errors import InputError

PAD = "<|pad|>"
_BODY = """\
{%- for message in messages %}
{%- if message.role == "assistant" %}{{ "\\n\\nAssistant:" }}
{%- generation %}{{ " " ~ message.content | trim ~ eos_token }}{% endgeneration %}
{%- elif message.role == "user" %}{{ "\\n\\nHuman: " ~ message.content | trim }}
{%- elif message.role == "system" %}{{ message.content | trim }}
{%- else %}{{ raise_exception("roles are system, user and assistant, not " ~ message.role) }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ "\\n\\nAssistant:" }}{% endif %}"""


def template(bos: bool) -> str:
    """The Jinja text; with `bos`, it puts `bos_token` in front, for models that were trained with one."""
    return ("{{- bos_token }}" if bos else "") + _BODY


def prepare(tokenizer: Any, name: str) -> list[str]:
    """Give the tokenizer the template and a padding token of its own; returns what was changed, in words.

    Padding must not be EOS: a reward model's score is read at the last token that is no padding, and PPO
    takes all padding out of what it reads. So a tokenizer that pads with EOS pads with its unknown token or
    another special one, and where it has none, one is added (`fit` then makes room for it in a model).
    Raises InputError where there is no EOS.
    """
    said = []
    if tokenizer.eos_token_id is None:
        raise InputError(
            f"{name}: its tokenizer has no EOS token, so nothing that it trains can learn to stop"
        )
    first = tokenizer("a")["input_ids"][:1]
    bos = tokenizer.bos_token_id is not None and first == [tokenizer.bos_token_id]
    had, tokenizer.chat_template = tokenizer.chat_template, template(bos)
    if had and had != tokenizer.chat_template:
        said.append("the model's own chat template is replaced by Human/Assistant")
    if tokenizer.pad_token_id in (None, tokenizer.eos_token_id):
        tokenizer.pad_token = _padding(tokenizer)
        said.append(f"padding is `{tokenizer.pad_token}`, since it was EOS or missing")
    return said


def fit(model: Any, tokenizer: Any) -> Any:
    """The model, with embeddings for every token and the tokenizer's EOS and padding in its configs."""
    from transformers import GenerationConfig

    if model.get_input_embeddings().num_embeddings < len(tokenizer):
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    model.config.eos_token_id = tokenizer.eos_token_id
    model.config.pad_token_id = tokenizer.pad_token_id
    if model.can_generate():
        # A base's own way to sample (a repetition penalty, say) would bend the log-probabilities PPO reads.
        model.generation_config = GenerationConfig(
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    return model


def _padding(tokenizer: Any) -> str:
    """A token that no text has: unknown (byte-level tokenizers never write it), another one, a new one."""
    special = set(tokenizer.get_added_vocab()) & set(tokenizer.all_special_tokens)
    for one in (tokenizer.unk_token, *sorted(special)):
        if one not in (tokenizer.eos_token, tokenizer.bos_token, None):
            return str(one)
    tokenizer.add_special_tokens({"pad_token": PAD})
    return PAD
