"""[model.hosted]: how a hosted model is reached and called, the sources that name one, and sums of money."""

import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from tenbin.config_section import Section

Kind = Literal["openai", "azure", "http", "vllm"]
"""vllm: a server that tenbin itself starts; no source names one of this kind."""

FORMS = "openai:MODEL, azure:DEPLOYMENT, or http://HOST:PORT/v1#MODEL"
ENVIRONMENT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
OURS = frozenset(
    {
        *("model", "messages", "prompt", "max_tokens", "max_completion_tokens"),
        *("temperature", "stop", "stream", "stream_options", "n"),
    }
)
"""Parameters that have a key of their own or follow from the task; extra_body must not change them."""
SECRET_NAMES = frozenset({"api_key", "apikey", "api-key", "authorization", "token", "key", "password"})
MONEY = re.compile(r"\s*(?P<amount>\d+(?:\.\d+)?)\s*(?P<currency>[A-Za-z$¥円]+)?\s*")
CURRENCIES: dict[str | None, Literal["USD", "JPY"]] = {
    **{None: "USD", "usd": "USD", "dollars": "USD", "dollar": "USD", "$": "USD"},
    **{"jpy": "JPY", "yen": "JPY", "円": "JPY", "¥": "JPY"},
}


@dataclass(frozen=True, slots=True)
class Money:
    """A sum of money."""

    amount: float
    currency: Literal["USD", "JPY"]

    def __str__(self) -> str:
        return f"{self.amount:g} {self.currency}"


def parse_money(value: str | float) -> Money:
    """A sum as users write it; a bare number is in dollars.

    Raises:
        ValueError: what else it says.

    >>> parse_money("800 JPY")
    Money(amount=800.0, currency='JPY')
    """
    found = MONEY.fullmatch(value if isinstance(value, str) else f"{value:.12f}")
    written = found["currency"].lower() if found and found["currency"] else None
    if found is None or written not in CURRENCIES or float(found["amount"]) <= 0:
        raise ValueError('write a sum above 0 as "5 USD" or "800 JPY"')
    return Money(float(found["amount"]), CURRENCIES[written])


@dataclass(frozen=True, slots=True)
class HostedSource:
    """What the source of a hosted model says."""

    kind: Kind
    model: str
    """Model, or Azure's deployment."""
    base_url: str | None = None
    """Of http: the address before `#`; of vllm: the name of what is served."""


def is_hosted(source: str) -> bool:
    """Whether a source names a hosted model."""
    return source.startswith(("openai:", "azure:", "http://", "https://"))


def hosted_source(source: str) -> HostedSource:
    """Take the source of a hosted model apart.

    Raises:
        ValueError: what is wrong with it; the message never holds what may be a password.
    """
    if source.startswith(("http://", "https://")):
        address, _, model = source.partition("#")
        check_url(address, "the source")
        if not model.strip():
            raise ValueError("the source names no model: write http://HOST:PORT/v1#MODEL")
        return HostedSource("http", model.strip(), address.rstrip("/"))
    kind, _, model = source.partition(":")
    if kind not in ("openai", "azure") or not model.strip():
        raise ValueError(f"the source names no hosted model: write {FORMS}")
    return HostedSource("openai" if kind == "openai" else "azure", model.strip())


