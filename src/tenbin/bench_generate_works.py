"""GenerateWork: the prompts that a generation bench answers, of random tokens, with so many new tokens each.

Works are `256x512+64` (prompts x tokens + new tokens, no two with a common beginning), `jsquad` (questions
about passages, whose lengths are read from a file) and `fewshot-2048` (the same questions, all of them
behind one block of so many tokens). Nothing ends an answer early, so each has exactly its tokens.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from tenbin.bench_steps import mean_context
from tenbin.bench_works import QUESTIONS, questions, rows
from tenbin.errors import DataError, Problem
from tenbin.models.shape import ModelShape

ANSWER_TOKENS = 5
"""New tokens of an answer to a question; JSQuAD's own have 5.9 with the end, in LLM-jp's tokens."""
RATES = ("examples_per_s", "tokens_per_s", "prompt_tokens_per_s", "seconds", "mfu")
"""Keys of what `rates` gives; None in the line of a work that was not measured."""
_ROWS = re.compile(r"([1-9]\d*x[1-9]\d*)\+([1-9]\d*)")
_FEW_SHOT = re.compile(r"fewshot-([1-9]\d*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerateWork:
    """Prompts, and how many tokens are to follow each."""

    name: str
    prompts: tuple[tuple[int, ...], ...]
    new_tokens: int
    """Of every answer."""

    @property
    def longest(self) -> int:
        """Tokens of the longest prompt with its answer."""
        return max(map(len, self.prompts)) + self.new_tokens

    @property
    def prompt_tokens(self) -> int:
        """Of all prompts, each whole."""
        return sum(map(len, self.prompts))

    @property
    def distinct_tokens(self) -> int:
        """Of all prompts, what several begin with counted once: the fewest that can be computed."""
        ordered = sorted(self.prompts)
        shared = sum(_common(a, b) for a, b in pairwise(ordered))
        return self.prompt_tokens - shared

    def first(self, count: int) -> "GenerateWork":
        """The same with the first prompts alone."""
        return replace(self, prompts=self.prompts[:count])


def is_work(name: str) -> bool:
    """Whether a work is written as one."""
    return name == QUESTIONS or any(pattern.fullmatch(name) for pattern in (_ROWS, _FEW_SHOT))


def needs_lengths(name: str) -> bool:
    """Whether its prompts are questions."""
    return name == QUESTIONS or _FEW_SHOT.fullmatch(name) is not None


def generate_work(
    name: str, *, vocabulary: int, lengths: Path | None = None, count: int | None = None
) -> GenerateWork:
    """The work of a name that `is_work` knows; the same prompts every time.

    Args:
        vocabulary: words of the model; no token is above them.
        lengths: of passages and questions, see `tenbin.bench_works.read_lengths`.
        count: of questions; None: all of the file.

    Raises:
        DataError: the file of lengths cannot be read, or has fewer questions than `count`.
    """
    if made := _ROWS.fullmatch(name):
        texts = rows(made[1], vocabulary).examples
        prompts = tuple((*text.prompt_ids, *text.target_ids) for text in texts)
        return GenerateWork(name=name, prompts=prompts, new_tokens=int(made[2]))
    assert lengths is not None, "questions have lengths"
    asked = questions(lengths, most_tokens=1, batch_size=1, vocabulary=vocabulary).examples
    if count is not None and len(asked) < count:
        raise DataError(
            Problem(
                where=str(lengths),
                found=f"{len(asked)} questions; {count} were asked for",
                remedy="ask for fewer, or give more lengths",
            )
        )
    block: tuple[int, ...] = ()
    if made := _FEW_SHOT.fullmatch(name):
        generator = torch.Generator().manual_seed(1)
        size = (int(made[1]),)
        block = tuple(torch.randint(3, min(vocabulary, 31000), size, generator=generator).tolist())
    prompts = tuple((*block, *question.prompt_ids) for question in asked[:count])
    return GenerateWork(name=name, prompts=prompts, new_tokens=ANSWER_TOKENS)


def rates(work: GenerateWork, shape: ModelShape, seconds: float, *, matrix_rate: float) -> dict[str, Any]:
    """What answering all of a work in so many seconds comes to.

    Args:
        matrix_rate: operations a second that `mfu` is a share of.

    Returns:
        RATES. `tokens_per_s` counts new tokens, `prompt_tokens_per_s` every prompt whole. `mfu` counts 2
        operations a weight and token and those of attention (`ModelShape.flops_per_token`), what prompts
        share once and the output head for new tokens only, whatever the system computes.
    """
    count = len(work.prompts)
    new = count * work.new_tokens
    tokens = work.distinct_tokens + new
    context = mean_context([len(prompt) + work.new_tokens for prompt in work.prompts])
    flops = tokens * shape.flops_per_token(context, head_share=new / tokens)
    return {
        "examples_per_s": round(count / seconds, 2),
        "tokens_per_s": round(new / seconds, 1),
        "prompt_tokens_per_s": round(work.prompt_tokens / seconds),
        "seconds": round(seconds, 4),
        "mfu": round(flops / seconds / matrix_rate, 3),
    }


def _common(a: Sequence[int], b: Sequence[int]) -> int:
    """Tokens that both begin with."""
    shorter = min(len(a), len(b))
    return next((i for i in range(shorter) if a[i] != b[i]), shorter)
