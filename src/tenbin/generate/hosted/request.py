"""HostedRequest: one call as it is sent, and the name of its answer, made of everything that is sent."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tenbin.config_hosted import HostedSection, HostedSource
from tenbin.generate.hosted.answers import Billed
from tenbin.generate.hosted.tokens import most_tokens, ruled_tokens
from tenbin.types import GenerationConfig, JsonValue, Message

OPENAI_URL = "https://api.openai.com/v1"
MOST_STOPS = 4
"""Services take no more. Sending them only saves tokens: all are cut off here too."""
KEY_VERSION = 1
"""Goes up when requests of equal content would get other answers than before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """Where a model is and how it is asked: what is the same in all its requests."""

    source: HostedSource
    hosted: HostedSection
    at: str | None = None
    """Where calls go, of a server that tenbin started: its port, another one each time, names nothing."""

    @property
    def address(self) -> str:
        """Of the API; Azure's is the resource's. Part of the name of every answer."""
        if self.source.kind == "azure":
            assert self.hosted.endpoint is not None, "checked with the study file"
            return self.hosted.endpoint
        return self.source.base_url or OPENAI_URL

    @property
    def path(self) -> str:
        """Behind the address; the library puts Azure's deployment in."""
        return "/chat/completions" if self.hosted.endpoint_kind == "chat" else "/completions"

    @property
    def settings(self) -> dict[str, JsonValue]:
        """Everything that shapes the answers besides prompt and task; holds no key."""
        hosted = self.hosted
        return {
            "kind": self.source.kind,
            "address": self.address,
            "api_version": hosted.api_version,
            "model": self.source.model,
            "endpoint_kind": hosted.endpoint_kind,
            "temperature": hosted.temperature,
            "limit_key": self.limit_key,
            "reasoning_tokens": hosted.reasoning_tokens,
            "extra_body": dict(hosted.extra_body),
        }

    @property
    def fingerprint(self) -> str:
        """First 16 hex digits of the SHA-256 of the settings."""
        return _digest(self.settings)[:16]

    @property
    def limit_key(self) -> str:
        """What the service calls the most new tokens."""
        if self.hosted.limit_key is not None:
            return self.hosted.limit_key
        newer = self.source.kind in ("openai", "azure") and self.hosted.endpoint_kind == "chat"
        return "max_completion_tokens" if newer else "max_tokens"


@dataclass(frozen=True, slots=True, kw_only=True)
class HostedRequest:
    """One question as it is sent."""

    key: str
    """Content's name: SHA-256 of address, model, kind, everything sent, and the number of the repeat."""
    body: Mapping[str, Any] = field(repr=False)
    stop: tuple[str, ...]
    """Texts that end the answer; those that begin with white space are not sent, see `make_request`."""
    ruled_tokens: float
    """Prompt tokens by the rule."""
    most: Billed
    """The most tokens that a call can take."""


def make_request(
    service: Service, messages: Sequence[Message], config: GenerationConfig, repeat: int
) -> HostedRequest:
    """What is sent for one prompt.

    Stop texts that begin with white space are not sent, only cut off here: a service ends an answer at the
    first "\\n" even where the model begins with one, and then nothing is left of the answer. LocalGenerator
    lets white space before the first character pass, and so does `first_stop`.
    """
    hosted = service.hosted
    most_output = config.max_new_tokens + hosted.reasoning_tokens
    body: dict[str, Any] = {"model": service.source.model}
    if hosted.endpoint_kind == "chat":
        body["messages"] = [{"role": m.role, "content": m.content} for m in messages]
    else:
        # As models.encode puts a prompt to a base model: joined, spaces at its end left to the answer.
        body["prompt"] = "".join(m.content for m in messages).rstrip(" ")
    body[service.limit_key] = most_output
    temperature = config.temperature if hosted.temperature is None else hosted.temperature
    if temperature != "unset":
        body["temperature"] = temperature
    sent_stop = [text for text in config.stop if text and not text[0].isspace()]
    if sent_stop:
        body["stop"] = sent_stop[:MOST_STOPS]
    body |= hosted.extra_body
    key = _digest({"version": KEY_VERSION, **_place(service), "body": body, "repeat": repeat})
    if hosted.stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    return HostedRequest(
        key=key,
        body=body,
        stop=config.stop,
        ruled_tokens=ruled_tokens(messages),
        most=Billed(most_tokens(messages), most_output),
    )


def _place(service: Service) -> dict[str, JsonValue]:
    return {
        "kind": service.source.kind,
        "address": service.address,
        "api_version": service.hosted.api_version,
        "endpoint_kind": service.hosted.endpoint_kind,
    }


def _digest(value: object) -> str:
    canonical = json.dumps(value, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(canonical.encode(errors="surrogatepass")).hexdigest()
