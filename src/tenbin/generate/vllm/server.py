"""VllmServer: `vllm serve` as a process that is started when first needed and ended for certain."""

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from tenbin.errors import ModelError, Problem
from tenbin.generate.hosted.secret import DEFAULT_VARIABLE, ENTRA_VARIABLE, Secret
from tenbin.generate.vllm import guard
from tenbin.runs import storage

LOOK_EVERY_S = 0.25
SAY_EVERY_S = 15.0
LAST_LINES = 15
"""Of its log, in errors."""
NO_PROXY = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """What is started for one model."""

    where: str
    """Names the model in errors."""
    command: str
    """Path of the executable."""
    name: str
    """What the server calls the model."""
    arguments: tuple[str, ...]
    """Of `vllm serve`: the model, then options; without address and name."""
    log: Path
    timeout_s: float
    grace_s: float = 15.0
    """From the request to end until what is left of it is killed."""
    offline: bool = False

    def line(self, port: int) -> list[str]:
        """The whole command line."""
        address = ("--host", "127.0.0.1", "--port", str(port), "--served-model-name", self.name)
        return [self.command, "serve", *self.arguments, *address]


@dataclass(frozen=True, slots=True)
class Reached:
    """A server that answers."""

    address: str
    """Up to `/v1`."""
    key: Secret
    """Made for this server alone: nobody else on this machine can ask it."""


def find_command(command: str, where: str, base: Path) -> str:
    """Path of the executable.

    Args:
        command: a name on PATH, or a path.
        base: folder that a relative path starts from.

    Raises:
        ModelError: it is not there.
    """
    named = Path(os.path.expandvars(command)).expanduser()
    path = shutil.which(base / named if len(named.parts) > 1 else command)
    if path is None:
        remedy = "install vLLM (pip install vllm, best in an environment of its own), and put it on PATH or"
        remedy += " name it: vllm.command"
        raise ModelError(Problem(where=where, found=f"there is no executable {command}", remedy=remedy))
    return str(path)


class VllmServer:
    """One server; a context that ends it. Also ended when this process ends, however it ends: see `guard`."""

    def __init__(self, launch: Launch, say: Callable[[str], None]) -> None:
        self.launch = launch
        self.version: str | None = None
        """As the server says it; None before it answers, or where it does not say."""
        self._say = say
        self._process: subprocess.Popen[bytes] | None = None
        self._reached: Reached | None = None

    def __enter__(self) -> "VllmServer":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def reach(self) -> Reached:
        """Where the server is; starts it and waits until it answers, if it does not run yet.

        Raises:
            ModelError: it ended, or did not answer in time; with the last lines of its log.
        """
        if self._reached is None:
            self._reached = self._start()
        return self._reached

    @property
    def ended(self) -> Problem | None:
        """That it ended by itself, with its last lines; None while it runs, or was never started."""
        if self._process is None or (code := self._process.poll()) is None:
            return None
        return self._problem(f"vLLM ended with exit code {code}")

    def fallen(self) -> Problem | None:
        """The same after a call failed: where the server answers no more, its end is waited for."""
        if self._process is None or self._reached is None:
            return None
        if get(f"{self._reached.address.removesuffix('/v1')}/health") is None:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(self.launch.grace_s + 5)
        return self.ended

    def close(self) -> None:
        """End the server with all its processes; returns when they are gone."""
        process, self._process, self._reached = self._process, None, None
        if process is None:
            return
        assert process.stdin is not None
        process.stdin.close()
        # Never kill the guard: whatever stops this wait, it goes on to end the server.
        with suppress(subprocess.TimeoutExpired):
            process.wait(2 * self.launch.grace_s + 10)

    def _start(self) -> Reached:
        launch, port, key = self.launch, free_port(), secrets.token_urlsafe(24)
        with storage(launch.log):
            launch.log.parent.mkdir(parents=True, exist_ok=True)
            with launch.log.open("wb") as log:
                self._process = subprocess.Popen(
                    [sys.executable, "-I", guard.__file__, str(launch.grace_s), *launch.line(port)],
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=environment(key, offline=launch.offline),
                    start_new_session=True,
                )
        try:
            reached = Reached(f"http://127.0.0.1:{port}/v1", Secret(key))
            self._wait(port, reached)
        except BaseException:
            self.close()
            raise
        return reached

    def _wait(self, port: int, reached: Reached) -> None:
        started = said = time.monotonic()
        self._say(f"{self.launch.where}: vLLM is starting; its log: {self.launch.log}")
        while get(f"http://127.0.0.1:{port}/health") is None:
            now = time.monotonic()
            if (ended := self.ended) is not None:
                raise ModelError(ended)
            if now - started > self.launch.timeout_s:
                found = f"vLLM did not answer within {self.launch.timeout_s:g} s (vllm.start_timeout_s)"
                raise ModelError(self._problem(found))
            if now - said >= SAY_EVERY_S:
                said = now
                self._say(f"{self.launch.where}: vLLM is starting, {now - started:.0f} s so far")
            time.sleep(LOOK_EVERY_S)
        listed = get(f"{reached.address}/models", reached.key)
        names = [model.get("id") for model in (listed or {}).get("data", [])]
        if self.launch.name not in names:
            raise ModelError(self._problem(f"the server serves {names}, not {self.launch.name}"))
        version = (get(f"http://127.0.0.1:{port}/version") or {}).get("version")
        self.version = version if isinstance(version, str) else None
        self._say(f"{self.launch.where}: vLLM answers after {time.monotonic() - started:.0f} s")

    def _problem(self, found: str) -> Problem:
        lines = last_lines(self.launch.log, LAST_LINES)
        said = "".join(f"\n    | {line}" for line in lines) or " nothing"
        return Problem(
            where=self.launch.where,
            found=f"{found}; the last it said:{said}",
            remedy=f"the whole log is {self.launch.log}; its options: [model.vllm]",
        )


def free_port() -> int:
    """A port of this machine that nobody uses at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def environment(key: str, *, offline: bool) -> dict[str, str]:
    """This process's own, with the server's key, and without what is not for the server."""
    found = dict(os.environ)
    if found.get("PYTORCH_ALLOC_CONF") == "expandable_segments:True":
        del found["PYTORCH_ALLOC_CONF"]  # tenbin sets it for itself; vLLM has memory pools of its own
    for name in (*DEFAULT_VARIABLE.values(), ENTRA_VARIABLE):
        found.pop(name, None)  # keys of services are none of its business
    found |= {"VLLM_API_KEY": key, "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
    if offline:
        found |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    return found


def get(url: str, key: Secret | None = None) -> "dict[str, list[dict[str, object]]] | None":
    """What a server on this machine answers: an object, {} if it is none; None where there is no answer."""
    headers = {"Authorization": f"Bearer {key.reveal()}"} if key else {}
    try:
        with NO_PROXY.open(urllib.request.Request(url, headers=headers), timeout=5.0) as response:
            text = response.read()
    except (OSError, urllib.error.URLError):
        return None
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def last_lines(path: Path, most: int) -> list[str]:
    """The end of a log, without empty lines."""
    try:
        text = path.read_bytes()[-20_000:].decode("utf-8", "replace")
    except OSError:
        return []
    lines = [line.rstrip()[:300] for line in text.replace("\r", "\n").split("\n")]
    return [line for line in lines if line.strip()][-most:]
