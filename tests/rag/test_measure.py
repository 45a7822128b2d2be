"""Asking and summing up: by length and depth, with errors and resumption."""

import json

import pytest
from tests.rag.questions import DEPTHS, EXAMPLES, PHRASES, TASK, Reader, contexts, said

from tenbin.rag.measure import ask, sum_up
from tenbin.rag.result import RagRow, context_key, result_from_json


def measured(reader, **options):
    made, impossible = contexts(**options)
    rows = ask(TASK, "passage", made, reader, absent_phrases=PHRASES)
    return rows, sum_up(TASK, rows, impossible, system="reader", level=0.95, settings={})


def test_a_reader_of_everything_is_right_everywhere():
    rows, result = measured(Reader())
    assert {row.score for row in rows if row.condition != "absent"} == {1.0}
    for length in (300, 1000):
        figure = result.find("score", "present", length)
        assert figure.estimate.value == 1
        assert (figure.num_asked, figure.estimate.n) == (15, 15)
        assert "3 groups" in figure.estimate.method  # five depths of a question are one group
        assert result.find("says_absent", "absent", length).estimate.value == 1
        assert result.find("score", "absent", length) is None
    assert [drop.difference for drop in result.drops] == [0, 0]


def test_a_reader_of_the_beginning_fails_at_depth():
    _, result = measured(Reader(sight=250), lengths=(1000,))
    by_depth = [result.find("score", "present", 1000, depth).estimate.value for depth in DEPTHS]
    assert by_depth[0] == 1
    assert by_depth[-1] == 0
    assert by_depth == sorted(by_depth, reverse=True)
    assert result.find("says_absent", "present", 1000).estimate.value > 0
    assert result.drops[0].difference < 0
    assert result.find("score", "alone", 0).estimate.value == 1


def test_errors_are_counted_and_not_scored():
    class TooLong(Reader):
        def generate(self, prompts, config):
            for index, completion in super().generate(prompts, config):
                long = len(prompts[index][0].content) > 600
                yield index, said("", error="does not fit") if long else completion

    rows, result = measured(TooLong())
    figure = result.find("score", "present", 1000)
    assert (figure.estimate, figure.reason) == (None, "no completion was got")
    assert (figure.num_asked, figure.num_errors) == (15, 15)
    assert result.errors == {"does not fit": 18}
    assert all(row.score is None and row.outcome == "error" for row in rows if row.length == 1000)
    assert [drop.length for drop in result.drops] == [300]


def test_equal_prompts_are_asked_once():
    made, _ = contexts()
    reader = Reader()
    kept = []
    ask(TASK, "passage", [*made, *made[:1]], reader, absent_phrases=PHRASES, keep=kept.append)
    assert len(reader.prompts) == len(set(reader.prompts))


def test_what_is_there_is_not_asked_again():
    made, _ = contexts()
    kept = []
    first = ask(TASK, "passage", made, Reader(), absent_phrases=PHRASES, keep=kept.append)
    assert len(kept) == len(made)
    half = {row.key: row for row in kept[: len(kept) // 2]}
    again = Reader()
    assert ask(TASK, "passage", made, again, absent_phrases=PHRASES, done=half) == first
    assert len(again.prompts) < len(made)
    assert len({context_key(context) for context in made}) == len(made)


def test_results_go_to_json_and_back():
    rows, result = measured(Reader(sight=250))
    assert result_from_json(json.loads(json.dumps(result.to_json()))) == result
    assert RagRow(**json.loads(json.dumps({f: getattr(rows[0], f) for f in RagRow.__slots__}))) == rows[0]


def test_questions_of_one_group_are_one_unit():
    from dataclasses import replace

    made, _ = contexts(lengths=(300,), depths=(0.5,), absent=False)
    same = [replace(c, example=replace(c.example, group="g")) for c in made]
    rows = ask(TASK, "passage", same, Reader(), absent_phrases=PHRASES)
    result = sum_up(TASK, rows, (), system="reader", level=0.95, settings={})
    figure = result.find("score", "present", 300)
    assert figure.estimate is None
    assert "one group only" in figure.reason
    assert result.num_questions == len(EXAMPLES)


@pytest.mark.parametrize("kind", ["reference", "needed", "other", "nowhere", "says_absent", "unparsed"])
def test_shares_of_outcomes_sum_to_one(kind):
    _, result = measured(Reader(sight=250))
    found = [f for f in result.figures if f.kind != "score" and f.length == 1000 and f.condition == "present"]
    assert sum(f.estimate.value for f in found) == pytest.approx(1)
    assert kind in {f.kind for f in found}


def test_a_bank_is_scored_by_its_rules_and_what_has_none_only_by_its_outcome():
    from dataclasses import replace

    from tenbin.tasks import question_bank

    task = question_bank.task(question_bank.PLAIN, None)
    made, _ = contexts(lengths=(300,), depths=(0.5,))
    marked = []
    for context in made:
        example = context.example
        inputs = {"context": context.text, "question": example.inputs["question"], "choices": ""}
        by = "people" if example.id == "a" else "contains"
        marked.append(replace(context, example=replace(example, inputs=inputs, marking={"grade": by})))
    rows = ask(task, "context", marked, Reader(), absent_phrases=PHRASES)
    result = sum_up(task, rows, (), system="reader", level=0.95, settings={})
    figure = result.find("score", "present", 300)
    assert (figure.estimate.value, figure.estimate.n, figure.num_asked) == (1, 2, 3)
    assert result.find("reference", "present", 300).estimate.value == 1
    only = [row for row in rows if row.id == "a"]
    figure = sum_up(task, only, (), system="x", level=0.95, settings={}).find("score", "present", 300)
    assert figure.reason == "no answer has a score"
