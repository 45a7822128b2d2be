"""LocalModel: a model of the study on this machine: found, planned, loaded, and the runs made with it."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import torch

from tenbin.config import ModelConfig, resolve_path
from tenbin.data.inspection import TokenCounter
from tenbin.decoder.base_types import make_frozen, move_rest
from tenbin.decoder.decoder import Decoder
from tenbin.decoder.shortage import is_shortage
from tenbin.device import Device, find_device
from tenbin.errors import BudgetError
from tenbin.models.adapters import read_adapter
from tenbin.models.encode import Encoder
from tenbin.models.loading import ModelSource, empty_model, load_model, resolve_source
from tenbin.models.lora import activate, inject
from tenbin.models.tokenizer import load_tokenizer
from tenbin.runs import Run, RunResult, RunSpec
from tenbin.study.adapter import Given
from tenbin.study.asking_plan import AskingPlan, asking_local
from tenbin.study.candidate import Candidate
from tenbin.study.planning import ModelPlan, plan_model
from tenbin.study.prepare import Prepared
from tenbin.study.screen import Screen
from tenbin.study.specs import run_specs
from tenbin.types import GenerationConfig, Message

ADAPTER = "given"


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalModel:
    """One model of the study, resolved and planned, its weights not loaded."""

    model: ModelConfig
    source: ModelSource
    encoder: Encoder
    plan: ModelPlan
    specs: tuple[RunSpec, ...]
    device: Device
    matrix_rate: float | None = None
    """Of the device, as measured: floating-point operations a second."""
    given: Given | None = None
    """An adapter that is evaluated with the model."""

    @property
    def token_counter(self) -> TokenCounter:
        """Tokens of texts."""
        return self.encoder.count

    def asking(
        self, prepared: Prepared, prompts: Sequence[Sequence[Message]], config: GenerationConfig
    ) -> AskingPlan:
        """What other questions than the study's own would take of it; loads no weights."""
        return asking_local(
            [len(self.encoder.prompt(prompt)[0]) for prompt in prompts],
            config.max_new_tokens,
            self.source.shape,
            weight_bytes=self.plan.memory.terms["weights"],
            dtype_bytes=2 if self.device.dtype(prepared.config.training.dtype) == "bf16" else 4,
            cap_bytes=self.plan.memory.cap_bytes,
            matrix_rate=self.matrix_rate,
        )

    def is_done(self, run: Run) -> bool:
        """Whether the run is finished."""
        return run.done

    def work(self, prepared: Prepared, runs: Sequence[Run], screen: Screen) -> Iterator[RunResult]:
        """Load the model and do these runs, in order; neighbouring trainings several at once."""
        config = prepared.config
        dtype, base = self.device.dtype(config.training.dtype), config.training.base_dtype
        loaded = load_model(
            self.source,
            dtype=torch.bfloat16 if dtype == "bf16" else torch.float32,
            # Weights in fewer bits are made on the way: a GPU may have no room for the whole ones.
            device=self.device.torch if base == "same" else "cpu",
        )
        decoder = None
        if base != "same" or any(run.spec.kind == "train" for run in runs):
            if config.training.learning_rates:
                inject(loaded.model, config.lora.targets)
            if self.given is not None:
                inject(loaded.model)  # any that it has weights for, before they are held in fewer bits
            if base != "same":
                move_rest(loaded.model, self.device.torch)
            decoder = Decoder(loaded.model, make_frozen(base, self.device.torch))
        candidate = Candidate(
            config=config,
            prepared=prepared,
            loaded=loaded,
            dtype=dtype,
            encoder=self.encoder,
            plan=self.plan,
            device=self.device,
            screen=screen,
            decoder=decoder,
            environment=self.device.environment(),
        )
        if self.given is not None:
            read_adapter(loaded.model, self.given.adapter.folder, ADAPTER)
        for kind, group in groupby(runs, key=lambda run: run.spec.kind):
            if kind == "train":
                for together in batched(group, self.plan.at_once):
                    yield from _trained(candidate, together)
                continue
            for run in group:
                if run.spec.variety == "adapter":
                    with activate(loaded.model, ADAPTER):
                        yield candidate.evaluate_base(run)
                else:
                    yield candidate.evaluate_base(run)


