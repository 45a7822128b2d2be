"""Classification: choose one of fixed categories."""

from collections import Counter
from collections.abc import Sequence

from tenbin.tasks.base import Baseline, PromptTemplate, Task
from tenbin.tasks.metrics import METRICS
from tenbin.tasks.metrics.classification import first_word
from tenbin.types import Example, GenerationConfig

REQUIRED = ("text",)
OPTIONAL: tuple[str, ...] = ()
TARGET = "category"

PAPER = PromptTemplate("### Instruction: $text ### Response: $response")
"""Table 1 of the paper, row "Text classification"."""


def plain(categories: Sequence[str]) -> PromptTemplate:
    """A plain Japanese instruction that names the categories."""
    named = "、".join(category.replace("$", "$$") for category in categories)
    return PromptTemplate(
        f"次の文章を分類し、{named} のどれか一つで答えてください。\n\n### 文章\n$text\n\n### 分類\n$response"
    )


def majority(training: Sequence[Example], example: Example) -> str:
    """The commonest category of the training examples, the first in order of name among equals."""
    counts = Counter(e.references[0] for e in training)
    return min(counts, key=lambda category: (-counts[category], category))


def task(template: PromptTemplate, categories: Sequence[str], max_new_tokens: int | None) -> Task:
    """Accuracy by the first word; balanced accuracy, macro F1 and MCC beside it."""
    return Task(
        name="classification",
        input_fields=template.fields,
        template=template,
        # A category of Japanese text rarely takes more than a token a character.
        generation=GenerationConfig(
            max_new_tokens=max_new_tokens or max(len(c) for c in categories) + 2, stop=("\n",)
        ),
        parse=first_word(categories),
        metrics=tuple(METRICS[m] for m in ("accuracy", "balanced_accuracy", "macro_f1", "mcc")),
        categories=tuple(categories),
        baselines=(Baseline(name="majority category", answer=majority),),
    )
