"""A server on 127.0.0.1 that speaks OpenAI's protocol, sees every byte, and fails as it is told to.

What it does for a request is an `Act`: bytes and pauses in order, then the connection stays open or is cut.
A script chooses the act from the request and from how often the same prompt has come before.
"""

import asyncio
import contextlib
import json
import random
import ssl
import sys
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

HANG = float("inf")
"""A pause that ends when the client goes away."""


@dataclass(frozen=True)
class Seen:
    """One request as it came."""

    line: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def path(self):
        return self.line.split(" ")[1]

    @property
    def prompt(self):
        body = self.json
        return body["prompt"] if "prompt" in body else body["messages"][-1]["content"]

    @property
    def streams(self):
        return bool(self.json.get("stream"))

    def header(self, name):
        """The header's only value; None where there is none."""
        values = [value for key, value in self.headers if key.lower() == name.lower()]
        assert len(values) <= 1, values
        return values[0] if values else None


@dataclass(frozen=True)
class Act:
    """What the server does: bytes to send and seconds to pause."""

    pieces: tuple[bytes | float, ...]
    cut: bool = False
    """Close the connection afterwards."""
    whole: bool = False
    """Whether this is a good answer."""


Script = Callable[[Seen, int], Act]


def head(status, length, headers=(), kind="application/json"):
    lines = [f"HTTP/1.1 {status} X", f"Content-Type: {kind}", *(f"{k}: {v}" for k, v in headers)]
    if length is not None:
        lines.append(f"Content-Length: {length}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def status(code, body, headers=()):
    """A whole response with this status."""
    content = body if isinstance(body, bytes) else json.dumps(body, ensure_ascii=False).encode()
    return Act((head(code, len(content), headers) + content,))


def error(code, message="no", name=None, headers=(), **more):
    """OpenAI's error object."""
    return status(code, {"error": {"message": message, "code": name, "type": None, **more}}, headers)


def answer_body(text, *, finish="stop", plain=False, usage=(7, 3), cached=None, model="served", **choice):
    said = {"text": text} if plain else {"message": {"role": "assistant", "content": text}}
    body = {"id": "x", "model": model, "choices": [{"index": 0, "finish_reason": finish, **said, **choice}]}
    if usage:
        body["usage"] = {"prompt_tokens": usage[0], "completion_tokens": usage[1], "total_tokens": sum(usage)}
        if cached is not None:
            body["usage"]["prompt_tokens_details"] = {"cached_tokens": cached}
    return body


def ok(text, **more):
    """A good answer."""
    content = json.dumps(answer_body(text, **more), ensure_ascii=False).encode()
    return Act((head(200, len(content)) + content,), whole=True)


def chunk(data):
    """One piece of a stream, in HTTP's chunked coding."""
    content = f"data: {data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)}\n\n".encode()
    return f"{len(content):x}\r\n".encode() + content + b"\r\n"


def streamed(text, *, plain=False, finish="stop", usage=(7, 3), size=2):
    """A good answer, piece by piece."""
    pieces = [stream_head()]
    for start in range(0, len(text), size):
        part = text[start : start + size]
        said = {"text": part} if plain else {"delta": {"content": part}}
        pieces.append(chunk({"choices": [{"index": 0, "finish_reason": None, **said}]}))
    last = {"text": ""} if plain else {"delta": {}}
    pieces.append(chunk({"choices": [{"index": 0, "finish_reason": finish, **last}]}))
    if usage:
        pieces.append(
            chunk({"choices": [], "usage": {"prompt_tokens": usage[0], "completion_tokens": usage[1]}})
        )
    return Act((*pieces, chunk("[DONE]") + b"0\r\n\r\n"), whole=True)


def stream_head():
    lines = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    return lines.encode()


def answered(seen):
    """The right answer to a request: its prompt, marked, in the form that was asked for."""
    text, plain = f"答え: {seen.prompt}", "prompt" in seen.json
    return streamed(text, plain=plain) if seen.streams else ok(text, plain=plain)


def _half(act):
    whole = b"".join(p for p in act.pieces if isinstance(p, bytes))
    return whole[: len(whole) - 20]


def faults(seen):
    """Every way to fail that ends by itself, by name."""
    content = json.dumps(answer_body(f"答え: {seen.prompt}"), ensure_ascii=False).encode()
    good = answered(seen)
    return {
        "429": error(429, "slow down", "rate_limit_exceeded"),
        "429 with Retry-After": error(429, "slow down", "rate_limit_exceeded", [("Retry-After", "0.01")]),
        "429 with retry-after-ms": error(429, "slow down", "429", [("retry-after-ms", "15")]),
        "500": error(500, "oops"),
        "502": status(502, b"<html>Bad Gateway</html>"),
        "503 with Retry-After": error(503, "busy", headers=[("Retry-After", "0")]),
        "stall before the head": Act((HANG,)),
        "stall in the body": Act((_half(good), HANG)),
        "cut before the head": Act((), cut=True),
        "cut in the body": Act((_half(good),), cut=True),
        "malformed JSON": Act((head(200, len(content) - 9) + content[:-9],)),
        "length too great": Act((head(200, len(content) + 50) + content,), cut=True),
        "length too small": Act((head(200, len(content) - 7) + content,), cut=True),
        "empty choices": status(200, {**answer_body("x"), "choices": []}),
        "null content": status(200, answer_body(None)),
        "not JSON at all": status(200, b"ok"),
        "no finish_reason": status(200, answer_body("半分", finish=None)),
        "nothing": Act((head(200, 0),)),
        "not UTF-8": Act((head(200, len(content)) + content[:-40] + b"\xff" + content[-39:],)),
    }


def random_faults(seed, share, leave_out=()):
    """A script that fails in a share of the requests, the same way whatever the order in which they come."""

    def script(seen, number):
        chance = random.Random(f"{seed}:{seen.prompt}:{number}")
        if chance.random() >= share:
            return answered(seen)
        choices = faults(seen)
        return choices[chance.choice([name for name in choices if name not in leave_out])]

    return script


@dataclass
class FaultServer:
    """Runs in a thread. `with FaultServer(script) as server: ... server.url`"""

    script: Script
    seen: list[Seen] = field(default_factory=list)
    given: Counter = field(default_factory=Counter)
    """Prompt -> good answers that were sent whole."""
    asked: Counter = field(default_factory=Counter)
    """Prompt -> requests that came."""
    most_at_once: int = 0
    keep_seen: bool = True
    port: int = 0
    tls: ssl.SSLContext | None = None
    _at_once: int = 0

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}/v1"

    def __enter__(self):
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(30)
        return self

    def __exit__(self, *_):
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(30)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(30)
        self._loop.close()

    async def _start(self):
        self._tasks = set()
        self._server = await asyncio.start_server(
            self._serve, "127.0.0.1", self.port, backlog=1024, ssl=self.tls
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def _end(self):
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def _serve(self, reader, writer):
        self._tasks.add(asyncio.current_task())
        try:
            while (seen := await self._read(reader)) is not None:
                number = self.asked[seen.prompt]
                self.asked[seen.prompt] += 1
                if self.keep_seen:
                    self.seen.append(seen)
                self._at_once += 1
                self.most_at_once = max(self.most_at_once, self._at_once)
                try:
                    act = self.script(seen, number)
                    await self._do(act, reader, writer)
                finally:
                    self._at_once -= 1
                if act.whole:
                    self.given[seen.prompt] += 1
                if act.cut:
                    return
        except (ConnectionError, asyncio.IncompleteReadError):
            return
        except asyncio.CancelledError:
            return
        finally:
            self._tasks.discard(asyncio.current_task())
            writer.close()
            with contextlib.suppress(Exception):
                await writer.wait_closed()

    async def _read(self, reader):
        line = await reader.readline()
        if not line:
            return None
        headers = []
        while (text := (await reader.readline()).decode("latin-1").rstrip("\r\n")) != "":
            name, _, value = text.partition(":")
            headers.append((name, value.strip()))
        length = next(int(v) for k, v in headers if k.lower() == "content-length")
        return Seen(line.decode("latin-1").strip(), tuple(headers), await reader.readexactly(length))

    async def _do(self, act, reader, writer):
        for piece in act.pieces:
            if isinstance(piece, bytes):
                writer.write(piece)
                await writer.drain()
            elif piece == HANG:
                await reader.read(1)  # b"" when the client goes away
                raise ConnectionResetError
            else:
                await asyncio.sleep(piece)


def main():
    """Serve random faults until standard input ends, then print what was asked and given as JSON."""
    seed, share = int(sys.argv[1]), float(sys.argv[2])
    with FaultServer(random_faults(seed, share), keep_seen=False) as server:
        print(server.port, flush=True)
        sys.stdin.read()
        print(json.dumps({"asked": server.asked, "given": server.given}), flush=True)


if __name__ == "__main__":
    main()
