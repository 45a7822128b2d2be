"""Question bank: short answers to questions, some with a context or choices, graded by rule for now."""

from tenbin.tasks.base import PromptTemplate, Task
from tenbin.tasks.metrics import METRICS
from tenbin.types import GenerationConfig

REQUIRED = ("question",)
OPTIONAL = ("context", "choices")
TARGET = "reference"
GROUP = "context"
"""Questions about one text stay in one set and are one cluster of an interval."""

PLAIN = PromptTemplate(
    "次の質問に簡潔に答えてください。\n\n"
    "$[context]### 資料\n$context\n\n$[/context]"
    "### 質問\n$question\n\n"
    "$[choices]### 選択肢\n$choices\n\n$[/choices]"
    "### 答え\n$response"
)


def answer(completion: str) -> str | None:
    """The completion without white space at its ends; None where nothing is left."""
    return completion.strip() or None


def task(template: PromptTemplate, max_new_tokens: int | None) -> Task:
    """Exact match by rule and similarity; grades by people or a judge (1, 0.5, 0) are the metric `points`."""
    # "\n###": a base model that has not learnt to stop begins the next heading.
    stop = (template.suffix,) if template.suffix else ("\n###",)
    return Task(
        name="question_bank",
        input_fields=template.fields,
        template=template,
        generation=GenerationConfig(max_new_tokens=max_new_tokens or 128, stop=stop),
        parse=answer,
        metrics=tuple(METRICS[m] for m in ("exact_match_nfkc", "similarity_flexeval")),
    )
