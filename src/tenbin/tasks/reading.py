"""Reading comprehension: answer a question from a passage."""

from tenbin.tasks.base import PromptTemplate, Task
from tenbin.tasks.metrics import METRICS
from tenbin.types import GenerationConfig

REQUIRED = ("passage", "question")
OPTIONAL: tuple[str, ...] = ()
TARGET = "answer"

PAPER = PromptTemplate("### Instruction: Context: $passage Question: $question #### Response: $response")
"""Table 1 of the paper, row "Machine reading comprehension", with its four number signs."""

PLAIN = PromptTemplate(
    "次の文章を読み、質問に文章中の言葉で短く答えてください。\n\n"
    "### 文章\n$passage\n\n### 質問\n$question\n\n### 答え\n$response"
)


def answer(completion: str) -> str | None:
    """The first line of the completion; None where it is empty."""
    lines = completion.strip().splitlines()
    return lines[0].strip() if lines else None


def task(template: PromptTemplate, max_new_tokens: int | None) -> Task:
    """JGLUE's exact match and character F1; with the paper's post-processing as extra rows."""
    return Task(
        name="reading",
        input_fields=template.fields,
        template=template,
        generation=GenerationConfig(max_new_tokens=max_new_tokens or 32, stop=("\n",)),
        parse=answer,
        metrics=tuple(METRICS[m] for m in ("jsquad_f1", "jsquad_em", "jsquad_f1_paper", "jsquad_em_paper")),
    )
