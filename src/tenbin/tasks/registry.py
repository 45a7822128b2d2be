"""The only list of tasks: from a study's settings to its Task."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tenbin.config import StudyConfig, TaskName
from tenbin.errors import ConfigError, Problem
from tenbin.tasks import classification, question_bank, reading, summarization
from tenbin.tasks.base import PromptTemplate, Task
from tenbin.types import Example


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskEntry:
    """What is known of a task before its data are read."""

    required: tuple[str, ...]
    """Input fields that every template uses."""
    optional: tuple[str, ...]
    """Input fields that a template may use."""
    target: str
    """Field of the references."""
    paper: PromptTemplate | None
    """The paper's template; None of a task that is not the paper's."""
    plain: Callable[[Sequence[str]], PromptTemplate]
    """Categories -> default template."""
    make: Callable[[PromptTemplate, Sequence[str], int | None], Task]
    """(template, categories, most new tokens) -> task."""
    marking: tuple[str, ...] = ()
    """Fields that no prompt shows and that say how an answer is marked."""
    check: Callable[[Example], Sequence[tuple[str, str, str]]] | None = None
    """What else is wrong with an example: (field, what is found, remedy)."""
    group_field: str | None = None
    """What makes a group where the study names no column: the input whose equal texts belong together."""


TASKS: dict[TaskName, TaskEntry] = {
    "classification": TaskEntry(
        required=classification.REQUIRED,
        optional=classification.OPTIONAL,
        target=classification.TARGET,
        paper=classification.PAPER,
        plain=classification.plain,
        make=classification.task,
    ),
    "reading": TaskEntry(
        required=reading.REQUIRED,
        optional=reading.OPTIONAL,
        target=reading.TARGET,
        paper=reading.PAPER,
        plain=lambda categories: reading.PLAIN,
        make=lambda template, categories, most: reading.task(template, most),
        group_field="passage",
    ),
    "summarization": TaskEntry(
        required=summarization.REQUIRED,
        optional=summarization.OPTIONAL,
        target=summarization.TARGET,
        paper=summarization.PAPER,
        plain=lambda categories: summarization.PLAIN,
        make=lambda template, categories, most: summarization.task(template, most),
    ),
    "question_bank": TaskEntry(
        required=question_bank.REQUIRED,
        optional=question_bank.OPTIONAL,
        target=question_bank.TARGET,
        paper=None,
        plain=lambda categories: question_bank.PLAIN,
        make=lambda template, categories, most: question_bank.task(template, most),
        marking=question_bank.MARKING,
        check=question_bank.problems,
        group_field=question_bank.GROUP,
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class InputFields:
    """What the readers look for: the fields that the study's template uses."""

    required: tuple[str, ...]
    """Every example has text in them."""
    optional: tuple[str, ...]
    """They may be empty, and a file need not have them."""


def input_fields(config: StudyConfig, where: str = "study.toml") -> InputFields:
    """The input fields that the study's template uses: what the readers must find, and what they may.

    Raises:
        ConfigError: where the template and the task's fields do not agree, or there is no such preset.
    """
    entry = TASKS[config.task]
    if config.prompt.template is None and config.prompt.preset == "paper" and entry.paper is None:
        raise ConfigError(
            Problem(
                where=f"{Path(where).name}: prompt.preset",
                found=f"the paper has no template for {config.task}",
                remedy='use preset = "plain" or a template of your own',
            )
        )
    template = _template(config, ())
    extra = {*entry.optional, *config.data.columns} - {entry.target}
    allowed = (*entry.required, *(f for f in template.fields if f in extra and f not in entry.required))
    template.check(allowed, f"{Path(where).name}: prompt.template")
    optional = tuple(name for name in template.optional_fields if name not in entry.required)
    return InputFields(
        required=tuple(name for name in template.fields if name not in optional), optional=optional
    )


def make_task(config: StudyConfig, categories: Sequence[str] = ()) -> Task:
    """The task of a study whose data are read (their categories are known)."""
    entry = TASKS[config.task]
    return entry.make(_template(config, categories), categories, config.generation.max_new_tokens)


def _template(config: StudyConfig, categories: Sequence[str]) -> PromptTemplate:
    if config.prompt.template is not None:
        return PromptTemplate(config.prompt.template)
    entry = TASKS[config.task]
    if config.prompt.preset == "paper" and entry.paper is not None:
        return entry.paper
    return entry.plain(categories)
