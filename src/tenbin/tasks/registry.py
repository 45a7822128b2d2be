"""The only list of tasks: from a study's settings to its Task."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tenbin.config import StudyConfig, TaskName
from tenbin.tasks import classification, reading, summarization
from tenbin.tasks.base import PromptTemplate, Task


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskEntry:
    """What is known of a task before its data are read."""

    required: tuple[str, ...]
    """Input fields that every template uses."""
    optional: tuple[str, ...]
    """Input fields that a template may use."""
    target: str
    """Field of the references."""
    paper: PromptTemplate
    plain: Callable[[Sequence[str]], PromptTemplate]
    """Categories -> default template."""
    make: Callable[[PromptTemplate, Sequence[str], int | None], Task]
    """(template, categories, most new tokens) -> task."""


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
    ),
    "summarization": TaskEntry(
        required=summarization.REQUIRED,
        optional=summarization.OPTIONAL,
        target=summarization.TARGET,
        paper=summarization.PAPER,
        plain=lambda categories: summarization.PLAIN,
        make=lambda template, categories, most: summarization.task(template, most),
    ),
}


def input_fields(config: StudyConfig, where: str = "study.toml") -> tuple[str, ...]:
    """The input fields that the study's template uses: what the readers must find.

    Raises:
        ConfigError: where the template and the task's fields do not agree.
    """
    entry = TASKS[config.task]
    template = _template(config, ())
    extra = {*entry.optional, *config.data.columns} - {entry.target}
    allowed = (*entry.required, *(f for f in template.fields if f in extra and f not in entry.required))
    template.check(allowed, f"{Path(where).name}: prompt.template")
    return template.fields


def make_task(config: StudyConfig, categories: Sequence[str] = ()) -> Task:
    """The task of a study whose data are read (their categories are known)."""
    entry = TASKS[config.task]
    return entry.make(_template(config, categories), categories, config.generation.max_new_tokens)


def _template(config: StudyConfig, categories: Sequence[str]) -> PromptTemplate:
    if config.prompt.template is not None:
        return PromptTemplate(config.prompt.template)
    entry = TASKS[config.task]
    return entry.paper if config.prompt.preset == "paper" else entry.plain(categories)
