"""Choosing among given answers by likelihood."""

import math

import pytest

from tenbin.errors import DataError
from tenbin.evaluation import evaluate
from tenbin.generate.choosing import Chooser, choose
from tenbin.tasks import classification
from tenbin.types import AnswerLikelihood, Example, GenerationConfig, Message


class Table:
    """Likelihoods from a table, given in the order that is asked for."""

    model_id = "table"

    def __init__(self, nats, *, backwards=False):
        self.nats = nats
        self.backwards = backwards

    def answer_likelihoods(self, pairs):
        places = list(range(len(pairs)))
        for place in reversed(places) if self.backwards else places:
            answer = pairs[place][1]
            nats = self.nats[answer]
            error = "too long" if nats is None else None
            yield place, AnswerLikelihood(nats=nats, num_tokens=2, prompt_tokens=5, error=error)


PROMPT = [Message("user", "?")]


@pytest.mark.parametrize(
    ("normalization", "chosen"), [("sum", "短い"), ("token", "短い"), ("character", "とても長い答え")]
)
def test_normalization_decides_between_short_and_long(normalization, chosen):
    nats = {"短い": -2.0, "とても長い答え": -3.5}
    (found,) = choose(Table(nats), [(PROMPT, list(nats))], normalization=normalization)
    assert list(nats)[found[1].chosen] == chosen


@pytest.mark.parametrize("backwards", [False, True])
def test_every_question_gets_its_own_choices(backwards):
    nats = {"a": -1.0, "b": -2.0, "c": -0.5, "d": -4.0, "e": -3.0}
    questions = [(PROMPT, ["b", "a"]), (PROMPT, ["d", "e", "c"])]
    found = dict(choose(Table(nats, backwards=backwards), questions))
    assert (found[0].chosen, found[1].chosen) == (1, 2)
    assert found[1].scores == (-4.0, -3.0, -0.5)


def test_shares_sum_to_one():
    (found,) = choose(Table({"a": math.log(0.3), "b": math.log(0.1)}), [(PROMPT, ["a", "b"])])
    assert found[1].shares == pytest.approx((0.75, 0.25))


def test_what_could_not_be_computed_chooses_nothing():
    nats = {"a": -1.0, "b": None}
    (found,) = choose(Table(nats), [(PROMPT, ["a", "b"])])
    assert found[1].chosen is None
    assert found[1].shares is None
    ((_, completion),) = Chooser(Table(nats), [["a", "b"]]).generate(
        [PROMPT], GenerationConfig(max_new_tokens=1)
    )
    assert (completion.stop_reason, completion.error) == ("error", "too long")


def test_bad_choices_are_all_said():
    with pytest.raises(DataError) as raised:
        list(
            choose(
                Table({}), [(PROMPT, ["a"]), (PROMPT, ["a", ""]), (PROMPT, ["a", "b"]), (PROMPT, ["a", "a"])]
            )
        )
    assert [p.where for p in raised.value.problems] == ["question 1", "question 2", "question 4"]


def test_an_evaluation_by_likelihood_leaves_nothing_unparsed():
    task = classification.task(classification.plain(("よい", "わるい")), ("よい", "わるい"), None)
    examples = [
        Example(id="1", inputs={"text": "最高"}, references=("よい",)),
        Example(id="2", inputs={"text": "最低"}, references=("わるい",)),
    ]
    generator = Chooser(Table({"よい": -1.0, "わるい": -1.5}), [task.categories] * 2)
    result = evaluate(task, examples, generator, split="test", dataset="x")
    assert result.num_unparsed == 0
    assert [row.answer for row in result.rows] == ["よい", "よい"]
    assert result.metrics[0].estimate.value == 0.5
