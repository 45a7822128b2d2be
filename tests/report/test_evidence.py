import re
from dataclasses import replace

import pytest
from tests.report.studies import evaluate, make_rows, make_study, spec_of, write_rows

from tenbin.data.dataset import fingerprint_of
from tenbin.report.evidence import comparable, read_evidence
from tenbin.report.words import Words
from tenbin.runs import RunResult, StudyFolder
from tenbin.tasks.metrics import METRICS
from tenbin.types import Example

WORDS = Words("en")


@pytest.fixture
def result():
    return evaluate("classification", "m", "test", make_rows("classification", "a", 0.8, 20))


def test_equal_results_compare(result):
    assert comparable(result, replace(result, model_id="other")) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"dataset": "x"}, "fingerprint of the data: x and data-test"),
        ({"template": "x"}, "fingerprint of the template: x and template-1"),
        ({"split": "validation"}, "set: validation and test"),
        ({"task": "reading"}, "task: reading and classification"),
        ({"num_examples": 19}, "number of examples: 19 and 20"),
        ({"metrics": ()}, "metrics: [] and ['accuracy', 'mcc']"),
    ],
)
def test_what_differs_is_named(result, change, said):
    assert comparable(replace(result, **change), result) == [said]


def test_definitions_must_agree(result):
    other = replace(
        result, metrics=(replace(result.metrics[0], definition="by the last word"), result.metrics[1])
    )
    (reason,) = comparable(other, result)
    assert reason.startswith("definition of accuracy: 'by the last word' and ")


def test_another_version_of_the_dictionary_is_another_metric(result):
    ours = METRICS["rouge1"].definition
    assert "fugashi " in ours
    assert "ipadic 1.0.0" in ours
    other = ours.replace("ipadic 1.0.0", "ipadic 2.0.0")
    a, b = (
        replace(result, metrics=(replace(result.metrics[0], metric="rouge1", definition=text),))
        for text in (ours, other)
    )
    assert comparable(a, a) == []
    assert comparable(a, b) == [f"definition of rouge1: {ours!r} and {other!r}"]


@pytest.mark.parametrize(
    "metric", [m for m in METRICS if m.startswith(("rouge", "jpstable")) and not m.endswith("_char")]
)
def test_every_metric_of_words_names_its_dictionary_and_version(metric):
    found = re.findall(r"(fugashi|ipadic|unidic-lite) (\d\S*\d)", METRICS[metric].definition)
    assert {name for name, _ in found} in ({"fugashi", "ipadic"}, {"fugashi", "unidic-lite"})


def test_everything_that_differs_is_said_at_once(result):
    other = replace(result, dataset="x", template="y", metrics=(replace(result.metrics[0], definition="z"),))
    assert [reason.split(":")[0] for reason in comparable(other, result)] == [
        "fingerprint of the data",
        "fingerprint of the template",
        "definition of accuracy",
    ]


def test_a_changed_reference_is_other_data():
    example = Example(id="1", inputs={"text": "a"}, references=("b",))
    prints = {
        fingerprint_of([changed])
        for changed in (
            example,
            replace(example, references=("c",)),
            replace(example, inputs={"text": "c"}),
            replace(example, id="2"),
            replace(example, group="g"),
        )
    }
    assert len(prints) == 5
    assert fingerprint_of([replace(example, source="elsewhere.csv:9")]) == fingerprint_of([example])


def test_runs_without_a_result_are_never_missing(tmp_path):
    evidence = read_evidence(make_study(tmp_path, n=20), WORDS)
    assert [(r.name, r.state, r.detail) for r in evidence.incomplete] == [
        ("kasuga-13b lr=1e-5", "stopped", "step (epoch 2, step 110)"),
        ("tanuki-1.8b lr=2e-5", "failed", "CUDA out of memory: 45,900 of 46,000 MiB <b>"),
        ("tanuki-1.8b lr=1e-5", "not begun", ""),
    ]


def test_the_order_is_the_papers(tmp_path):
    evidence = read_evidence(make_study(tmp_path, n=20, unfinished=False), WORDS)
    assert [s.name for s in evidence.systems][:6] == [
        "kasuga-13b (base)",
        "kasuga-13b lr=2e-4",
        "kasuga-13b lr=5e-5",
        "kasuga-13b lr=2e-5",
        "kasuga-13b lr=1e-5",
        "tanuki-1.8b (base)",
    ]
    assert evidence.systems[-1].name == "majority category"


def test_a_result_of_other_data_is_left_out_with_the_reason(tmp_path):
    study = make_study(tmp_path, n=20)
    spec = replace(spec_of("classification", "old-7b", None), settings={"data": "last year's"})
    rows = make_rows("classification", "x", 0.99, 20)
    found = replace(evaluate("classification", "old-7b", "test", rows), dataset="data-2025")
    run = study.run(spec)
    run.start({})
    run.finish(RunResult(spec=spec, results={"test": found}))
    evidence = read_evidence(study, WORDS)
    (left_out,) = evidence.left_out
    assert left_out.name == "old-7b (base)"
    assert left_out.reasons == ("fingerprint of the data: data-2025 and data-test",)
    assert "old-7b (base)" not in [s.name for s in evidence.systems]


def test_runs_that_differ_in_settings_are_told_apart(tmp_path):
    study = make_study(tmp_path, n=20)
    spec = replace(
        spec_of("classification", "kasuga-13b", 2e-4),
        settings={"lora": {"rank": 64}, "training": {"epochs": 3}},
    )
    rows = make_rows("classification", "x", 0.9, 20)
    run = study.run(spec)
    run.start({})
    write_rows(run.path, "test", rows)
    run.finish(RunResult(spec=spec, results={"test": evaluate("classification", "k", "test", rows)}))
    names = [s.name for s in read_evidence(study, WORDS).systems]
    assert "kasuga-13b lr=2e-4 [lora.rank=64]" in names
    assert "kasuga-13b lr=2e-4 [lora.rank=16]" in names


def test_an_empty_folder_is_a_study_too(tmp_path):
    evidence = read_evidence(StudyFolder(tmp_path), WORDS)
    assert evidence.systems == ()
    assert evidence.incomplete == ()


def test_a_step_done_twice_counts_once(tmp_path):
    study = make_study(tmp_path, n=20)
    run = study.run(spec_of("classification", "kasuga-13b", 2e-4))
    run.log("resumed", step=299)
    run.log("step", step=300, epoch=3, loss=7.0)
    losses = next(s.losses for s in read_evidence(study, WORDS).systems if s.name == "kasuga-13b lr=2e-4")
    assert len(losses) == 300
    assert losses[-1] == (300, 7.0)
