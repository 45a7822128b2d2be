"""Device: where a model runs, in which type, how much memory there is, and the cap on it."""

import gc
import os
import platform
import resource
import time
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import Literal

import torch

from tenbin.errors import BudgetError, Problem
from tenbin.memory import CUDA_CONTEXT_BYTES, MIB
from tenbin.types import JsonValue

CGROUPS, OWN_CGROUPS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
"""Where Linux says what groups of processes (containers, batch jobs) may have, and which are this one's."""
PACKAGES = ("tenbin", "torch", "transformers", "tokenizers", "safetensors", "numpy", "scipy", "fugashi")


@dataclass(frozen=True, slots=True)
class Device:
    """One GPU, or the CPU."""

    kind: Literal["cuda", "cpu"]
    name: str
    total_bytes: int | None
    """Memory of the GPU; None on a CPU, where no cap is set."""

    @property
    def torch(self) -> torch.device:
        """As torch names it."""
        return torch.device(self.kind)

    def dtype(self, wanted: Literal["auto", "bf16", "fp32"]) -> Literal["bf16", "fp32"]:
        """What "auto" means here: bf16 where the hardware multiplies it, fp32 elsewhere."""
        if wanted != "auto":
            return wanted
        if self.kind == "cuda":
            return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
        return "bf16" if _cpu_has_bf16() else "fp32"

    def cap(self, vram_mib: int | None) -> int | None:
        """Hold the process to `vram_mib` on the GPU, its context included; the cap in bytes.

        Raises:
            BudgetError: where the cap is below the context's own size.
        """
        if self.kind == "cpu" or self.total_bytes is None:
            return None
        cap = min(self.total_bytes, vram_mib * MIB) if vram_mib is not None else self.total_bytes
        if cap <= CUDA_CONTEXT_BYTES:
            raise BudgetError(
                Problem(
                    where="budget.vram_mib",
                    found=f"{vram_mib} MiB; the CUDA context alone takes {CUDA_CONTEXT_BYTES // MIB} MiB",
                    remedy="allow more",
                )
            )
        torch.cuda.set_per_process_memory_fraction((cap - CUDA_CONTEXT_BYTES) / self.total_bytes)
        return cap

    def host_room(self, host_mib: int | None) -> int:
        """Bytes of the computer's memory that training on a GPU may lock: these, or half of what is free.

        Raises:
            BudgetError: where less than `host_mib` is free.
        """
        if self.kind == "cpu":
            return 0
        free = _free_bytes()
        if host_mib is None:
            return free // 2
        if host_mib * MIB > free:
            raise BudgetError(
                Problem(
                    where="budget.host_mib",
                    found=f"{host_mib} MiB; {free // MIB} MiB of the computer's memory are free",
                    remedy="allow less, or leave it out for half of what is free",
                )
            )
        return host_mib * MIB

    def matrix_rate(self, dtype: Literal["bf16", "fp32"], *, for_s: float = 0.0) -> float:
        """Floating-point operations a second of a large matrix product.

        Args:
            for_s: seconds to measure for, or a little longer: a GPU that works for long works slower.
        """
        size = 4096 if self.kind == "cuda" else 1024
        kind = torch.bfloat16 if dtype == "bf16" else torch.float32
        x = torch.randn(size, size, device=self.torch, dtype=kind)

        def seconds(count: int) -> float:
            started = time.perf_counter()
            for _ in range(count):
                x @ x
            if self.kind == "cuda":
                torch.cuda.synchronize()
            return time.perf_counter() - started

        seconds(3)
        count, spent = 0, 0.0
        while not count or spent < for_s:
            spent += seconds(10)
            count += 10
        return 2 * size**3 * count / spent

    def warm_rate(self) -> float:
        """`matrix_rate` in bf16 right after other work, over half a second of a GPU's.

        A GPU that has worked for a while works slower than in its first milliseconds: this is the rate that
        the work before it could have had.
        """
        return self.matrix_rate("bf16", for_s=0.5 if self.kind == "cuda" else 0.0)

    def reset_peak(self) -> None:
        """Begin to measure the peak anew (on a GPU; the system keeps a CPU process's own)."""
        if self.kind == "cuda":
            torch.cuda.reset_peak_memory_stats()

    def release(self) -> None:
        """Give the GPU's memory that is kept for later back, before another process needs it."""
        gc.collect()
        if self.kind == "cuda":
            torch.cuda.empty_cache()

    def peak_mib(self) -> float:
        """Largest memory so far: reserved and context on a GPU, resident memory on a CPU."""
        if self.kind == "cuda":
            return (torch.cuda.max_memory_reserved() + CUDA_CONTEXT_BYTES) / MIB
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

    def environment(self) -> dict[str, JsonValue]:
        """Versions and hardware, for a run's environment.json."""
        versions: dict[str, JsonValue] = {}
        for package in PACKAGES:
            try:
                versions[package] = metadata.version(package)
            except metadata.PackageNotFoundError:
                versions[package] = None
        return {
            "versions": versions,
            "python": platform.python_version(),
            "system": platform.platform(),
            "device": self.name,
            "cuda": torch.version.cuda,
            "threads": torch.get_num_threads(),
            "cores": os.cpu_count(),
        }


def find_device() -> Device:
    """The first GPU where there is one, else the CPU."""
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        return Device("cuda", properties.name, properties.total_memory)
    return Device("cpu", _cpu_name(), None)


def _free_bytes() -> int:
    """Of the computer's memory, within what a container may have (Linux); 0 where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        return 0
    groups = [left for folder, names in _memory_groups() if (left := _left(folder, names)) is not None]
    return min([free, *groups])


def _memory_groups() -> list[tuple[Path, tuple[str, str]]]:
    """Folders that may say what this process and those beside it may have, with the names of two files there:
    the most, and what is used. A container has its own at the root, a batch job's lies below."""
    try:
        lines = OWN_CGROUPS.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    found: list[tuple[Path, tuple[str, str]]] = []
    for _, kinds, path in (line.split(":", 2) for line in lines):
        if not kinds:
            root, names = CGROUPS, ("memory.max", "memory.current")
        elif "memory" in kinds.split(","):  # of the first version
            root, names = CGROUPS / "memory", ("memory.limit_in_bytes", "memory.usage_in_bytes")
        else:
            continue
        own = PurePosixPath(path.lstrip("/"))
        found += [(root / group, names) for group in (own, *own.parents)]
    return found


def _left(group: Path, names: tuple[str, str]) -> int | None:
    """Bytes that a group may still have, counting files that are kept only in case they are read again; None
    where it may have all, or is none."""
    try:
        most, used = (int(group.joinpath(name).read_text("ascii")) for name in names)
        pairs = (line.split() for line in group.joinpath("memory.stat").read_text("ascii").splitlines())
        stat = {name: int(value) for name, value in pairs}
    except (OSError, ValueError):  # "max", or no such files
        return None
    prefix = "total_" if "total_inactive_file" in stat else ""
    kept = sum(stat.get(f"{prefix}{kind}", 0) for kind in ("active_file", "inactive_file"))
    return max(0, most - used + kept)


def _cpu_name() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:  # noqa: PTH123  (not a file of ours)
            names = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or "CPU"


def _cpu_has_bf16() -> bool:
    """Whether the processor multiplies bf16 itself (AMX or AVX-512 BF16); without that it is far slower."""
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))
