"""Task, PromptTemplate and Metric: what a task is made of. Frozen data and functions, no subclassing."""

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from statistics import fmean
from typing import Literal

from tenbin.errors import ConfigError, Problem
from tenbin.types import Example, GenerationConfig, Message

PLACEHOLDER = re.compile(r"\$(\$|[A-Za-z_]+|\{[A-Za-z_]+\})")
RESPONSE = "response"
PART = re.compile(r"\$\$|\$\[([A-Za-z_]+)\](.*?)\$\[/\1\]", re.DOTALL)
"""A part of a template that goes with a field: `$[context]### 資料\\n$context$[/context]`; or `$$`."""
PART_MARK = re.compile(r"\$\$|(\$\[/?[A-Za-z_]*\]?)")


@dataclass(frozen=True, slots=True)
class PromptTemplate:
    """A prompt pattern with `$field` placeholders and one `$response`, where the model's answer stands.

    What comes before `$response` is the prompt; what comes after it is the suffix, which training
    teaches and which ends a completion. `$$` is a dollar sign. The same object renders the prompt in
    training, evaluation, serving and export, and is stored with the adapter.

    What stands between `$[field]` and `$[/field]` is left out of the prompts of examples in which the field
    is empty: a heading goes with its text, and rows with and without it share one template.

    >>> PromptTemplate("Q: $question A: $response").prompt({"question": "1+1?"})
    'Q: 1+1? A: '
    >>> PromptTemplate("$[hint]($hint) $[/hint]$text => $response").prompt({"text": "?", "hint": ""})
    '? => '
    """

    text: str

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of the input fields, in order of appearance, without `response`."""
        names = [m.group(1).strip("{}") for m in PLACEHOLDER.finditer(self.text) if m.group(1) != "$"]
        return tuple(dict.fromkeys(name for name in names if name != RESPONSE))

    @property
    def optional_fields(self) -> tuple[str, ...]:
        """The fields that stand only in parts of their own, so that examples may lack them."""
        outside = PromptTemplate(PART.sub(_without_own_field, self.text)).fields
        return tuple(name for name in self.fields if name not in outside)

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
                remedy=_near_field(name, input_fields),
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
        problems += self._part_problems(where, num_responses == 1)
        if problems:
            raise ConfigError(problems)

    def _part_problems(self, where: str, has_halves: bool) -> list[Problem]:
        """Marks of parts that open or close nothing, and parts that hold or follow `$response`."""
        before, after = self._halves() if has_halves else (self.text, "")
        left = [m.group(1) for m in PART_MARK.finditer(PART.sub("", before) + after) if m.group(1)]
        return [
            Problem(
                where=where,
                found=f"{mark} has no partner before $response",
                remedy="write a part as $[field]...$[/field], all of it before $response",
            )
            for mark in left
        ]

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

        # Parts are chosen in the template alone, so that no value is read as one.
        chosen = PART.sub(lambda part: _kept_part(part, inputs), self._halves()[0])
        return PLACEHOLDER.sub(value, chosen)

    @property
    def suffix(self) -> str:
        """The fixed text after the response; empty in most templates."""
        return self._halves()[1].replace("$$", "$")


def _kept_part(part: re.Match[str], inputs: Mapping[str, str]) -> str:
    name = part.group(1)
    if name is None:
        return part.group()
    return part.group(2) if inputs[name].strip() else ""


def _without_own_field(part: re.Match[str]) -> str:
    """A part without the field it goes with; `$$` stays."""
    if part.group(1) is None:
        return part.group()
    names = PromptTemplate(part.group(2)).fields
    return " ".join(f"${name}" for name in names if name != part.group(1))


def _near_field(name: str, fields: Sequence[str]) -> str:
    near = get_close_matches(name, fields, n=1, cutoff=0.6)
    hint = f"did you mean ${near[0]}? " if near else ""
    return f"{hint}use {', '.join('$' + field for field in fields)} and $response"


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
    score: Callable[[str | None, Example], float | None]
    """Score in [0, 1] of one answer (None = unparsed = 0), so that paired tests work. It is None where only
    people or a judge can tell: counted, never 0."""
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
    extract: Callable[[str, Example], str | None] | None = None
    """Takes the answer where that depends on the example (its choices, its unit); `parse` does without it."""
    question: Callable[[Example], Mapping[str, str]] | None = None
    """Question banks: what a grader needs to see of an example. With it, points are counted."""

    def answer(self, completion: str, example: Example) -> str | None:
        """What is taken from a completion; None = no answer found."""
        return self.extract(completion, example) if self.extract else self.parse(completion)

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
