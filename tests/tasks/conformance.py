"""What every task is tested with: its example, a study for it, and fake models that answer by rule."""

from tenbin.config import parse_study
from tenbin.data.dataset import fingerprint_of
from tenbin.evaluation import evaluate
from tenbin.tasks.registry import TASKS, make_task
from tenbin.types import Completion, Example

CATEGORIES = ("肯定", "否定", "どちらでもない")
INPUTS = {
    "text": "朝食の焼き魚が絶品でした。\n$response と {text} は文字のままで、100 % 満足です。",
    "title": "宿の朝食",
    "passage": "当館は1987年に開業し、2021年に改装した。 露天風呂は二つある。",
    "question": "改装したのは何年か？",
    "context": "規程 第3条\n休館日は毎週水曜とする。",
    "choices": "月曜\n火曜\n水曜",
}
ANSWERS = {
    "classification": ("肯定", "否定", "肯定", "どちらでもない"),
    "reading": ("2021年", "1987年", "二つ", "露天風呂"),
    "summarization": (
        "朝食が好評の宿の案内。",
        "宿は二〇二一年に改装した。",
        "犬は公園を走る。",
        "休館日は水曜。",
    ),
    "question_bank": ("水曜", "42", "カフェ Tenbin", "監査役の解任"),
}


def study(task, **prompt):
    """A study file with nothing but what it must have."""
    return parse_study(
        {
            "name": "s",
            "task": task,
            "data": {"train": "a.jsonl"},
            "model": [{"source": "m"}],
            "prompt": prompt,
        }
    )


def presets(task):
    """The templates that a study of the task can choose by name."""
    return ["plain", *(["paper"] if TASKS[task].paper else [])]


def cases():
    """(task, preset) of the whole registry."""
    return [(task, preset) for task in TASKS for preset in presets(task)]


def task_of(name, preset="plain"):
    return make_task(study(name, preset=preset), CATEGORIES if name == "classification" else ())


def examples_of(name, preset="plain", groups=None):
    """Four examples whose inputs differ."""
    fields = task_of(name, preset).input_fields
    return [
        Example(
            id=f"e{i}",
            inputs={field: f"{INPUTS[field]}{i}" for field in fields},
            references=(answer,),
            group=groups[i] if groups else None,
        )
        for i, answer in enumerate(ANSWERS[name])
    ]


class Fake:
    """A model that says to each prompt what it is told to; None is an error of the model."""

    model_id = "fake"

    def __init__(self, says, order=None, stop=True):
        self.says = says
        self.order = order if order is not None else range(len(says))
        self.stop = stop

    def generate(self, prompts, config):
        assert len(prompts) == len(self.says)
        for index in self.order:
            text = self.says[index]
            if text is None:
                yield index, completion("", error="the model is gone")
                continue
            for mark in config.stop if self.stop else ():
                text = text.split(mark)[0]
            yield index, completion(text)


def completion(text, error=None):
    return Completion(
        text=text,
        stop_reason="error" if error else "stop",
        input_tokens=3,
        output_tokens=2,
        error=error,
    )


def evaluated(task, examples, fake):
    return evaluate(task, examples, fake, split="test", dataset=fingerprint_of(examples))
