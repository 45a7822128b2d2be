"""Every task of the registry, under every template it offers, keeps what a task promises."""

import pytest
from tests.real_parts import encoders
from tests.tasks.conformance import (
    ANSWERS,
    INPUTS,
    Fake,
    cases,
    evaluated,
    examples_of,
    presets,
    study,
    task_of,
)

from tenbin.errors import ConfigError
from tenbin.tasks.registry import TASKS, input_fields


@pytest.fixture(params=cases(), ids=lambda case: "-".join(case))
def case(request):
    return request.param


def test_the_cases_are_the_registry():
    assert set(ANSWERS) == set(TASKS)
    assert {field for entry in TASKS.values() for field in (*entry.required, *entry.optional)} == set(INPUTS)


def test_an_oracle_scores_one_on_every_metric(case):
    task, examples = task_of(*case), examples_of(*case)
    result = evaluated(task, examples, Fake([task.target(e) for e in examples]))
    assert (result.num_examples, result.num_errors, result.num_unparsed) == (4, 0, 0)
    for metric in result.metrics:
        assert metric.estimate is not None, metric
        assert metric.estimate.value == pytest.approx(1.0), metric.metric
        assert metric.definition
    assert [row.answer for row in result.rows] == [e.references[0] for e in examples]


def test_an_oracle_needs_no_stop(case):
    """A model that goes on after the target has its answer taken all the same, or stops at a stop text."""
    task, examples = task_of(*case), examples_of(*case)
    onward = (task.generation.stop or ("",))[0] + " 次の問い"
    result = evaluated(task, examples, Fake([task.target(e) + onward for e in examples]))
    assert result.metrics[0].estimate.value == pytest.approx(1.0)


@pytest.mark.parametrize("nothing", ["", "  \n\t　"])
def test_an_empty_answer_scores_zero_and_is_counted(case, nothing):
    task, examples = task_of(*case), examples_of(*case)
    result = evaluated(task, examples, Fake([nothing] * 4, stop=False))
    assert (result.num_examples, result.num_errors, result.num_unparsed) == (4, 0, 4)
    assert all(row.answer is None for row in result.rows)
    assert {score for row in result.rows for score in row.scores.values()} == {0.0}
    for metric in result.metrics:
        assert metric.estimate is not None or metric.reason
        assert metric.estimate is None or metric.estimate.value <= 0.0, metric.metric


def test_a_right_answer_scores_above_a_wrong_one(case):
    task, examples = task_of(*case), examples_of(*case)
    answers = [task.target(e) for e in examples]
    right = evaluated(task, examples, Fake(answers)).metrics[0].estimate.value
    wrong = evaluated(task, examples, Fake(answers[1:] + answers[:1])).metrics[0].estimate.value
    assert wrong < right


def test_the_prompt_holds_every_field_and_never_the_answer_itself(case):
    task, examples = task_of(*case), examples_of(*case)
    assert task.input_fields == task.template.fields
    for example in examples:
        (message,) = task.prompt(example)
        assert message.role == "user"
        for field, value in example.inputs.items():
            assert value in message.content, field
    used = {field for preset in presets(case[0]) for field in task_of(case[0], preset).input_fields}
    assert set(TASKS[case[0]].required) <= set(task.input_fields)
    assert used <= {*TASKS[case[0]].required, *TASKS[case[0]].optional}


def test_every_optional_field_is_used_by_a_template():
    for name, entry in TASKS.items():
        used = {field for preset in presets(name) for field in task_of(name, preset).input_fields}
        assert set(entry.optional) <= used, name


def test_a_changed_input_changes_the_prompt(case):
    task, example = task_of(*case), examples_of(*case)[0]
    before = task.prompt(example)
    for field in example.inputs:
        changed = dict(example.inputs) | {field: "別の文"}
        assert task.template.prompt(changed) != before[0].content, field


@pytest.mark.parametrize("encoder", encoders())
def test_prompt_and_target_round_trip(case, encoder):
    task = task_of(*case)
    for example in examples_of(*case):
        encoded = encoder.example(task, example)
        prompt = task.prompt(example)[0].content
        bare = prompt.rstrip(" ")
        assert encoded.target_ids[-1] == encoder.eos_id
        assert encoder.tokenizer.decode(encoded.prompt_ids, skip_special_tokens=True).strip() == bare.strip()
        lead = prompt[len(bare) :]
        assert encoder.text(encoded.target_ids) == lead + task.target(example)
        assert task.parse(encoder.text(encoded.target_ids)) == example.references[0]


@pytest.mark.parametrize("name", TASKS)
def test_templates_with_a_field_missing_or_unknown_are_refused(name):
    required = TASKS[name].required
    good = " ".join(f"${field}" for field in required)
    assert input_fields(study(name, template=f"{good} $response")).required == required
    with pytest.raises(ConfigError, match=rf"does not use \${required[0]}"):
        input_fields(study(name, template="何か $response"))
    slip = required[-1][:-1] + "x"
    with pytest.raises(ConfigError) as error:
        input_fields(study(name, template=f"{good} ${slip} $response"))
    (problem,) = error.value.problems
    assert f"uses ${slip}" in problem.found
    assert f"did you mean ${required[-1]}?" in problem.remedy
    assert problem.where == "study.toml: prompt.template"


@pytest.mark.parametrize("name", [name for name, entry in TASKS.items() if entry.paper is None])
def test_a_task_without_a_paper_template_says_so(name):
    with pytest.raises(ConfigError, match=f"the paper has no template for {name}"):
        input_fields(study(name, preset="paper"))
