"""Connection: sends one call to a service through the `openai` library, once, and says what came of it.

The library's own retries are off: every call is counted, paced and paid for above. No exception of the
library leaves this file, since its frames hold the key.
"""

import asyncio
import json
import socket
import ssl
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import fields, replace
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

import httpx2
import openai

from tenbin.generate.hosted.failures import Failure, status_failure
from tenbin.generate.hosted.logs import struck_logs
from tenbin.generate.hosted.reply import MalformedReply, Reply, read_reply, read_stream
from tenbin.generate.hosted.request import HostedRequest, Service
from tenbin.generate.hosted.secret import Secret

ENTRA_SCOPE = "https://cognitiveservices.azure.com/.default"
OWN_MACHINE = ("all://127.0.0.1", "all://localhost", "all://[::1]")
"""Reached past the proxy that the environment names."""
UNSENT = (
    *("Lang", "Package-Version", "OS", "Arch", "Runtime", "Runtime-Version"),
    *("Retry-Count", "Read-Timeout", "Async"),
)
"""The library's `X-Stainless-` headers, which tell of the machine: they stay here."""


class NoTokenError(Exception):
    """There is no Entra token to be had."""


class StalledError(Exception):
    """A stream went still."""


class Connection:
    """An open connection to one service; used within one event loop."""

    def __init__(self, service: Service, secret: Secret | None) -> None:
        self._service = service
        self._secrets = [secret] if secret else []
        self._options: Any = {"headers": self._omitted(secret)}
        self._client = self._make_client(secret)
        # OPENAI_CUSTOM_HEADERS of the environment would go to every server, and in the place of our key.
        self._client._custom_headers = {}
        self._open = ExitStack()

    async def __aenter__(self) -> "Connection":
        self._open.enter_context(struck_logs(self.strike))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._open:
            await self._client.close()

    async def call(self, request: HostedRequest) -> tuple[Reply | Failure, float]:
        """Send a request once: its answer or why there is none, and the seconds it took."""
        started = time.perf_counter()
        outcome = self._struck(await self._outcome(request))
        return outcome, time.perf_counter() - started

    async def _outcome(self, request: HostedRequest) -> Reply | Failure:
        hosted = self._service.hosted
        try:
            async with asyncio.timeout(hosted.timeout_s):
                return await (self._stream(request) if hosted.stream else self._whole(request))
        except StalledError:
            error = f"nothing came for {hosted.stall_timeout_s:g} s in the middle of the answer"
            return Failure(remedy="again", error=error, billed=True)
        except TimeoutError:
            return Failure(remedy="again", error=f"no answer within {hosted.timeout_s:g} s", billed=True)
        except openai.APIConnectionError as caught:
            return self._connection_failure(caught)
        except openai.APIStatusError as caught:
            headers = {name.lower(): value for name, value in caught.response.headers.items()}
            return status_failure(caught.status_code, caught.body, headers, datetime.now(UTC))
        except openai.APIError as caught:  # an error object within a stream
            failure = status_failure(400, caught.body, {}, datetime.now(UTC))
            if failure.remedy in ("filtered", "every call"):
                return failure
            error = f"the stream ended in an error: {failure.error}"
            return Failure(remedy="again", error=error, billed=True)
        except MalformedReply as caught:
            return Failure(remedy="again", error=f"malformed answer: {caught}", billed=True)
        except (json.JSONDecodeError, UnicodeDecodeError, RecursionError):
            error = "malformed answer: a piece of the stream is not whole JSON"
            return Failure(remedy="again", error=error, billed=True)
        except NoTokenError:
            advice = "sign in (`az login`), or set AZURE_OPENAI_AD_TOKEN"
            return Failure(remedy="every call", error="no Microsoft Entra token could be got", advice=advice)
        except openai.OpenAIError as caught:
            error = f"the library refused the call: {type(caught).__name__}"
            return Failure(remedy="every call", error=error)

    async def _whole(self, request: HostedRequest) -> Reply:
        response = await self._client.post(
            self._service.path, cast_to=httpx2.Response, body=dict(request.body), options=self._options
        )
        return read_reply(response.content)

    async def _stream(self, request: HostedRequest) -> Reply:
        stream = await self._client.post(
            self._service.path,
            cast_to=object,
            body=dict(request.body),
            options=self._options,
            stream=True,
            stream_cls=openai.AsyncStream[object],
        )
        pieces: list[object] = []
        async with stream:
            following = aiter(stream)
            while True:
                try:  # the first piece may take as long as the call: the prompt is read before it
                    async with asyncio.timeout(self._service.hosted.stall_timeout_s if pieces else None):
                        pieces.append(await anext(following))
                except StopAsyncIteration:
                    return read_stream(pieces)
                except TimeoutError:
                    raise StalledError from None

    def _connection_failure(self, error: openai.APIConnectionError) -> Failure:
        causes = _causes(error)
        hosted, address = self._service.hosted, self._address
        if any(isinstance(cause, socket.gaierror) for cause in causes):
            advice = "check the address, the network and the proxy settings"
            return Failure(remedy="every call", error=f"no host of that name: {address}", advice=advice)
        if any(isinstance(cause, ssl.SSLCertVerificationError) for cause in causes):
            found = f"the certificate of {address} cannot be verified"
            advice = "set SSL_CERT_FILE to your company's certificates, or correct the address"
            return Failure(remedy="every call", error=found, advice=advice)
        if any(isinstance(cause, httpx2.ConnectTimeout) for cause in causes):
            found = f"no connection within {hosted.connect_timeout_s:g} s"
            return Failure(remedy="again", error=found, unreachable=True)
        if any(isinstance(cause, httpx2.ProxyError) for cause in causes):
            advice = "check the proxy settings (HTTPS_PROXY, NO_PROXY)"
            return Failure(remedy="every call", error="the proxy refuses the connection", advice=advice)
        if any(isinstance(cause, httpx2.ConnectError) for cause in causes):
            return Failure(remedy="again", error=f"no connection to {address}", unreachable=True)
        if any(isinstance(cause, httpx2.TimeoutException) for cause in causes):
            return Failure(remedy="again", error=f"no answer within {hosted.timeout_s:g} s", billed=True)
        kind = type(causes[1]).__name__ if len(causes) > 1 else type(error).__name__
        return Failure(remedy="again", error=f"the connection was cut: {kind}", billed=True)

    @property
    def _address(self) -> str:
        return self._service.at or self._service.address

    def _struck(self, outcome: Reply | Failure) -> Reply | Failure:
        """The same without any key: services repeat what they were sent."""
        texts = {f.name: getattr(outcome, f.name) for f in fields(outcome)}
        struck: dict[str, Any] = {name: self.strike(t) for name, t in texts.items() if isinstance(t, str)}
        return replace(outcome, **struck)

    def strike(self, text: str) -> str:
        """The text without any key."""
        for secret in self._secrets:
            text = secret.strike(text)
        return text

    def _omitted(self, secret: Secret | None) -> dict[str, openai.Omit]:
        """Headers that the library would send and we do not want."""
        names = [f"X-Stainless-{name}" for name in UNSENT]
        if self._service.source.kind in ("http", "vllm"):
            # What the environment says of OpenAI's organization is no business of other servers.
            names += ["OpenAI-Organization", "OpenAI-Project"]
        if self._service.source.kind != "azure" and secret is None:
            names.append("Authorization")
        return {name: openai.Omit() for name in names}

    def _make_client(self, secret: Secret | None) -> openai.AsyncOpenAI:
        hosted = self._service.hosted
        timeout = httpx2.Timeout(hosted.timeout_s, connect=hosted.connect_timeout_s, pool=None)
        limits = httpx2.Limits(
            max_connections=hosted.concurrency, max_keepalive_connections=hosted.concurrency
        )
        shared: dict[str, Any] = {
            "max_retries": 0,
            "timeout": timeout,
            "http_client": httpx2.AsyncClient(
                timeout=timeout, limits=limits, follow_redirects=False, mounts=dict.fromkeys(OWN_MACHINE)
            ),
        }
        if self._service.source.kind == "azure":
            if secret is None or hosted.auth == "entra":
                key: dict[str, Any] = {"azure_ad_token_provider": self._token_provider(secret)}
            else:
                key = {"api_key": secret.reveal()}
            return openai.AsyncAzureOpenAI(
                azure_endpoint=self._service.address, api_version=hosted.api_version, **key, **shared
            )
        key_text = secret.reveal() if secret else "none"
        return openai.AsyncOpenAI(api_key=key_text, base_url=self._address, **shared)

    def _token_provider(self, secret: Secret | None) -> Callable[[], Awaitable[str]]:
        """Gives the Entra token: the one in the environment, else a fresh one from azure-identity."""
        if secret is not None:

            async def given() -> str:
                return secret.reveal()

            return given
        from azure.core.exceptions import ClientAuthenticationError
        from azure.identity import DefaultAzureCredential, get_bearer_token_provider

        fetch = get_bearer_token_provider(DefaultAzureCredential(), ENTRA_SCOPE)

        async def fetched() -> str:
            try:
                token = Secret(await asyncio.to_thread(fetch))
            except ClientAuthenticationError:
                raise NoTokenError from None
            self._secrets = [*self._secrets[-1:], token]
            return token.reveal()

        return fetched


def _causes(error: BaseException) -> list[BaseException]:
    """The error, what caused it, and so on."""
    found: list[BaseException] = []
    following: BaseException | None = error
    while following is not None and following not in found:
        found.append(following)
        following = following.__cause__ or following.__context__
    return found
