"""Serving: what vLLM serves of one local model, and how: makes its server, and the generators that ask it."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tenbin.config_hosted import HostedSection, HostedSource
from tenbin.config_vllm import VllmSection
from tenbin.device import Device
from tenbin.generate.hosted import served
from tenbin.generate.hosted.request import Service
from tenbin.generate.vllm import Launch, VllmGenerator, VllmServer, find_command
from tenbin.memory import MIB
from tenbin.models.adapters import read_folder
from tenbin.models.loading import ModelSource
from tenbin.study.adapter import Adapter
from tenbin.types import JsonValue

LORA_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""That vLLM makes room for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """One model and its server's settings; nothing runs."""

    label: str
    source: ModelSource
    section: VllmSection
    base: Path
    """Folder that a relative path of the executable starts from."""
    chat: bool
    device: Device
    share: float | None
    """Of the GPU's memory; None: vLLM's own, or no GPU."""
    offline: bool
    adapters: tuple[Adapter, ...] = ()
    """Served beside the model as it is."""

    def server(self, log: Path, say: Callable[[str], None]) -> VllmServer:
        """The server, not started; its executable must be there.

        Raises:
            ModelError: there is no such executable.
        """
        self.device.release()
        launch = Launch(
            where=f"model {self.label}",
            command=find_command(self.section.command, f"model {self.label}", self.base),
            name=self.label,
            arguments=self.arguments(),
            log=log,
            timeout_s=self.section.start_timeout_s,
            offline=self.offline,
        )
        return VllmServer(launch, say)

    def arguments(self) -> tuple[str, ...]:
        """Of `vllm serve`.

        `--generation-config vllm`: else vLLM takes a repetition penalty from the model's folder, and answers
        at temperature 0 are no greedy ones.
        """
        section, source = self.section, self.source
        found = [str(source.folder.resolve()), "--generation-config", "vllm", "--dtype", section.dtype]
        if source.tokenizer != source.folder:
            found += ["--tokenizer", str(source.tokenizer.resolve())]
        if section.max_model_len is not None:
            found += ["--max-model-len", str(section.max_model_len)]
        if self.share is not None:
            found += ["--gpu-memory-utilization", f"{self.share:.4f}"]
        if self.adapters:
            rank = max(read_folder(adapter.folder).config.rank for adapter in self.adapters)
            room = next((most for most in LORA_RANKS if most >= rank), rank)
            found += ["--enable-lora", "--max-lora-rank", str(room), "--lora-modules"]
            found += [f"{served_name(adapter)}={adapter.folder.resolve()}" for adapter in self.adapters]
        return (*found, *section.args)

    def generator(
        self,
        folder: Path,
        server: VllmServer,
        say: Callable[[str], None],
        *,
        model_id: str,
        adapter: Adapter | None = None,
    ) -> VllmGenerator:
        """Asks the model as it is, or with one of its adapters.

        Args:
            folder: the study folder, which keeps the answers.
        """
        return VllmGenerator(served(self.label, folder, self.service(adapter), model_id, say), server)

    def service(self, adapter: Adapter | None = None) -> Service:
        """Names the answers by everything that shapes them."""
        shaping = [self.settings, str(self.source.tokenizer), adapter.fingerprint if adapter else None]
        digest = hashlib.sha256(json.dumps(shaping, sort_keys=True).encode()).hexdigest()[:8]
        source = HostedSource(
            "vllm",
            served_name(adapter) if adapter else self.label,
            f"vllm:{self.source.fingerprint}/{digest}",
        )
        hosted = HostedSection(
            endpoint_kind="chat" if self.chat else "completions",
            concurrency=self.section.concurrency,
            timeout_s=self.section.timeout_s,
            # A server of one's own that does not answer has ended, and will not come back.
            attempts=3,
            first_wait_s=0.25,
        )
        return Service(source=source, hosted=hosted)

    @property
    def settings(self) -> dict[str, JsonValue]:
        """Of the server, that shape answers."""
        section = self.section
        return {"dtype": section.dtype, "max_model_len": section.max_model_len, "args": list(section.args)}

    @property
    def weight_bytes(self) -> int:
        """Of the model in the type that it is served in."""
        return self.source.shape.num_params() * (4 if self.section.dtype == "float32" else 2)


def served_name(adapter: Adapter) -> str:
    """What the server calls a model with this adapter; two of one name differ."""
    return f"{adapter.name}-{adapter.fingerprint[:8]}"


def memory_share(section: VllmSection, device: Device, vram_mib: int | None) -> float | None:
    """What vLLM may take of the GPU; None: its own choice, or no GPU."""
    if section.memory_share is not None:
        return section.memory_share
    if vram_mib is None or device.total_bytes is None:
        return None
    return min(1.0, vram_mib * MIB / device.total_bytes)
