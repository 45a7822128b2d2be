"""Failure: a call that gave no answer, what is to be done about it, and whether it may have been billed.

again       408, 409, 425, 429, 5xx, no connection, time out, cut or malformed answers: called again
filtered    HTTP 400 or 403 with the code of a content filter: the third state, kept as an answer
question    other 4xx: this question cannot be asked (too long, refused), others can
every call  401, 403, 404, a redirect, an unknown host, a bad certificate, no quota, an unknown
            parameter: all calls would fail, so the run ends with one error
"""

import email.utils
import math
import random
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

Remedy = Literal["again", "filtered", "question", "every call"]

FILTER_CODES = frozenset(
    {"content_filter", "content_policy_violation", "invalid_prompt", "ResponsibleAIPolicyViolation"}
)
EVERY_CALL_CODES = frozenset(
    {
        *("insufficient_quota", "billing_hard_limit_reached", "billing_not_active", "access_terminated"),
        *("invalid_api_key", "model_not_found", "DeploymentNotFound", "OperationNotSupported"),
        *("unsupported_parameter", "unsupported_value", "unknown_parameter", "invalid_api_version"),
    }
)
TOO_LONG_CODES = frozenset(
    {"context_length_exceeded", "exceed_context_size_error", "string_above_max_length"}
)
TOO_LONG = re.compile(
    r"context (length|size|window)|maximum context|too many tokens|prompt is too long", re.IGNORECASE
)
AGAIN_STATUS = frozenset({408, 409, 425, 429})
BILLED_STATUS = frozenset({408, 502, 504})
"""A gateway gave up waiting: the model behind it may have answered all the same."""
LONGEST_WAIT_S = 60.0
SHOWN_CHARS = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A call without an answer."""

    remedy: Remedy
    error: str
    """What happened, in one line; never holds a key."""
    status: int | None = None
    wait_s: float | None = None
    """How long the service asks to wait."""
    billed: bool = False
    """Whether the service may have done the work: the call's reservation then counts as spent."""
    advice: str = ""
    """What the user can do about an error that concerns every call."""
    too_long: bool = False
    """The prompt passes the model's context."""
    unreachable: bool = False
    """There was no connection."""
    too_fast: bool = False
    """Refused for the pace, whatever the question."""


def status_failure(status: int, body: Any, headers: Mapping[str, str], now: datetime) -> Failure:  # noqa: ANN401
    """What an HTTP status other than 200 means.

    Args:
        body: of the error, as JSON, or as text where it is none.
    """
    error = _error_object(body)
    code = str(error.get("code") or error.get("type") or "")
    inner = error.get("innererror")
    codes = {code, str(error.get("type")), str(inner.get("code")) if isinstance(inner, Mapping) else ""}
    message = _one_line(str(error.get("message") or (body if isinstance(body, str) else "")))
    named = f" {code}" if code and code != str(status) else ""
    said = f"HTTP {status}{named}" + (f": {message}" if message else "")
    if status in (400, 403) and codes & FILTER_CODES:
        return Failure(remedy="filtered", error=said, status=status)
    if status in (401, 403, 404) or 300 <= status < 400 or codes & EVERY_CALL_CODES:
        return Failure(remedy="every call", error=said, status=status, advice=_advice(status, codes))
    if status in AGAIN_STATUS or status >= 500:
        wait = retry_after_s(headers, now)
        return Failure(
            remedy="again",
            error=said,
            status=status,
            wait_s=wait,
            billed=status in BILLED_STATUS,
            too_fast=status == 429,
        )
    too_long = bool(codes & TOO_LONG_CODES) or bool(TOO_LONG.search(message))
    return Failure(remedy="question", error=said, status=status, too_long=too_long)


def retry_after_s(headers: Mapping[str, str], now: datetime) -> float | None:
    """How long the service asks to wait, in seconds: `retry-after-ms` (Azure), else `Retry-After` as
    seconds or as an HTTP date (RFC 9110, section 10.2.3); None where it says nothing that can be read."""
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    text = headers.get("retry-after")
    seconds = _number(text)
    if seconds is not None or text is None:
        return seconds
    try:
        until = email.utils.parsedate_to_datetime(text)
    except ValueError:
        return None
    until = until if until.tzinfo else until.replace(tzinfo=UTC)
    return max(0.0, (until - now).total_seconds())


def wait_before(attempt: int, asked_s: float | None, first_s: float, seed: str) -> float:
    """Seconds to wait after failed attempt number `attempt` (from 1).

    What the service asks for and up to a tenth more, so that waiting calls do not come back at once; where it
    asks for none or says nothing, first_s * 2^(attempt - 1), at most LONGEST_WAIT_S, times a random share
    between a half and one.

    Args:
        seed: of the random numbers: the same call waits the same time.
    """
    share = random.Random(f"{seed}:{attempt}").random()
    if asked_s:
        return asked_s * (1 + share / 10)
    return min(LONGEST_WAIT_S, first_s * 2.0 ** min(attempt - 1, 30)) * (0.5 + share / 2)


def _advice(status: int, codes: set[str]) -> str:
    if status == 401 or "invalid_api_key" in codes:
        return "the service does not accept the key: check it and the address it belongs to"
    if codes & {"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"}:
        return "the account has no money left or no plan: see the service's billing page, then run again"
    if status == 404 or codes & {"model_not_found", "DeploymentNotFound"}:
        return "the service knows no such model or deployment here: check source, endpoint and api_version"
    if 300 <= status < 400:
        return "the address answers with a redirect: name the final address"
    if codes & {"unsupported_parameter", "unsupported_value", "unknown_parameter"}:
        return "the model refuses a parameter: see hosted.temperature, hosted.limit_key and hosted.extra_body"
    return "ask whoever runs the service for the right to use this model"


def _error_object(body: Any) -> Mapping[str, Any]:  # noqa: ANN401  (JSON)
    if isinstance(body, Mapping):
        inner = body.get("error", body)
        return inner if isinstance(inner, Mapping) else {"message": str(inner)}
    return {}


def _one_line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= SHOWN_CHARS else f"{line[:SHOWN_CHARS]} ..."


def _number(text: str | None) -> float | None:
    try:
        value = float(text) if text is not None else math.nan
    except ValueError:
        return None
    return value if math.isfinite(value) and value >= 0 else None
