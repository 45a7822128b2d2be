"""Plan: each model's lengths in tokens, what fits, and what is cut or left out. Loads no weights."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tenbin.config import StudyConfig
from tenbin.errors import DataError, ModelError, Problem
from tenbin.memory import (
    ALL,
    CPU_MICRO_BATCH,
    GPU_MICRO_BATCH,
    LENGTH_STEP,
    MemoryPlan,
    cache_tokens,
    longest_fitting,
    plan_training,
)
from tenbin.memory_reading import MOST_ROWS
from tenbin.models.encode import Encoded, Encoder
from tenbin.models.shape import ModelShape
from tenbin.tasks.base import Task
from tenbin.types import Example, JsonValue

MATRIX_SHARE = 0.6
"""Of the matrix rate: what training reached from 2,048 tokens on an H200 (7B). Shorter rows reach less."""
FILLING_TOKENS = 512
"""Tokens of one step that fill a large GPU; see docs/performance.md."""
MOST_AT_ONCE = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """The examples of one split as one model will see them."""

    examples: tuple[Example, ...]
    left_out: tuple[str, ...] = ()
    """Ids."""
    cut: dict[str, int] = field(default_factory=dict)
    """Id -> characters cut from the end of the longest input."""
    encoded: tuple[Encoded, ...] = field(default=(), repr=False)
    """Of a training set: the examples as token ids."""
    lengths: tuple[int, ...] = field(default=(), repr=False)
    """Of an evaluation set: tokens of the prompts that fit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelPlan:
    """What one model of the study will do."""

    model: str
    memory: MemoryPlan
    limit_tokens: int
    """Longest training example that the cap and the model's positions allow."""
    max_length: int
    """Longest training example, prompt and target, that will be used."""
    max_input_tokens: int
    """Longest prompt in evaluation."""
    num_train_tokens: int
    """Of one epoch."""
    train: Fitted
    evaluation: dict[str, Fitted]
    flops: float = 0.0
    """Floating-point operations of one training run, all epochs."""
    at_once: int = 1
    """Runs that are trained at once over one copy of the weights."""
    cache_tokens: int = 0
    """Prompt and answer tokens that an evaluation holds at once."""
    train_s: float | None = None
    """About how long one training run takes, without its evaluations; None where nothing was measured."""

    def to_json(self) -> dict[str, JsonValue]:
        """For plan.json and the report."""
        return {
            "model": self.model,
            "fits": self.memory.fits,
            "terms": dict(self.memory.terms),
            "total_bytes": self.memory.total_bytes,
            "cap_bytes": self.memory.cap_bytes,
            "most_tokens": self.memory.most_tokens,
            "kept": self.memory.levels.describe(self.memory.most_tokens),
            "host_bytes": self.memory.host_bytes,
            "at_once": self.at_once,
            "cache_tokens": self.cache_tokens,
            "limit_tokens": self.limit_tokens,
            "max_length": self.max_length,
            "longest_tokens": max((len(e) for e in self.train.encoded), default=0),
            "max_input_tokens": self.max_input_tokens,
            "num_train_tokens": self.num_train_tokens,
            "flops_per_run": self.flops,
            "train_s_per_run": self.train_s,
            "left_out": {"train": list(self.train.left_out)}
            | {split: list(f.left_out) for split, f in self.evaluation.items()},
            "cut": {"train": self.train.cut} | {split: f.cut for split, f in self.evaluation.items()},
        }


def plan_model(
    config: StudyConfig,
    label: str,
    shape: ModelShape,
    encoder: Encoder,
    task: Task,
    training: Sequence[Example],
    evaluation: dict[str, Sequence[Example]],
    *,
    cap_bytes: int | None,
    dtype_bytes: int,
    gpu: bool,
    host_bytes: int = 0,
    matrix_rate: float | None = None,
) -> ModelPlan:
    """Plan one model.

    Args:
        host_bytes: of the computer's memory, for what blocks leave there.
        matrix_rate: operations a second of a large matrix product on the device, for the time.

    Raises:
        BudgetError: where the model does not fit the cap at any length.
        DataError: with every example that is too long, where `data.too_long` is "error".
    """
    common: dict[str, Any] = {
        "rank": config.lora.rank,
        "dtype_bytes": dtype_bytes,
        "cap_bytes": cap_bytes,
        "decode_tokens": 0,  # answers are written before or after a step, never beside it
        "gpu": gpu,
        "base": config.training.base_dtype,
    }
    limit = longest_fitting(shape, **common)
    wanted = config.training.max_length
    most = limit if wanted == "fit" else min(wanted, limit)
    positions = shape.max_positions - task.generation.max_new_tokens
    most_input = min(positions, config.generation.max_input_tokens or positions)

    problems = _no_room(config, label, shape, task)
    if problems:
        raise DataError(problems)
    train = _fit(config, encoder, task, training, most, target=True, problems=problems)
    fitted = {
        split: _fit(config, encoder, task, examples, most_input, target=False, problems=problems)
        for split, examples in evaluation.items()
    }
    if not train.examples and config.training.learning_rates and not problems:
        found = f"{label}: none of the {len(training)} training examples fits {most} tokens"
        remedy = 'allow more (training.max_length, budget), or set data.too_long to "cut"'
        problems.append(Problem(where="training.max_length", found=found, remedy=remedy))
    if problems:
        raise DataError(problems)
    encoded = train.encoded
    longest = max((len(e) for e in encoded), default=0)
    num_tokens = sum(len(e) for e in encoded)
    num_targets = sum(len(e.target_ids) for e in encoded)
    mean_context = sum(len(e) * (len(e) + 1) / 2 for e in encoded) / max(1, num_tokens)
    per_token = shape.flops_per_token(
        mean_context, head_share=num_targets / max(1, num_tokens), training=True
    )
    flops = per_token * num_tokens * config.training.epochs
    fixed = config.training.micro_batch_tokens
    micro = max(fixed or _micro_batch(shape, limit, common), longest)
    at_once = _at_once(config, shape, micro, num_tokens / max(1, len(encoded)), common)
    common["host_bytes"] = host_bytes  # what fits, and how much at once, was found without it
    memory = plan_training(shape, most_tokens=micro, num_adapters=at_once, **common)
    room = cache_tokens(memory, shape, dtype_bytes, gpu=gpu)
    cache = _cache_tokens(config, task, fitted, room, gpu=gpu)
    return ModelPlan(
        model=label,
        memory=plan_training(
            shape, most_tokens=micro, num_adapters=at_once, **{**common, "decode_tokens": cache}
        ),
        cache_tokens=cache,
        at_once=at_once,
        limit_tokens=limit,
        max_length=most,
        max_input_tokens=most_input,
        num_train_tokens=num_tokens,
        train=train,
        evaluation=fitted,
        flops=flops,
        train_s=flops / (MATRIX_SHARE * matrix_rate) if matrix_rate else None,
    )


