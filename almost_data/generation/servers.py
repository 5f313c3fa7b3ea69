"""The servers of the openai engine as a user sets them: address, models, key, rates, price."""

import os
from typing import Annotated
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from ..errors import InputError

DEFAULT_KEY = "OPENAI_API_KEY"
"""The environment variable with the key of the servers in `engine.base_url`, where it is set."""
_Positive = Annotated[float, Meta(gt=0)]
_Money = Annotated[float, Meta(ge=0)]


class Price(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a million tokens cost, in any currency."""

    input: _Money
    output: _Money

    def of(self, prompt_tokens: float, completion_tokens: float) -> float:
        """
        >>> Price(input=0.5, output=1.5).of(1_000_000, 200_000)
        0.8
        """
        return (self.input * prompt_tokens + self.output * completion_tokens) / 1e6


class Server(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One table of `engine.servers`. Models of several prices at one address are several tables."""

    base_url: str
    """Address up to `/v1`."""
    models: tuple[str, ...] = ()
    """Its models by the names that it knows them by; without any, it is asked for their list."""
    key: Annotated[str, Meta(pattern="^[A-Z_][A-Z0-9_]*$")] | None = None
    """Name of the environment variable that holds its key. Without it no key is sent."""
    requests_per_minute: _Positive | None = None
    tokens_per_minute: _Positive | None = None
    """Of prompts and replies together."""
    price: Price | None = None
    """Price of a million tokens in the prompt (`input`) and in the reply (`output`)."""

    @property
    def url(self) -> str:
        return self.base_url.rstrip("/")

    @property
    def host(self) -> str:
        """HOST:PORT. The error about an invalid address omits it: it may hold a secret."""
        url = self.base_url
        try:
            parts = urlsplit(url)
            valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            valid = False
        if not valid or any(c in url for c in "@?# ") or not url.isprintable():
            raise InputError(
                "engine.base_url: an address looks like http://HOST:PORT/v1, with http or https and without "
                f"a user, password or query; the key goes into {DEFAULT_KEY}, or into the variable that a "
                "server's key names"
            )
        return parts.netloc

    def api_key(self) -> str | None:
        """The key, read at each use and stored nowhere, so that nothing can show it."""
        if self.key is None:
            return None
        key = os.environ.get(self.key, "").strip()
        if not key and self.key != DEFAULT_KEY:
            raise InputError(f"engine.servers: {self.key}, the key of {self.host}, is not in the environment")
        if not (key.isascii() and key.isprintable()) or " " in key:
            raise InputError(f"{self.key} holds a character that no HTTP header can carry")
        return key or None
