"""Summarization: shorten a document to one or two sentences."""

from collections.abc import Callable, Sequence

from tenbin.tasks.base import Baseline, PromptTemplate, Task
from tenbin.tasks.metrics import METRICS
from tenbin.types import Example, GenerationConfig

REQUIRED = ("text",)
OPTIONAL = ("title",)
TARGET = "summary"

PAPER = PromptTemplate(
    "以下のニュース記事をお読みください。 \"'見出し:$title\n"
    "$text\"' このニュース記事を要約してください。\n"
    "要約は以下の通りです: \"'$response\"'"
)
"""Table 1 of the paper, row "Text summarization": the quotes are the paper's own."""

PLAIN = PromptTemplate("次の文書を一、二文で要約してください。\n\n### 文書\n$text\n\n### 要約\n$response")


def lead_sentence(training: Sequence[Example], example: Example) -> str:
    """The document's first sentence, with its full stop."""
    text = example.inputs["text"].strip()
    ends = [end for mark in "。！？!?\n" if (end := text.find(mark)) >= 0]
    return text[: min(ends) + 1].strip() if ends else text


def summary(suffix: str) -> Callable[[str], str | None]:
    """Take a completion up to the template's suffix; None where nothing is left."""

    def parse(completion: str) -> str | None:
        text = completion.split(suffix)[0] if suffix else completion
        return text.strip() or None

    return parse


def task(template: PromptTemplate, max_new_tokens: int | None) -> Task:
    """ROUGE-1, -2 and -L on MeCab words; the lead sentence stands beside every model."""
    # "\n#": a base model that has not learnt to stop begins the next heading.
    stop = (template.suffix,) if template.suffix else ("\n#",)
    return Task(
        name="summarization",
        input_fields=template.fields,
        template=template,
        generation=GenerationConfig(max_new_tokens=max_new_tokens or 128, stop=stop),
        parse=summary(template.suffix),
        metrics=tuple(METRICS[m] for m in ("rouge1", "rouge2", "rougeL")),
        baselines=(Baseline(name="lead sentence", answer=lead_sentence),),
    )
