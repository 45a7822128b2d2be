"""Chooser: answers a question with the most likely of its choices, instead of decoding freely."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import exp
from typing import Literal

from tenbin.errors import DataError, Problem
from tenbin.types import AnswerLikelihood, AnswerLikelihoods, Completion, GenerationConfig, Message

Normalization = Literal["sum", "token", "character"]
"""sum: log-probability of the whole choice, which prefers short ones; token, character: divided by its length
in the model's tokens or in characters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What a model chose of the choices of one question."""

    chosen: int | None
    """Position of the highest score, the first where several tie; None where one could not be computed."""
    scores: tuple[float | None, ...]
    """Of each choice, in nats (a token or character, where normalized)."""
    likelihoods: tuple[AnswerLikelihood, ...]
    error: str | None = None
    """Why nothing was chosen."""

    @property
    def shares(self) -> tuple[float, ...] | None:
        """exp(score) of each choice over the sum of all: how sure the choice is; None without scores."""
        scores = [score for score in self.scores if score is not None]
        if not scores or len(scores) < len(self.scores):
            return None
        top = max(scores)
        weights = [exp(score - top) for score in scores]
        return tuple(weight / sum(weights) for weight in weights)


def choose(
    model: AnswerLikelihoods,
    questions: Sequence[tuple[Sequence[Message], Sequence[str]]],
    *,
    normalization: Normalization = "sum",
) -> Iterator[tuple[int, Choice]]:
    """Yield (index of the question, what the model chooses) as they finish.

    Args:
        questions: (prompt, choices), two choices or more each.

    Raises:
        DataError: questions with less than two choices, empty or equal ones, all of them.
    """
    problems = [problem for index, (_, choices) in enumerate(questions) for problem in _check(index, choices)]
    if problems:
        raise DataError(problems)
    pairs = [(prompt, choice) for prompt, choices in questions for choice in choices]
    ends = list(accumulate(len(choices) for _, choices in questions))
    owners = [index for index, (_, choices) in enumerate(questions) for _ in choices]
    waiting: dict[int, dict[int, AnswerLikelihood]] = {}
    for place, likelihood in model.answer_likelihoods(pairs):
        index = owners[place]
        found = waiting.setdefault(index, {})
        choices = questions[index][1]
        found[place - (ends[index] - len(choices))] = likelihood
        if len(found) == len(choices):
            yield index, _chosen(choices, waiting.pop(index), normalization)


def _check(index: int, choices: Sequence[str]) -> list[Problem]:
    where = f"question {index + 1}"
    remedy = "give two or more different choices"
    if len(choices) < 2:
        return [Problem(where=where, field="choices", found=f"{len(choices)} choices", remedy=remedy)]
    if any(not choice for choice in choices):
        return [Problem(where=where, field="choices", found="an empty choice", remedy=remedy)]
    if len(set(choices)) < len(choices):
        return [Problem(where=where, field="choices", found="the same choice twice", remedy=remedy)]
    return []


def _chosen(
    choices: Sequence[str], found: Mapping[int, AnswerLikelihood], normalization: Normalization
) -> Choice:
    likelihoods = tuple(found[position] for position in range(len(choices)))
    scores = tuple(
        _score(likelihood, choice, normalization)
        for likelihood, choice in zip(likelihoods, choices, strict=True)
    )
    errors = [likelihood.error for likelihood in likelihoods if likelihood.error]
    known = [score for score in scores if score is not None]
    return Choice(
        chosen=scores.index(max(known)) if len(known) == len(scores) else None,
        scores=scores,
        likelihoods=likelihoods,
        error=errors[0] if errors else None,
    )


def _score(likelihood: AnswerLikelihood, choice: str, normalization: Normalization) -> float | None:
    if likelihood.nats is None:
        return None
    length = {"sum": 1, "token": likelihood.num_tokens, "character": len(choice)}[normalization]
    return likelihood.nats / max(1, length)


class Chooser:
    """A Generator whose completion is the most likely choice: nothing to parse, nothing unparsed.

    It answers one list of prompts, the one its choices belong to:

        generator = Chooser(local, choices=[["はい", "いいえ"]] * len(examples))
        result = evaluate(task, examples, generator, split="test", dataset=fingerprint)
    """

    def __init__(
        self,
        model: AnswerLikelihoods,
        choices: Sequence[Sequence[str]],
        *,
        normalization: Normalization = "sum",
    ) -> None:
        self.model = model
        self.choices = choices
        self.normalization: Normalization = normalization

    @property
    def model_id(self) -> str:
        """Name for tables: the model's own."""
        return self.model.model_id

    def generate(
        self, prompts: Sequence[Sequence[Message]], config: GenerationConfig
    ) -> Iterator[tuple[int, Completion]]:
        """Yield (index of the prompt, its most likely choice); `config` has nothing to decide here.

        Raises:
            DataError: see `choose`.
        """
        assert len(prompts) == len(self.choices), (len(prompts), len(self.choices))
        started = time.perf_counter()
        questions = list(zip(prompts, self.choices, strict=True))
        for index, choice in choose(self.model, questions, normalization=self.normalization):
            text = "" if choice.chosen is None else self.choices[index][choice.chosen]
            yield (
                index,
                Completion(
                    text=text,
                    stop_reason="error" if choice.chosen is None else "stop",
                    input_tokens=choice.likelihoods[0].prompt_tokens,
                    output_tokens=0,  # nothing was decoded
                    latency_s=time.perf_counter() - started,
                    error=choice.error,
                ),
            )
