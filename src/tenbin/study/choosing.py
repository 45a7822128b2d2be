"""Answers by likelihood: the choices of every example, and the generator that takes the most likely one."""

from collections.abc import Sequence
from typing import Protocol

from tenbin.config import StudyConfig
from tenbin.errors import ConfigError, DataError, Problem
from tenbin.generate.choosing import Chooser, Normalization
from tenbin.tasks.base import Task
from tenbin.tasks.grading.choice import parse_choices
from tenbin.types import AnswerLikelihoods, Example, Generator

NORMALIZATIONS: dict[str, Normalization] = {
    "likelihood": "sum",
    "likelihood_per_token": "token",
    "likelihood_per_character": "character",
}
"""`evaluation.answer_by` -> what a choice's log-probability is divided by."""


class Answering(Generator, AnswerLikelihoods, Protocol):
    """A model that can do both."""


def check_choices(config: StudyConfig, task: Task, examples: Sequence[Example]) -> None:
    """Refuse answers by likelihood where there is nothing to choose from.

    Raises:
        ConfigError: the task has no choices.
        DataError: questions without two choices, all of them.
    """
    if config.evaluation.answer_by == "text":
        return
    if task.name not in ("classification", "question_bank"):
        found = f'evaluation.answer_by is "{config.evaluation.answer_by}", and {task.name} has no choices'
        remedy = 'set evaluation.answer_by = "text"'
        raise ConfigError(Problem(where="evaluation.answer_by", found=found, remedy=remedy))
    problems = [
        Problem(
            where=example.source or example.id,
            field="choices",
            found=f"{len(choices)} choices, and the answer is to be the most likely one",
            remedy='give it two or more, or set evaluation.answer_by = "text"',
        )
        for example in examples
        if len(choices := choices_of(task, example)) < 2
    ]
    if problems:
        raise DataError(problems)


def choices_of(task: Task, example: Example) -> tuple[str, ...]:
    """The answers to choose from: the categories, or of a question its labels (A, 1, ア), else the texts.

    Labels where they are printed: a template that shows `A. 東京` asks for the letter.
    """
    if task.name == "classification":
        return task.categories
    items = parse_choices(example.inputs.get("choices", "")).items
    return tuple(item.label or item.text for item in items)


def answering(config: StudyConfig, task: Task, examples: Sequence[Example], model: Answering) -> Generator:
    """The model itself, or its choice of the most likely answer, as the study says.

    Args:
        examples: exactly those that it will be asked, in this order.
    """
    normalization = NORMALIZATIONS.get(config.evaluation.answer_by)
    if normalization is None:
        return model
    return Chooser(model, [choices_of(task, example) for example in examples], normalization=normalization)