def _trained(candidate: Candidate, runs: Sequence[Run]) -> Iterator[RunResult]:
    """Train several runs at once; one after another where not even the least of that fits the device.

    Each goes on from its own checkpoint.
    """
    try:
        yield from candidate.train(runs)
        return
    except (BudgetError, RuntimeError) as error:
        if len(runs) == 1 or not (isinstance(error, BudgetError) or is_shortage(error)):
            raise
    # Out of the handler, whose traceback holds on to the adapters.
    said = "one run after another"
    candidate.say_shortage(said)
    left = [run for run in runs if not run.done]
    for run in left:
        run.log("memory", retried_with=said)
    for run in left:
        yield from candidate.train([run])


def batched(items: Iterable[Run], most: int) -> Iterator[list[Run]]:
    """Runs of at most `most` items, in order."""
    left = list(items)
    for start in range(0, len(left), most):
        yield left[start : start + most]


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What planning a local model needs to know of this machine; measured once for all models."""

    device: Device
    matrix_rate: float
    """Floating-point operations a second."""
    cap_bytes: int | None
    host_bytes: int
    """Of the computer's memory, for what blocks leave there."""


def look_at_machine(prepared: Prepared) -> Machine:
    """Find the device, hold the process to the study's cap, and measure a matrix product."""
    device = find_device()
    return Machine(
        device=device,
        matrix_rate=device.matrix_rate(device.dtype(prepared.config.training.dtype)),
        cap_bytes=device.cap(prepared.config.budget.vram_mib),
        host_bytes=device.host_room(prepared.config.budget.host_mib),
    )


def plan_local(
    prepared: Prepared,
    machine: Machine,
    model: ModelConfig,
    *,
    cache_dir: Path,
    offline: bool,
    weights: bool,
    screen: Screen,
    given: Given | None = None,
) -> LocalModel:
    """Resolve and plan one model; loads its tokenizer and shape, no weights.

    Args:
        weights: whether a hub model's weights are fetched too.

    Raises:
        UserError: everything that is wrong with the model.
    """
    config = prepared.config
    dtype = machine.device.dtype(config.training.dtype)
    source = find_model(prepared, model, cache_dir=cache_dir, offline=offline, weights=weights, screen=screen)
    if config.training.learning_rates and config.lora.targets != "all-linear":
        inject(empty_model(source), config.lora.targets)  # refuses a target that matches nothing
    encoder = Encoder(load_tokenizer(source.tokenizer), chat=config.prompt.chat)
    plan = plan_model(
        config,
        model.label,
        source.shape,
        encoder,
        prepared.task,
        prepared.splits.train.examples if config.training.learning_rates else (),
        {split: d.examples for split, d in prepared.datasets().items() if split != "train"},
        cap_bytes=machine.cap_bytes,
        host_bytes=machine.host_bytes,
        dtype_bytes=2 if dtype == "bf16" else 4,
        gpu=machine.device.kind == "cuda",
        matrix_rate=machine.matrix_rate,
    )
    specs = run_specs(config, prepared, model, fingerprint=source.fingerprint, plan=plan, dtype=dtype)
    if given is not None:
        given.adapter.check(source)
        specs = given.specs(specs)
    return LocalModel(
        model=model,
        source=source,
        encoder=encoder,
        plan=plan,
        specs=tuple(specs),
        device=machine.device,
        matrix_rate=machine.matrix_rate,
        given=given,
    )


def find_model(
    prepared: Prepared,
    model: ModelConfig,
    *,
    cache_dir: Path,
    offline: bool,
    weights: bool,
    screen: Screen,
) -> ModelSource:
    """One model of the study: a path of the study file where there is such a file or folder, else a hub name.

    Raises:
        ModelError: it is not to be had, or not usable.
    """
    return find_from(
        prepared.study_file.parent,
        model,
        cache_dir=cache_dir,
        offline=offline,
        weights=weights,
        screen=screen,
    )


def find_from(
    base: Path, model: ModelConfig, *, cache_dir: Path, offline: bool, weights: bool, screen: Screen
) -> ModelSource:
    """The same with paths that start from a folder.

    Raises:
        ModelError: it is not to be had, or not usable.
    """

    def located(source: str) -> str:
        path = resolve_path(source, base / "study.toml")
        return str(path) if path.exists() else source

    return resolve_source(
        located(model.local_source),
        tokenizer=located(model.tokenizer) if model.tokenizer else None,
        cache_dir=cache_dir,
        offline=offline,
        weights=weights,
        progress=screen.say,
    )
