"""Questions and passages that the RAG tests share."""

from tenbin.rag.contexts import build_contexts
from tenbin.rag.passages import Passage
from tenbin.tasks import reading
from tenbin.types import Completion, Example

PASSAGES = tuple(
    Passage(f"p{number}", f"第{number}倉庫の棚卸しは毎月{number}日に行う。担当は{number}班である。" * 3)
    for number in range(1, 40)
)
EXAMPLES = (
    Example(
        id="a",
        inputs={"passage": "本社の創立記念日は十月三日で、全社員が休む。", "question": "創立記念日はいつ?"},
        references=("十月三日",),
    ),
    Example(
        id="b",
        inputs={"passage": "本社の社長は水野春子である。就任は昨年だった。", "question": "社長は誰?"},
        references=("水野春子",),
    ),
    Example(
        id="c",
        inputs={"passage": "鍵は守衛室で借りる。返すのは帰る前。", "question": "鍵はどこで借りる?"},
        references=("守衛室",),
    ),
)
DEPTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
TASK = reading.task(reading.PLAIN, None)
PHRASES = ("本文にありません",)


def contexts(**options):
    settings = {"lengths": (300, 1000), "depths": DEPTHS, "absent": True} | options
    return build_contexts(EXAMPLES, "passage", PASSAGES, **settings)


class Reader:
    """Finds the reference in the first `sight` characters of the prompt, or says that it is not there."""

    model_id = "reader"

    def __init__(self, sight=10**6):
        self.sight = sight
        self.prompts = []

    def generate(self, prompts, config):
        for index, messages in enumerate(prompts):
            text = messages[0].content
            self.prompts.append(text)
            known = [e.references[0] for e in EXAMPLES if e.inputs["question"] in text]
            (answer,) = known
            seen = answer in text[: self.sight]
            yield index, said(answer if seen else "本文にありません。")


def said(text, error=None):
    reason = "error" if error else "stop"
    return Completion(text=text, stop_reason=reason, input_tokens=9, output_tokens=3, error=error)