def _micro_batch(shape: ModelShape, limit: int, common: dict[str, Any]) -> int:
    """Tokens of a row: on a GPU the most without recomputation, between a quarter and all of the usual."""
    if not common["gpu"]:
        return min(limit, CPU_MICRO_BATCH)
    quarter = GPU_MICRO_BATCH // 4
    for most in range(min(limit, GPU_MICRO_BATCH), quarter, -LENGTH_STEP):
        if set(plan_training(shape, most_tokens=most, **common).levels.choose(most)) == {ALL}:
            return most
    return min(limit, quarter)


def _at_once(
    config: StudyConfig, shape: ModelShape, micro: int, mean_tokens: float, common: dict[str, Any]
) -> int:
    """Runs of the grid that are trained at once: where one step alone would not fill a GPU.

    A step of `FILLING_TOKENS` or more does by itself; there, runs one after another are as fast.
    """
    num_runs = max(1, len(config.training.learning_rates) * len(config.training.seeds))
    wanted = config.training.at_once
    if wanted != "auto":
        return min(wanted, num_runs)
    step = config.training.batch_size * mean_tokens
    if not common["gpu"] or step >= FILLING_TOKENS:
        return 1
    for count in range(min(num_runs, MOST_AT_ONCE), 1, -1):
        if plan_training(shape, most_tokens=micro, num_adapters=count, **common).fits:
            return count
    return 1


def _cache_tokens(
    config: StudyConfig, task: Task, evaluation: dict[str, Fitted], room: int, *, gpu: bool
) -> int:
    """Of generation's cache: what answers written at once need, as far as there is room and it is allowed."""
    new = task.generation.max_new_tokens
    most_rows = config.generation.batch_size or MOST_ROWS
    lengths = [sorted(fitted.lengths, reverse=True)[:most_rows] for fitted in evaluation.values()]
    needed = max((sum(some) + new * len(some) for some in lengths), default=0)
    longest = max((some[0] + new for some in lengths if some), default=1)
    allowed = max(config.generation.batch_tokens or needed, longest)
    return max(1, min(needed, allowed, room if gpu else max(room, longest)))


def _no_room(config: StudyConfig, label: str, shape: ModelShape, task: Task) -> list[Problem]:
    """The problem of a model whose positions are all taken by the answer; [] where there is none."""
    if task.generation.max_new_tokens < shape.max_positions:
        return []
    return [
        Problem(
            where="generation.max_new_tokens",
            found=f"{task.generation.max_new_tokens} new tokens leave no room for a prompt: {label} has"
            f" {shape.max_positions} positions",
            remedy="allow fewer new tokens, or choose a model with more positions",
        )
    ]


def _fit(
    config: StudyConfig,
    encoder: Encoder,
    task: Task,
    examples: Sequence[Example],
    most: int,
    *,
    target: bool,
    problems: list[Problem],
) -> Fitted:
    """Apply `data.too_long` to the examples with more than `most` tokens."""
    kept: list[Example] = []
    encoded: list[Encoded] = []
    left_out: list[str] = []
    cut: dict[str, int] = {}
    lengths: list[int] = []
    for example in examples:
        whole = encoder.example(task, example) if target else None
        length = len(whole) if whole is not None else len(encoder.prompt(task.prompt(example))[0])
        if length <= most:
            kept.append(example)
            encoded += [whole] if whole is not None else []
            lengths.append(length)
        elif config.data.too_long == "cut":
            try:
                shorter, cut[example.id] = encoder.fit(task, example, most, target=target)
            except ModelError as error:  # all of them are listed
                problems += error.problems
                continue
            kept.append(shorter)
            lengths.append(most)
            encoded += [encoder.example(task, shorter)] if target else []
        elif config.data.too_long == "leave_out":
            left_out.append(example.id)
            if not target:
                kept.append(example)  # an evaluation keeps its rows: the answer will be an error, and counted
        else:
            problems.append(
                Problem(
                    where=example.source or example.id,
                    found=f"{length} tokens, more than the {most} that are allowed",
                    remedy="shorten it, allow more (training.max_length, generation.max_input_tokens,"
                    ' budget), or set data.too_long to "cut" or "leave_out"',
                )
            )
    return Fitted(
        examples=tuple(kept),
        left_out=tuple(left_out),
        cut=cut,
        encoded=tuple(encoded),
        lengths=() if target else tuple(lengths),
    )
