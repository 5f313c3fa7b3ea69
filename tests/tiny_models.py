"""Tiny random models and a tokenizer for them, made where a test runs and gone with it."""

from pathlib import Path
from typing import Any

CORPUS = [
    "Human: What is the tallest tree in the garden, and how old is it?",
    "Assistant: The tallest tree is an oak, and nobody knows how old it is.",
    "A good way to learn is to write down what you did not know yesterday.",
    "Bread rises because the yeast eats sugar and breathes out a gas.\n\n-----\n\n",
]
WINDOW = 8
"""Sliding window of the models that have one: shorter than any prompt here."""


def tiny_tokenizer(bos: bool = False) -> Any:
    """Byte-level BPE of about 300 tokens, `<eos>` 0, `<bos>` 1; with `bos`, put first by itself."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.train_from_iterator(
        CORPUS,
        trainers.BpeTrainer(
            vocab_size=320,
            special_tokens=["<eos>", "<bos>"],
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        ),
    )
    if bos:
        backend.post_processor = processors.TemplateProcessing(
            single="<bos>:0 $A:0", special_tokens=[("<bos>", 1)]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="<eos>", bos_token="<bos>", pad_token="<eos>"
    )


CHAT_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'system' and not loop.first %}"
    "{{ raise_exception('a system turn comes first') }}{% endif %}"
    "<{{ m.role }}>{{ m.content }}{{ eos_token }}\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% if enable_thinking %}<think>\n{% endif %}{% endif %}"
)
"""A template that writes `<bos>` itself, takes a system turn in the first place only, and has an option."""


def tiny_config(kind: str, vocabulary: int, **changes: Any) -> Any:
    from transformers import BloomConfig, Gemma3TextConfig, GPT2Config, LlamaConfig, MistralConfig

    common: dict[str, Any] = {
        "vocab_size": vocabulary,
        "hidden_size": 32,
        # Wide enough that the weights, not the embedding of the last token, decide what comes next.
        "initializer_range": 0.3,
        "eos_token_id": 0,
        "bos_token_id": 1,
        "pad_token_id": 0,
    }
    decoder: dict[str, Any] = {
        "intermediate_size": 48,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 256,
        "head_dim": 8,
    }
    if kind == "llama":
        return LlamaConfig(**{**common, **decoder, "num_hidden_layers": 2, **changes})
    if kind == "mistral":
        return MistralConfig(**common, **decoder, num_hidden_layers=2, sliding_window=WINDOW, **changes)
    if kind == "gemma3":
        layers = {"layer_types": ["sliding_attention", "sliding_attention", "full_attention"]}
        return Gemma3TextConfig(
            **common, **decoder, **layers, num_hidden_layers=3, sliding_window=WINDOW, **changes
        )
    if kind == "gpt2":
        return GPT2Config(
            **{key: value for key, value in common.items() if key != "hidden_size"},
            n_embd=32,
            n_layer=2,
            n_head=4,
            n_positions=256,
            **changes,
        )
    if kind == "bloom":  # its position bias is built from a 2D mask, so it takes no 4D one
        return BloomConfig(**common, n_layer=2, n_head=4, **changes)
    raise ValueError(kind)


def save_tiny(
    folder: Path,
    kind: str = "llama",
    seed: int = 0,
    bos: bool = False,
    template: str | None = None,
    **changes: Any,
) -> Path:
    """A random fp32 model of the `kind` and its tokenizer, saved in `folder`."""
    import torch
    from transformers import AutoModelForCausalLM

    tokenizer = tiny_tokenizer(bos)
    tokenizer.chat_template = template
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(
        tiny_config(kind, len(tokenizer), **changes), dtype=torch.float32
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


REWARD_TEMPLATE = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{{ eos_token }}{% endfor %}"
"""A chat template whose text ends in EOS, as one for TRL's RewardTrainer should."""


def tiny_pair_tokenizer() -> Any:
    """As `tiny_tokenizer`, but a text becomes `[CLS] a [SEP]`, and two become `[CLS] a [SEP] b [SEP]`."""
    from tokenizers import processors
    from transformers import PreTrainedTokenizerFast

    backend = tiny_tokenizer()._tokenizer
    names = ["[PAD]", "[CLS]", "[SEP]"]
    backend.add_special_tokens(names)
    numbers = [(name, backend.token_to_id(name)) for name in names]
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0", pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1", special_tokens=numbers[1:]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )


def tiny_reward_model(
    kind: str = "llama", template: str | None = REWARD_TEMPLATE, labels: int = 1, seed: int = 0
) -> tuple[Any, Any]:
    """A random sequence classifier of the `kind` (also `bert`), fp32, and its tokenizer."""
    import torch
    from transformers import AutoModelForSequenceClassification, BertConfig

    if kind == "bert":
        tokenizer = tiny_pair_tokenizer()
        config = BertConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=48,
            max_position_embeddings=256,
            initializer_range=0.3,
            pad_token_id=tokenizer.pad_token_id,
        )
    else:
        tokenizer = tiny_tokenizer()
        config = tiny_config(kind, len(tokenizer))
        tokenizer.chat_template = template
    config.num_labels = labels
    torch.manual_seed(seed)
    return AutoModelForSequenceClassification.from_config(config, dtype=torch.float32).eval(), tokenizer


def save_tiny_reward(folder: Path, kind: str = "llama", **options: Any) -> Path:
    """`tiny_reward_model`, saved in `folder`."""
    model, tokenizer = tiny_reward_model(kind, **options)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
