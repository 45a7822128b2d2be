"""The order hint: models that know a printed order and models that do not; questions that cannot be asked."""

import json
import random

import pytest

from tenbin.contamination import askable, hint_from_json, order_hint
from tenbin.types import AnswerLikelihood, Example


def question(number, choices=None):
    listed = choices or "\n".join(
        f"{label}. {text}{number}" for label, text in zip("ABCD", ("山", "川", "海", "空"), strict=True)
    )
    return Example(id=str(number), inputs={"question": f"問{number}", "choices": listed}, references=("A",))


QUESTIONS = [question(number) for number in range(60)]


class Model:
    """Finds orders that it knows likelier than others."""

    model_id = "model"

    def __init__(self, known, room=10**6):
        self.known = known
        self.room = room

    def answer_likelihoods(self, pairs):
        for place, (messages, answer) in enumerate(pairs):
            text = messages[0].content + answer
            fits = len(text) <= self.room
            nats = (0.0 if text in self.known else -10.0) + random.Random(text).random() if fits else None
            yield (
                place,
                AnswerLikelihood(nats=nats, num_tokens=1, prompt_tokens=1, error=None if fits else "long"),
            )


def hint(known, examples=QUESTIONS, **options):
    settings = {"num_orders": 5, "seed": 0, "level": 0.95} | options
    return order_hint(Model(known), examples, **settings)


def printed(examples):
    return {f"{e.inputs['question']}\n{e.inputs['choices']}" for e in examples}


def test_a_model_that_knows_the_questions_shows_it():
    found = hint(printed(QUESTIONS))
    assert found.share.value == 1
    assert found.p_value < 1e-20
    assert found.gap.value > 9
    assert found.expected == pytest.approx(1 / 6)


def test_a_model_that_does_not_know_them_is_at_chance():
    found = hint(set(), [question(number) for number in range(600)])
    assert found.share.low < 1 / 6 < found.share.high
    assert 0.05 < found.p_value <= 1
    assert found.gap.low < 0 < found.gap.high


def test_knowing_a_third_of_them_is_enough():
    assert hint(printed(QUESTIONS[::3])).p_value < 0.001


def test_labels_stay_and_texts_move():
    asked = []

    class Listener(Model):
        def answer_likelihoods(self, pairs):
            asked.extend(answer for _, answer in pairs)
            return super().answer_likelihoods(pairs)

    order_hint(Listener(set()), QUESTIONS[:1], num_orders=5, seed=0, level=0.95)
    assert asked[0] == QUESTIONS[0].inputs["choices"]
    assert len(set(asked)) == 6
    for text in asked:
        assert [line[:2] for line in text.splitlines()] == ["A.", "B.", "C.", "D."]
        assert sorted(line[3] for line in text.splitlines()) == sorted("山川海空")


def test_orders_depend_on_the_seed_and_nothing_else():
    assert hint(set()) == hint(set())
    assert hint(set(), seed=1).rows != hint(set()).rows


@pytest.mark.parametrize(
    "choices",
    ["東京\n大阪", "東京\n東京\n大阪", "1人\n2人\n3人", "30%\n20%\n10%", "", "1,000円\n2,000円\n10,000円"],
)
def test_questions_without_an_order_of_their_own_are_not_asked(choices):
    assert askable([question(0, choices) if choices else Example(id="0", inputs={"question": "?"})]) == []


@pytest.mark.parametrize("choices", ["東京\n大阪\n京都", "3人\n1人\n2人", "A. 1.2.3\nB. 2\nC. 3"])
def test_others_are(choices):
    assert len(askable([question(0, choices)])) == 1


def test_six_choices_and_three():
    many = question(0, "\n".join("あいうえおか"))
    few = question(1, "あ\nい\nう")
    rows = hint(set(), [many, few]).rows
    assert [len(row.others) for row in rows] == [5, 5]


def test_what_does_not_fit_is_counted():
    long = question(99, "\n".join(text * 50 for text in "あいう"))
    found = order_hint(
        Model(set(), room=100), [*QUESTIONS, long], num_orders=5, seed=0, level=0.95, num_skipped=3
    )
    assert (found.num_errors, found.num_skipped, len(found.rows)) == (1, 3, 60)
    nothing = order_hint(Model(set(), room=1), QUESTIONS, num_orders=5, seed=0, level=0.95)
    assert (nothing.share, nothing.p_value, nothing.reason) == (None, None, "no examples")


def test_hints_go_to_json_and_back():
    found = hint(set())
    assert hint_from_json(json.loads(json.dumps(found.to_json()))) == found