def check_url(url: str, what: str) -> None:
    """Refuse an address that is not plain http or https.

    Raises:
        ValueError: what is wrong with it.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise ValueError(f"{what} is no address that can be read") from None
    if parts.scheme not in ("http", "https") or not host:
        raise ValueError(f"{what} is no http or https address")
    if "@" in parts.netloc:
        raise ValueError(f"{what} holds a name or password: name the key's environment variable instead")
    if parts.query:
        raise ValueError(f"{what} holds a query (?...): write the address alone")


def _environment_name(name: str) -> str:
    # A plain error without the value: people paste the key itself here.
    if not ENVIRONMENT_NAME.fullmatch(name):
        raise ValueError("name the environment variable that holds the key, never the key itself")
    return name


def _endpoint(url: str) -> str:
    check_url(url, "endpoint")
    return url.rstrip("/")


def _entry(entry: str) -> str:
    service, slash, user = entry.rpartition("/")
    if not (service and slash and user):
        raise ValueError("name the keyring's entry as SERVICE/USER")
    return entry


def _temperature(value: float | str | None) -> float | str | None:
    if isinstance(value, float | int) and not 0 <= value <= 2:
        raise ValueError(f"must lie between 0 and 2, not {value}")
    return value


def _money(value: str | float) -> str | float:
    parse_money(value)
    return value


def _body(body: dict[str, Any]) -> dict[str, Any]:
    ours = sorted(OURS & body.keys())
    secret = sorted(name for name in body if name.lower() in SECRET_NAMES)
    if ours:
        raise ValueError(f"extra_body cannot set {', '.join(ours)}: they have keys of their own")
    if secret:
        raise ValueError(f"extra_body holds {', '.join(secret)}: a key never stands in a file")
    return body


MoneyText = Annotated[str | float, AfterValidator(_money)]


class HostedSection(Section):
    """[model.hosted]: how a hosted model is reached, how fast and how often it is asked, and for how much."""

    endpoint: Annotated[str, AfterValidator(_endpoint)] | None = None
    """azure: the resource's address, `https://NAME.openai.azure.com`."""
    api_version: str | None = Field(default=None, min_length=1)
    """azure: the date of the API, `2024-10-21`."""
    auth: Literal["key", "entra"] = "key"
    """azure: a key, or a Microsoft Entra token (AZURE_OPENAI_AD_TOKEN, else from azure-identity)."""
    api_key_env: Annotated[str, AfterValidator(_environment_name)] | None = None
    """Environment variable that holds the key. Without it OPENAI_API_KEY or AZURE_OPENAI_API_KEY; http
    servers get no key unless one is named here."""
    keyring: Annotated[str, AfterValidator(_entry)] | None = None
    """Entry of the system's keyring, SERVICE/USER, instead of an environment variable."""
    endpoint_kind: Literal["chat", "completions"] = "chat"
    """completions: the prompt as plain text, as local base models get it."""
    stream: bool = False
    """Read answers piece by piece; a stalled answer is noticed after `stall_timeout_s`."""
    concurrency: int = Field(default=8, ge=1, le=1024)
    """Most calls at once."""
    requests_per_minute: int | None = Field(default=None, ge=1)
    tokens_per_minute: int | None = Field(default=None, ge=1)
    """Prompt and answer together."""
    timeout_s: float = Field(default=120.0, gt=0)
    """Most seconds of one call."""
    connect_timeout_s: float = Field(default=10.0, gt=0)
    stall_timeout_s: float = Field(default=30.0, gt=0)
    """Most seconds between two pieces of a stream."""
    attempts: int = Field(default=8, ge=1, le=100)
    """Most calls for one answer."""
    first_wait_s: float = Field(default=1.0, gt=0)
    """Before a failed call is sent again, unless the service says how long; doubles with every failure."""
    longest_wait_s: float = Field(default=300.0, gt=0)
    """A service that asks for a longer wait than this ends the run; the same command goes on later."""
    repeats: int = Field(default=1, ge=1, le=1000)
    """Answers asked for each question."""
    temperature: Annotated[float | Literal["unset"] | None, AfterValidator(_temperature)] = None
    """Instead of the task's (0). "unset": not sent, for models that refuse it."""
    limit_key: Literal["max_tokens", "max_completion_tokens"] | None = None
    """What the service calls the most new tokens. Without it max_tokens for http and plain completions."""
    reasoning_tokens: int = Field(default=0, ge=0)
    """Added to the most new tokens, for models that think before they answer."""
    max_cost: MoneyText | None = None
    """Most that this model may cost in this study folder, "5 USD" or "800 JPY"."""
    price: str | None = None
    """Name in the price file, where it is not the model's."""
    extra_body: Annotated[dict[str, Any], AfterValidator(_body)] = Field(default={})
    """More parameters of the service, sent as they are."""


def hosted_mistakes(source: str, hosted: HostedSection | None, tokenizer: str | None) -> list[str]:
    """What does not fit together in a [[model]]; each names its key."""
    if not is_hosted(source):
        return [] if hosted is None else [f"hosted: the model is local; hosted ones are {FORMS}"]
    mistakes = [] if tokenizer is None else ["tokenizer: a hosted model's tokenizer is not ours to choose"]
    try:
        kind = hosted_source(source).kind
    except ValueError as error:
        return [*mistakes, f"source: {error}"]
    section = hosted or HostedSection()
    for key in ("endpoint", "api_version"):
        value = getattr(section, key)
        if kind == "azure" and value is None:
            mistakes.append(f"hosted.{key} is missing: azure models need it")
        if kind != "azure" and value is not None:
            mistakes.append(f"hosted.{key} is only for azure models")
    if kind != "azure" and section.auth == "entra":
        mistakes.append('hosted.auth = "entra" is only for azure models')
    if section.auth == "entra" and (section.api_key_env or section.keyring):
        mistakes.append('hosted.auth = "entra" takes no api_key_env and no keyring')
    if section.api_key_env and section.keyring:
        mistakes.append("hosted.api_key_env and hosted.keyring: name one of the two")
    return mistakes
