"""Question bank: questions with a context or choices, graded by rule, by a judge or by people."""

from collections.abc import Mapping
from dataclasses import replace

from tenbin.tasks.base import Metric, PromptTemplate, Task
from tenbin.tasks.grading.marking import FIELDS, marking_of, marking_problems
from tenbin.tasks.grading.rule import as_compared, extract, share_by_rule
from tenbin.tasks.metrics import METRICS
from tenbin.types import Example, GenerationConfig

REQUIRED = ("question",)
OPTIONAL = ("context", "choices")
TARGET = "reference"
MARKING = FIELDS
GROUP = "context"
"""Questions about one text stay in one set and are one cluster of an interval."""

PLAIN = PromptTemplate(
    "次の質問に簡潔に答えてください。\n\n"
    "$[context]### 資料\n$context\n\n$[/context]"
    "### 質問\n$question\n\n"
    "$[choices]### 選択肢\n$choices\n\n$[/choices]"
    "### 答え\n$response"
)

problems = marking_problems
"""What is wrong with how a row says that it is marked."""


def answer(completion: str) -> str | None:
    """The completion without white space at its ends; None where nothing is left."""
    return completion.strip() or None


def question(example: Example) -> Mapping[str, str]:
    """What a grader needs to see: the inputs that are not empty, and the marking with its defaults."""
    marking = marking_of(example)
    told = {"category": marking.category, "marking_note": marking.note}
    told |= {"tolerance": marking.tolerance, "unit": marking.unit}
    fixed = {"points": f"{marking.points:g}", "grade": marking.by}
    return {name: text for name, text in (*example.inputs.items(), *told.items()) if text.strip()} | fixed


def task(template: PromptTemplate, max_new_tokens: int | None) -> Task:
    """Points by rule where the question has one, else by a judge or people; exact match and similarity."""
    # "\n###": a base model that has not learnt to stop begins the next heading.
    stop = (template.suffix,) if template.suffix else ("\n###",)
    points = replace(METRICS["points"], score=share_by_rule)
    compared = (_of_texts(METRICS[name]) for name in ("exact_match_nfkc", "similarity_flexeval"))
    return Task(
        name="question_bank",
        input_fields=template.fields,
        template=template,
        generation=GenerationConfig(max_new_tokens=max_new_tokens or 128, stop=stop),
        parse=answer,
        metrics=(points, *compared),
        extract=extract,
        question=question,
    )


def _of_texts(metric: Metric) -> Metric:
    """The metric of a bank's answers: of a choice its text is compared with the right one's."""

    def score(answer: str | None, example: Example) -> float | None:
        return metric.score(answer, as_compared(example))

    definition = f"{metric.definition}; of choices: the text of the chosen one and of the right one"
    return replace(metric, score=score, definition=definition)
