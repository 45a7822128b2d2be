"""Task, PromptTemplate and Metric: what a task is made of. Frozen data and functions, no subclassing."""

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

from tenbin.errors import ConfigError, Problem
from tenbin.types import Example, GenerationConfig, Message

PLACEHOLDER = re.compile(r"\$(\$|[A-Za-z_]+|\{[A-Za-z_]+\})")
RESPONSE = "response"


@dataclass(frozen=True, slots=True)
class PromptTemplate:
    """A prompt pattern with `$field` placeholders and one `$response`, where the model's answer stands.

    What comes before `$response` is the prompt; what comes after it is the suffix, which training
    teaches and which ends a completion. `$$` is a dollar sign. The same object renders the prompt in
    training, evaluation, serving and export, and is stored with the adapter.

    >>> PromptTemplate("Q: $question A: $response").prompt({"question": "1+1?"})
    'Q: 1+1? A: '
    """

    text: str

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of the input fields, in order of appearance, without `response`."""
        names = [m.group(1).strip("{}") for m in PLACEHOLDER.finditer(self.text) if m.group(1) != "$"]
        return tuple(dict.fromkeys(name for name in names if name != RESPONSE))

    @property
    def fingerprint(self) -> str:
        """First 16 hex digits of the SHA-256 of the text: results of other templates do not compare."""
        return hashlib.sha256(self.text.encode()).hexdigest()[:16]

    def check(self, input_fields: Sequence[str], where: str) -> None:
        """Refuse a template that is not made of exactly the task's fields and one `$response`.

        Raises:
            ConfigError: with every field that is missing or unknown, named at `where`.
        """
        problems = [
            Problem(
                where=where,
                found=f"the template does not use ${name}",
                remedy=f"put ${name} where the {name} belongs",
            )
            for name in input_fields
            if name not in self.fields
        ]
        problems += [
            Problem(
                where=where,
                found=f"the template uses ${name}, which the task does not have",
                remedy=f"use {', '.join('$' + f for f in input_fields)} and $response",
            )
            for name in self.fields
            if name not in input_fields
        ]
        num_responses = sum(1 for m in PLACEHOLDER.finditer(self.text) if m.group(1).strip("{}") == RESPONSE)
        if num_responses != 1:
            problems.append(
                Problem(
                    where=where,
                    found=f"the template has $response {num_responses} times",
                    remedy="write $response once, where the model's answer stands",
                )
            )
        elif any(m.group(1) != "$" for m in PLACEHOLDER.finditer(self._halves()[1])):
            problems.append(
                Problem(
                    where=where,
                    found="the template has a field after $response",
                    remedy="put every field before $response",
                )
            )
        if problems:
            raise ConfigError(problems)

    def _halves(self) -> tuple[str, str]:
        for match in PLACEHOLDER.finditer(self.text):
            if match.group(1).strip("{}") == RESPONSE:
                return self.text[: match.start()], self.text[match.end() :]
        raise AssertionError("template without $response: check() was not called")

    def prompt(self, inputs: Mapping[str, str]) -> str:
        """The text before the response, filled in. Values are never read as templates."""

        def value(match: re.Match[str]) -> str:
            name = match.group(1).strip("{}")
            return "$" if name == "$" else inputs[name]

        return PLACEHOLDER.sub(value, self._halves()[0])

    @property
    def suffix(self) -> str:
        """The fixed text after the response; empty in most templates."""
        return self._halves()[1].replace("$$", "$")


@dataclass(frozen=True, slots=True)
class Scored:
    """One example with the answer that was taken from its completion and its score."""

    answer: str | None
    example: Example
    value: float
    """Score in [0, 1]."""


def mean_score(scored: Sequence[Scored]) -> float | None:
    """Mean of the scores; None of nothing."""
    return fmean(s.value for s in scored) if scored else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A rule that scores one answer, and how scores become one number."""

    id: str
    """Names one definition for ever: `jsquad_f1`."""
    name: str
    """As in tables: `F1`."""
    definition: str
    """Formula, source, tokenizer and dictionary versions, in one line."""
    score: Callable[[str | None, Example], float]
    """Score in [0, 1] of one answer (None = unparsed = 0), so that paired tests work."""
    aggregate: Callable[[Sequence[Scored]], float | None] = mean_score
    """Macro F1 replaces it; the bootstrap calls it. None = undefined."""
    interval: Literal["proportion", "mean", "bootstrap"] = "mean"
    """proportion: scores are 0 or 1; mean: a mean of scores in [0, 1]; bootstrap: anything else."""
    higher_is_better: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What is asked, how it is asked, how the answer is taken, and how it is scored."""

    name: str
    input_fields: tuple[str, ...]
    template: PromptTemplate
    generation: GenerationConfig
    parse: Callable[[str], str | None]
    """Completion text -> answer; None = no answer found (scores 0, counted as unparsed)."""
    metrics: tuple[Metric, ...]
    """The first one is the headline: it chooses the best epoch."""
    categories: tuple[str, ...] = ()
    """Classification only."""
    baselines: tuple["Baseline", ...] = ()
    """Answers that need no model, always printed beside the models."""

    def prompt(self, example: Example) -> list[Message]:
        """The prompt of one example: training and evaluation both use this and nothing else."""
        return [Message("user", self.template.prompt(example.inputs))]

    def target(self, example: Example) -> str:
        """The text that fine-tuning teaches: the first reference, then the template's suffix."""
        return example.references[0] + self.template.suffix


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """A system without a model: the majority category, the lead sentence."""

    name: str
    """As in tables: `majority category`."""
    answer: Callable[[Sequence[Example], Example], str]
    """(training examples, example) -> completion text."""
