"""manifest -> README.md of a trained model."""

from collections.abc import Sequence
from typing import Any

from ..datasets.config import HUB_ID
from ..datasets.manifest import Manifest
from .alt_texts import alt_texts
from .card import card_settings, follows_paper, lineage, page
from .front_matter import with_front_matter


def render_model(
    manifest: Manifest,
    figures: list[str],
    ancestors: list[Manifest],
    evaluations: Sequence[Any] = (),
    index: Sequence[dict[str, Any]] = (),
) -> str:
    """The text of README.md of a trained model.

    `figures` are the paths of the figures beside the card (`plots_model.render`), `ancestors` the
    manifests of what it was made from, nearest first, as far as they are in the store; `evaluations` and
    `index` the results of benchmarks, for people and as the Hub's `model-index`.
    """
    recipe = recipe_name(manifest)
    is_almost = follows_paper([ancestor for ancestor in ancestors if ancestor.kind == "dataset"])
    text = page(
        "model.md.jinja",
        manifest=manifest,
        settings=manifest.config["settings"],
        diagnostics=manifest.diagnostics,
        figures=figures,
        alts=alt_texts(manifest),
        rebuild_commands=[manifest.environment["command"]],
        rebuild_needs={},
        recipe=recipe,
        is_almost=is_almost,
        inputs=_inputs(manifest),
        lineage=lineage([manifest, *ancestors]),
        evaluations=evaluations,
    )
    head = _model_head(manifest, recipe, is_almost) | ({"model-index": list(index)} if index else {})
    return with_front_matter(head, text)


def recipe_name(manifest: Manifest) -> str:
    """The recipe that trained a model: `rm`, `sft`, `ppo`, `rloo`."""
    return manifest.builder.name.rpartition("/")[2]


def _model_head(manifest: Manifest, recipe: str, is_almost: bool) -> dict[str, Any]:
    base, dataset = manifest.config["base"]["id"], manifest.config["dataset"]["ref"].partition("@")[0]
    on_hub: dict[str, Any] = {"base_model": base} if HUB_ID.fullmatch(base) else {}
    on_hub |= {"datasets": [dataset]} if HUB_ID.fullmatch(dataset) else {}
    tags = [*["almost"] * is_almost, "almost_data", "trl", recipe, *["reward-model"] * (recipe == "rm")]
    return {
        **card_settings(manifest),
        **on_hub,
        "library_name": "transformers",
        "pipeline_tag": "text-classification" if recipe == "rm" else "text-generation",
        "tags": tags,
    }


def _inputs(manifest: Manifest) -> list[dict[str, Any]]:
    """The base model, the dataset and the other models that a model was made from, and what pins each."""
    config, digests = manifest.config, {parent.ref: parent.digest for parent in manifest.parents}
    base, data, reward_model = config["base"], config["dataset"], config.get("reward_model")
    inputs = [("base model", base["id"], base["revision"]), ("dataset", data["ref"], data["revision"])]
    if reward_model:
        inputs.append(("reward model", reward_model["id"], reward_model["revision"]))
    listed = {ref for _, ref, _ in inputs}
    inputs += [("parent", ref, None) for ref in digests if ref not in listed]
    keys = ("what", "ref", "revision", "digest")
    return [dict(zip(keys, (*source, digests.get(source[1])), strict=True)) for source in inputs]
