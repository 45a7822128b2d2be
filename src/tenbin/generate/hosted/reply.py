"""Reply: what a service answered, read strictly where it matters. What is not whole is no answer."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tenbin.types import StopReason

STOPPED = frozenset({"stop", "eos", "eos_token", "end_turn", "stop_sequence"})
CUT_OFF = frozenset({"length", "max_tokens"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A whole answer."""

    text: str
    stop_reason: StopReason
    error: str | None = None
    """Why there is no answer to score: refused by the content filter, or nothing but thought."""
    input_tokens: int | None = None
    cached_input_tokens: int = 0
    output_tokens: int | None = None
    """Tokens as the service counted them; None where it did not say."""
    model: str | None = None
    """As the service names it."""


class MalformedReply(ValueError):
    """The service answered 200, but this is no whole answer; the message says why."""


class _Tolerant(BaseModel):
    """Services add fields of their own to every object: those are not ours to refuse."""

    model_config = ConfigDict(extra="ignore", strict=True)


class _PromptDetails(_Tolerant):
    cached_tokens: int | None = Field(default=None, ge=0)


class _Usage(_Tolerant):
    prompt_tokens: int = Field(ge=0)
    completion_tokens: int = Field(ge=0)
    prompt_tokens_details: _PromptDetails | None = None


class _Said(_Tolerant):
    """`message` of a chat answer, `delta` of a chat stream."""

    content: str | None = None
    refusal: str | None = None


class _Choice(_Tolerant):
    message: _Said | None = None
    delta: _Said | None = None
    text: str | None = None
    """Of plain completions."""
    finish_reason: str | None = None


class _Body(_Tolerant):
    choices: list[_Choice]
    usage: Any = None
    """Read apart: an answer is not less whole where its tokens are counted in some other way."""
    model: Any = None


def read_reply(content: bytes) -> Reply:
    """The answer in a response's body.

    Raises:
        MalformedReply: it is not JSON, not an answer, or not whole.
    """
    body = _read(content)
    if not body.choices:
        raise MalformedReply("the list of choices is empty")
    choice = body.choices[0]
    said = _text(choice, choice.message)
    return _reply(said, choice.finish_reason, _usage(body.usage), body.model)


def read_stream(chunks: Sequence[Any]) -> Reply:
    """The answer in the pieces of a stream.

    Args:
        chunks: the pieces, as JSON values.

    Raises:
        MalformedReply: a piece is no piece of an answer, or the stream was cut off.
    """
    texts: list[str] = []
    reason: str | None = None
    usage: _Usage | None = None
    model: Any = None
    for chunk in chunks:
        body = _checked(chunk)
        usage, model = _usage(body.usage) or usage, body.model or model
        for choice in body.choices[:1]:
            texts.append(_text(choice, choice.delta) or "")
            reason = choice.finish_reason or reason
    if reason is None:
        raise MalformedReply(f"the stream was cut off after {len(chunks)} pieces")
    return _reply("".join(texts), reason, usage, model)


def _text(choice: _Choice, said: _Said | None) -> str | None:
    if said is None:
        return choice.text
    return said.refusal if said.content is None else said.content


def _usage(raw: Any) -> _Usage | None:  # noqa: ANN401  (JSON)
    try:
        return _Usage.model_validate(raw)
    except ValidationError:
        return None


def _reply(text: str | None, reason: str | None, usage: _Usage | None, model: Any) -> Reply:  # noqa: ANN401
    stop_reason, error = _ending(text, reason, usage)
    details = usage.prompt_tokens_details if usage else None
    cached = (details.cached_tokens if details else None) or 0
    return Reply(
        text=text or "",
        stop_reason=stop_reason,
        error=error,
        input_tokens=usage.prompt_tokens if usage else None,
        cached_input_tokens=min(cached, usage.prompt_tokens) if usage else 0,
        output_tokens=usage.completion_tokens if usage else None,
        model=model if isinstance(model, str) else None,
    )


def _ending(text: str | None, reason: str | None, usage: _Usage | None) -> tuple[StopReason, str | None]:
    if reason == "content_filter":
        return "content_filter", "the service's content filter stopped the answer"
    if reason is None:
        raise MalformedReply("the answer has no finish_reason")
    if reason in CUT_OFF:
        if text:
            return "length", None
        spent = f" of {usage.completion_tokens} tokens" if usage else ""
        return "error", f"nothing was said within the limit{spent}: raise hosted.reasoning_tokens"
    if reason not in STOPPED:
        return "error", f"the service ended the answer with finish_reason {reason[:40]!r}"
    if text is None:
        raise MalformedReply("the answer's content is null")
    return "stop", None


def _read(content: bytes) -> _Body:
    try:
        return _Body.model_validate_json(content)
    except ValidationError as error:
        raise MalformedReply(_why(error)) from None


def _checked(chunk: Any) -> _Body:  # noqa: ANN401  (JSON)
    try:
        return _Body.model_validate(chunk)
    except ValidationError as error:
        raise MalformedReply(_why(error)) from None


def _why(error: ValidationError) -> str:
    """What is wrong and where, without the values: they are not ours to repeat."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    if first["type"] == "json_invalid":
        return "the body is not whole JSON"
    return f"{place or 'the body'}: {first['msg'].lower()}"
