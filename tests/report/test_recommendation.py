import json

import pytest
from tests.report.studies import make_study

from tenbin.report import build_report, recommendation_text
from tenbin.report.recommendation import cost, recommend
from tenbin.runs import StudyFolder

APART = {"kasuga-13b": (0.30, 0.97), "tanuki-1.8b": (0.30, 0.60)}
LEVEL = {"kasuga-13b": (0.30, 0.95), "tanuki-1.8b": (0.30, 0.94)}
USELESS = {"kasuga-13b": (0.80, 0.84), "tanuki-1.8b": (0.76, 0.82)}
UNTUNABLE = {"kasuga-13b": (0.50, 0.55), "tanuki-1.8b": (0.93, 0.945)}


def advice(path, skill, language="en", **settings):
    study = make_study(path, skill=skill, unfinished=False, **settings)
    report = build_report(study, language=language)
    return report, " ".join([report.advice.headline, *report.advice.sentences])


def test_the_clear_winner_is_chosen(tmp_path):
    report, text = advice(tmp_path, APART, baseline=0.55)
    assert report.recommendation.verdict == "choose"
    assert report.recommendation.chosen.name == "kasuga-13b lr=2e-4"
    assert text.startswith("Choose kasuga-13b lr=2e-4. On the test set it scores Accuracy ")
    assert "clearly better than all 3 other systems weighed; the closest is tanuki-1.8b lr=2e-4" in text
    assert "clearly better than its own base model" in text


def test_of_those_that_tie_the_smaller_model_is_chosen(tmp_path):
    report, text = advice(tmp_path, LEVEL, baseline=0.5)
    found = report.recommendation
    assert found.verdict == "tied"
    assert {s.name for s in found.tied} == {"kasuga-13b lr=2e-4", "tanuki-1.8b lr=2e-4"}
    assert (found.chosen.name, found.reason) == ("tanuki-1.8b lr=2e-4", "smaller")
    assert "cannot be told apart from kasuga-13b lr=2e-4 with n = 120" in text
    assert "its model is the smallest (3.35 GiB)" in text


def test_without_a_plan_size_does_not_decide(tmp_path):
    study = make_study(tmp_path, skill=LEVEL, baseline=0.5)
    (tmp_path / "plan.json").unlink()
    report = build_report(study)
    assert report.recommendation.reason == "faster"
    assert cost(report.recommendation.chosen, report.evidence)[1] == float("inf")


def test_what_does_not_beat_the_baseline_is_not_deployed(tmp_path):
    report, text = advice(tmp_path, USELESS)
    assert report.recommendation.verdict == "no baseline beaten"
    assert report.recommendation.chosen is None
    assert text.startswith(
        "Do not deploy any of these systems. The highest score on the test set is that of "
    )
    assert "not shown to be better than the majority category row" in text


def test_fine_tuning_that_does_not_help_is_not_chosen(tmp_path):
    report, text = advice(tmp_path, UNTUNABLE, baseline=0.55)
    assert report.recommendation.verdict == "base"
    assert text.startswith("Use tanuki-1.8b as it is: fine-tuning is not shown to help.")


def test_the_learning_rate_is_chosen_on_validation_not_on_test(tmp_path):
    study = make_study(tmp_path, skill=APART, baseline=0.55, unfinished=False)
    # The test figure of the worst rate is made perfect: that must not make it the finalist.
    (path,) = (tmp_path / "runs").glob("kasuga-13b-lr1e-05-*/result.json")
    raw = json.loads(path.read_text())
    raw["results"]["test"]["metrics"][0]["estimate"][0] = 1.0
    path.write_text(json.dumps(raw))
    report = build_report(study)
    finalists = [s.name for s in report.evidence.systems if s.finalist]
    assert any(
        c.startswith("kasuga-13b lr=1e-5 scores higher on the test set") for c in report.advice.cautions
    )
    assert "kasuga-13b lr=2e-4" in finalists
    assert "kasuga-13b lr=1e-5" not in finalists


def test_a_baseline_without_rows_is_weighed_by_the_interval(tmp_path):
    report, text = advice(tmp_path, APART, baseline=0.55, baseline_rows=False)
    assert report.recommendation.verdict == "choose"
    assert "Its whole interval lies above the majority category row" in text
    report, text = advice(tmp_path / "b", USELESS, baseline_rows=False)
    assert report.recommendation.verdict == "no baseline beaten"
    assert "Its interval reaches down to the majority category row" in text


def test_one_set_for_both_is_called_optimistic(tmp_path):
    report, _ = advice(tmp_path, APART, same_set=True, baseline=0.55)
    assert report.evidence.split == "validation"
    assert any("optimistic" in caution for caution in report.advice.cautions)
    assert "One set both chose" in report.advice.cautions[0]


def test_errors_unparsed_and_missing_runs_are_said(tmp_path):
    study = make_study(tmp_path, skill=UNTUNABLE, baseline=0.55)
    cautions = "\n".join(build_report(study).advice.cautions)
    assert "tanuki-1.8b (base): 1 of 120 completions failed" in cautions
    assert "answers could not be read" in cautions
    assert "3 runs of the study have no result yet" in cautions


def test_leaks_of_the_reporting_set_are_said_at_the_top(tmp_path):
    study = make_study(tmp_path)
    inspection = study.read("inspection.json")
    leak = {"kind": "text", "first": "train", "second": "test", "num_examples": 7, "places": [["a:1", "b:2"]]}
    study.write("inspection.json", {**inspection, "leaks": [leak]})
    assert "7 examples of the test set are in the training data too" in recommendation_text(study)


def test_nothing_to_weigh(tmp_path):
    report = build_report(StudyFolder(tmp_path))
    assert report.recommendation.verdict == "nothing"
    assert report.advice.headline == "Nothing can be recommended yet."


@pytest.mark.parametrize("skill", [APART, LEVEL, USELESS, UNTUNABLE])
def test_the_same_in_japanese(tmp_path, skill):
    report, text = advice(tmp_path, skill, language="ja", baseline=0.8 if skill is USELESS else 0.55)
    assert recommend(report.evidence).verdict == report.recommendation.verdict
    assert "。" in text
    assert "最多の分類" in text
    assert not any(word in text for word in ("better", "scores", "chosen"))
