"""One vLLM engine for all tests on a worker: a start takes a minute, and each other model is a start."""

from collections.abc import Iterator
from importlib.util import find_spec

import pytest

from almost_data.generation import Model, vllm
from almost_data.generation.vllm import VLLMEngine

VLLM_OPTIONS = {
    "row_seeds": True,
    "enforce_eager": True,
    "max_model_len": 1024,
    "kv_cache_memory_bytes": 64 << 20,
}
"""No compilation, and little memory."""
ONE_PROCESS = "VLLM_ENABLE_V1_MULTIPROCESSING", "0"
"""Variable: the engine's process runs the model itself, as on a GPU, and one process less imports vLLM."""


@pytest.fixture(scope="session")
def vllm_engine() -> Iterator[VLLMEngine]:
    if not find_spec("vllm"):  # importing it here would be before the engine sets how it logs
        pytest.skip("vLLM is not installed")
    engine = VLLMEngine(**VLLM_OPTIONS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(*ONE_PROCESS)
        patch.setattr(vllm, "has_bfloat16", lambda device: False)  # in bfloat16 the batch changes a reply
        yield engine
    engine.close()


@pytest.fixture(scope="session")
def vllm_model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """The smallest model that vLLM takes: its CPU attention needs this head size."""
    from tests.tiny_models import CHAT_TEMPLATE, save_tiny

    sizes = {"hidden_size": 128, "head_dim": 32, "max_position_embeddings": 1024}
    folder = tmp_path_factory.mktemp("vllm")
    return Model(str(save_tiny(folder / "model", seed=1, template=CHAT_TEMPLATE, **sizes)))
