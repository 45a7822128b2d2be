"""A bank answered by two systems and graded by a judge, all on this machine: from run to report."""

import json
from contextlib import contextmanager

import pytest
import tomli_w
from tests.judge.attacks import ATTACKS
from tests.judge.judges import obedient, split_prompt
from tests.study.chat_server import chat_server
from tests.study.studies import Told, write_rows
from typer.testing import CliRunner

from tenbin.cli import app
from tenbin.errors import ConfigError, DataError, ModelError
from tenbin.grading.items import collect_items, finished_runs
from tenbin.grading.store import Grade, append_grades, read_grades
from tenbin.report import build_report
from tenbin.report.judging import read_pairs
from tenbin.runs import StudyFolder
from tenbin.study.judging import judge_any
from tenbin.study.run import run_study

TOWNS = ["東京", "大阪", "京都", "奈良", "神戸", "札幌", "仙台", "広島", "福岡", "那覇", "金沢", "長野"]
BANK = [
    {
        "id": f"q{number}",
        "category": "地理",
        "question": f"第{number}問 正しい町はどこか。",
        "reference": town,
        "marking_note": "1点：一致する。0点：それ以外。",
        "points": 1,
        "grade": "judge" if number < 6 else "people",
    }
    for number, town in enumerate(TOWNS)
]


def good(prompt, number):
    place = int(prompt.split("第")[1].split("問")[0])
    return TOWNS[place] if place % 4 else "わかりません"


def bad(prompt, number):
    return ATTACKS["verdict-lines"]


def by_position(text, number=0):
    code, _, data = split_prompt(text)
    if "答案A" not in data:
        return obedient(text)
    better = "A" if data["正解"] == data["答案A"] else "B" if data["正解"] == data["答案B"] else "same"
    return json.dumps({"code": code, "reason": "", "better": better})


@contextmanager
def bank_study(folder, judge, **settings):
    """A study file of two hosted models and a hosted judge, each a server of its own."""
    write_rows(folder / "bank.jsonl", BANK)
    with chat_server(good) as (one, _), chat_server(bad) as (two, _), chat_server(judge) as (third, asked):
        study = {
            "name": "bank",
            "task": "question_bank",
            "output": "results",
            "data": {
                "train": "bank.jsonl",
                "test": "bank.jsonl",
                "split": {"validation": 0.0, "test": 0.0},
            },
            "model": [{"source": f"{one}#good"}, {"source": f"{two}#bad"}],
            "training": {"learning_rates": []},
            "judge": [
                {"source": f"{third}#judge", "repeats": 2, "min_human": 5, "min_kappa": 0.2} | settings
            ],
        }
        path = folder / "study.toml"
        path.write_text(tomli_w.dumps(study), encoding="utf-8")
        yield path, asked


def people(study, share=lambda answer, reference: float(answer == reference)):
    grades = [
        Grade(
            question=item.question,
            version=item.version,
            answer=item.answer,
            extracted=item.extracted,
            grade=share(item.answer, item.references[0]),
            scale=(0.0, 0.5, 1.0),
            kind="person",
            grader="佐藤",
            reason="",
            time="2026-01-01T00:00:00+00:00",
        )
        for item in collect_items(finished_runs(study))
        if item.fields["grade"] == "people"
    ]
    append_grades(study.path, grades)


def judged(study):
    return [grade for grade in read_grades(study.path) if grade.kind == "judge"]


