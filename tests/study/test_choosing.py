"""Answers by likelihood: which choices a model chooses from, and what has none to choose from."""

import pytest

from tenbin.config import parse_study
from tenbin.errors import ConfigError, DataError
from tenbin.evaluation import evaluate
from tenbin.study.choosing import answering, check_choices, choices_of
from tenbin.tasks.registry import make_task
from tenbin.types import AnswerLikelihood, Example


def study(task, answer_by="likelihood"):
    return parse_study(
        {
            "name": "s",
            "task": task,
            "data": {"train": "x.jsonl"},
            "model": [{"source": "m"}],
            "evaluation": {"answer_by": answer_by},
        }
    )


def question(choices, reference, number=1):
    inputs = {"question": "首都は？", "choices": "\n".join(choices), "context": ""}
    return Example(id=f"q{number}", inputs=inputs, references=(reference,), source=f"b.csv:{number}")


class Likes:
    """Finds one text more probable than any other."""

    model_id = "likes"

    def __init__(self, favourite):
        self.favourite = favourite

    def generate(self, prompts, config):
        raise AssertionError("it is asked for likelihoods only")

    def answer_likelihoods(self, pairs):
        for index, (_, answer) in enumerate(pairs):
            nats = -1.0 if answer == self.favourite else -2.0
            yield index, AnswerLikelihood(nats=nats, num_tokens=1, prompt_tokens=5)


def test_printed_labels_are_chosen_among_else_the_texts():
    task = make_task(study("question_bank"))
    assert choices_of(task, question(["A. 東京", "B. 大阪"], "A")) == ("A", "B")
    assert choices_of(task, question(["東京", "大阪"], "東京")) == ("東京", "大阪")
    classes = make_task(study("classification"), ("良い", "悪い"))
    assert choices_of(classes, Example(id="1", inputs={"text": "x"})) == ("良い", "悪い")


@pytest.mark.parametrize(("favourite", "score"), [("B", 1.0), ("A", 0.0)])
def test_the_likeliest_label_is_graded_as_an_answer(favourite, score):
    config = study("question_bank")
    task, examples = make_task(config), [question(["A. 東京", "B. 大阪"], "B")]
    generator = answering(config, task, examples, Likes(favourite))
    result = evaluate(task, examples, generator, split="test", dataset="d")
    assert result.rows[0].scores["points"] == score
    assert result.num_unparsed == 0


def test_text_leaves_the_model_as_it_is():
    model = Likes("A")
    config = study("question_bank", "text")
    task = make_task(config)
    assert answering(config, task, [], model) is model
    check_choices(config, task, [question([], "x")])


def test_every_question_without_choices_is_named():
    config = study("question_bank")
    bank = [question(["A. 東京", "B. 大阪"], "A"), question([], "x", 2), question(["一つ"], "一つ", 3)]
    with pytest.raises(DataError) as raised:
        check_choices(config, make_task(config), bank)
    assert [p.where for p in raised.value.problems] == ["b.csv:2", "b.csv:3"]
    with pytest.raises(ConfigError, match="summarization has no choices"):
        check_choices(study("summarization"), make_task(study("summarization")), [])
