"""Evaluation: errors are a third state, groups are clusters, every prompt is answered once."""

import pytest
from tests.tasks.conformance import Fake, completion, evaluated, examples_of, task_of

from tenbin.evaluation import evaluate_baseline, score
from tenbin.types import Example


@pytest.fixture
def task():
    return task_of("reading")


@pytest.fixture
def examples():
    return examples_of("reading")


def right(task, examples):
    return [task.target(e) for e in examples]


def test_errors_are_left_out_and_counted(task, examples):
    says = right(task, examples)
    says[1], says[2] = None, "まちがい"
    result = evaluated(task, examples, Fake(says))
    assert (result.num_examples, result.num_errors, result.num_unparsed) == (4, 1, 0)
    em = result.metric("jsquad_em").estimate
    assert (em.value, em.n) == (pytest.approx(2 / 3), 3)
    failed = result.rows[1]
    assert (failed.error, failed.answer, set(failed.scores.values())) == ("the model is gone", None, {None})


def test_only_errors_are_undefined_with_a_reason_not_zero(task, examples):
    result = evaluated(task, examples, Fake([None] * 4))
    assert (result.num_errors, result.num_unparsed) == (4, 0)
    for metric in result.metrics:
        assert metric.estimate is None
        assert metric.reason


def test_of_a_classification_of_errors_too():
    task, examples = task_of("classification"), examples_of("classification")
    result = evaluated(task, examples, Fake([None] * 4))
    assert [m.estimate for m in result.metrics] == [None] * 4
    assert all(m.reason for m in result.metrics)


def test_groups_are_clusters(task):
    """Twenty groups of five that are right or wrong together say as much as twenty examples."""
    examples = [
        Example(
            id=f"e{i}",
            inputs={"passage": f"本文{i // 5}", "question": f"問い{i}"},
            references=("答え",),
            group=f"g{i // 5}",
        )
        for i in range(100)
    ]
    says = ["答え" if i // 5 < 10 else "違う" for i in range(100)]
    grouped = evaluated(task, examples, Fake(says)).metric("jsquad_em").estimate
    alone = [Example(id=e.id, inputs=e.inputs, references=e.references) for e in examples]
    single = evaluated(task, alone, Fake(says)).metric("jsquad_em").estimate
    assert grouped.value == single.value == 0.5
    assert grouped.high - grouped.low > 1.8 * (single.high - single.low)
    assert grouped.method != single.method


def test_groups_of_one_change_nothing(task, examples):
    says = [*right(task, examples)[:3], "違う"]
    with_groups = examples_of("reading", groups=["a", "b", "c", "d"])
    assert evaluated(task, with_groups, Fake(says)).metrics == evaluated(task, examples, Fake(says)).metrics


def test_the_order_of_completions_is_free(task, examples):
    says = right(task, examples)
    one = evaluated(task, examples, Fake(says))
    other = evaluated(task, examples, Fake(says, order=[2, 0, 3, 1]))
    assert one == other
    assert [row.id for row in other.rows] == ["e0", "e1", "e2", "e3"]


def test_two_answers_to_a_prompt_are_a_mistake(task, examples):
    with pytest.raises(AssertionError, match="prompt 1 was answered twice"):
        evaluated(task, examples, Fake(right(task, examples), order=[0, 1, 1, 2]))


def test_a_prompt_without_an_answer_is_a_mistake(task, examples):
    with pytest.raises(AssertionError, match="left prompts without a completion"):
        evaluated(task, examples, Fake(right(task, examples), order=[0, 1, 3]))


def test_a_completion_too_few_is_a_mistake(task, examples):
    with pytest.raises(ValueError, match="shorter"):
        score(task, examples, [completion("x")] * 3, model_id="m", split="test", dataset="d")


def test_what_stands_in_a_row(task, examples):
    row = evaluated(task, examples, Fake(["2021年\n続き", *right(task, examples)[1:]], stop=False)).rows[0]
    assert row.prompt == task.prompt(examples[0])[0].content
    assert (row.completion, row.answer, row.references) == ("2021年\n続き", "2021年", ("2021年",))
    assert (row.input_tokens, row.output_tokens, row.stop_reason) == (3, 2, "stop")


@pytest.mark.parametrize("name", ["classification", "summarization"])
def test_baselines_answer_without_a_model(name):
    task, examples = task_of(name), examples_of(name)
    (baseline,) = task.baselines
    result = evaluate_baseline(task, baseline, examples, examples, split="test", dataset="d")
    assert result.model_id == baseline.name
    assert (result.num_errors, result.num_unparsed) == (0, 0)
    assert result.metrics[0].estimate.n == 4
    if name == "classification":
        assert result.metric("accuracy").estimate.value == 0.5