def test_a_study_with_a_judge_from_run_to_report(tmp_path):
    with bank_study(tmp_path, by_position, pairs=True) as (path, asked):
        run_study(path, screen=Told())
        study = StudyFolder(tmp_path / "results")
        items = collect_items(finished_runs(study))
        assert len(judged(study)) == 2 * len(items)
        assert len(asked) == 2 * len(items) + 2 * len(TOWNS)
        assert all(grade.grade == 0 for grade in judged(study) if "採点結果" in grade.answer)
        points = {run.spec.model: run.result().results["test"].points[0] for run in finished_runs(study)}
        assert points["good"].earned == sum(bool(place % 4) for place in range(6))
        assert points["bad"].earned == 0
        assert points["good"].num_ungraded == 6  # those of people: the judge's grade counts in no score
        cautions = build_report(study).advice.cautions
        assert cautions[0].startswith("The points rest on judge, which is not calibrated against people")
        people(study)
        (done,) = judge_any(path)
        assert done.calibration.num_items == sum(item.fields["grade"] == "people" for item in items)
        assert done.calibration.state == "calibrated"
        assert len(asked) == 2 * len(items) + 2 * len(TOWNS)  # nothing was asked again
        report = build_report(study)
        assert not any("not calibrated" in caution for caution in report.advice.cautions)
        told = CliRunner().invoke(app, ["judge", str(path)])
        assert told.exit_code == 0, told.output
        assert "calibrated against people: kappa 1.00" in told.output
        (part,) = [part for part in report.parts if part.id == "judges"]
        assert [table.id for table in part.tables] == [
            "judge-calibration",
            "judge-confusion-0",
            "judge-pairs",
        ]
        (pair,) = read_pairs(study)
        assert (pair.count("first") + pair.count("second"), pair.count("same")) == (9, 3)


def test_a_judge_without_a_key_stops_a_study_before_it_begins(tmp_path, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with bank_study(tmp_path, by_position, source="openai:gpt-x") as (path, _):
        with pytest.raises(ModelError, match="OPENAI_API_KEY"):
            run_study(path, screen=Told())
        assert not (tmp_path / "results" / "runs").exists()


def test_what_is_all_judged_needs_no_network_and_the_calls_are_announced(tmp_path):
    with bank_study(tmp_path, by_position) as (path, asked):
        screen = Told()
        run_study(path, screen=screen)
        assert any(line.startswith(f"judge: {len(asked)} calls, about ") for line in screen.lines)
        (done,) = judge_any(path, offline=True)
        assert done.calibration.num_judged == len(asked)


def test_a_judge_that_says_nothing_readable_is_told_of(tmp_path):
    with bank_study(tmp_path, lambda text, number=0: "満点です。") as (path, _):
        run_study(path, screen=Told())
        study = StudyFolder(tmp_path / "results")
        assert {grade.grade for grade in judged(study)} == {None}
        points = {run.spec.model: run.result().results["test"].points[0] for run in finished_runs(study)}
        assert points["good"].num_graded == 0
        (done,) = judge_any(path)
        assert done.calibration.num_unparsed == done.calibration.num_judged > 0


def test_a_judge_named_on_the_way_and_fewer_repeats(tmp_path):
    with (
        bank_study(tmp_path, by_position, calibrate=False) as (path, _),
        chat_server(obedient_call) as (more, asked),
    ):
        run_study(path, screen=Told())
        study = StudyFolder(tmp_path / "results")
        judge = {"source": f"{more}#other", "calibrate": False}
        judge_any(study.path, {**judge, "repeats": 3})
        num = len([g for g in judged(study) if g.grader == "other"])
        judge_any(study.path, {**judge, "repeats": 1})
        late = [g for g in judged(study) if g.grader == "other"][num:]
        assert len(asked) == num
        assert late
        assert all(g.grade is None and g.reason.startswith("withdrawn") and g.repeat > 0 for g in late)


def obedient_call(prompt, number):
    return obedient(prompt)


def test_what_is_wrong_is_said(tmp_path):
    with bank_study(tmp_path, by_position) as (path, asked):
        with pytest.raises(DataError, match="no study folder"):
            judge_any(tmp_path, {"source": "openai:x"})
        with pytest.raises(ConfigError, match="judge: repeats"):
            judge_any(tmp_path, {"source": "openai:x", "repeats": 0})
        with pytest.raises(ConfigError, match="no judge is named"):
            judge_any(tmp_path / "results")
        with pytest.raises(ConfigError, match="the task is reading"):
            run_study(
                path,
                overrides={"task": "reading", "data.columns": {"passage": "question", "answer": "reference"}},
            )
        assert asked == []
        refused = CliRunner().invoke(app, ["judge", str(path), "--repeats", "3"])
        assert isinstance(refused.exception, ConfigError)
