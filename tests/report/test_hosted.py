"""Hosted models in the report: money, seconds, repeats, and how they are weighed against local ones."""

from dataclasses import replace

import pytest
from tests.report.studies import evaluate, make_rows, make_study, spec_of, write_rows

from tenbin.report import build_report
from tenbin.report.hosted import money_text
from tenbin.report.recommendation import cost
from tenbin.runs import RunResult
from tenbin.types import HostedUse

SETTINGS = {"hosted": {"address": "https://api.example.test/v1"}}


def add_hosted(study, name, skill, *, n=120, usd=0.6, repeats=1, values=(0.9,), **more):
    """A finished run of a hosted model in a study of `make_study`."""
    plain = spec_of("classification", "tanuki-1.8b", None)
    spec = replace(plain, model=name, source=f"openai:{name}", settings={**plain.settings, **SETTINGS})
    run = study.run(spec)
    run.start({"python": "3.11"})
    rows = make_rows("classification", f"{name} base", skill, n)
    write_rows(run.path, "test", rows)
    use = {
        "num_calls": n * repeats,
        "num_cached": 0,
        "num_errors": 0,
        "num_filtered": 2,
        "num_lost": 1,
        "input_tokens": 50_000,
        "output_tokens": 1_200,
        "cost_usd": usd,
        "cost_yen": None if usd is None else 150 * usd,
        "lost_usd": 0.01,
        "cost_note": "prices: a test",
        "latency_median_s": 0.8,
        "latency_p95_s": 2.5,
        "repeats": repeats,
        "repeat_values": values,
        "repeat_sd": 0.02 if repeats > 1 else None,
        "num_changed": 7,
    }
    run.finish(
        RunResult(
            spec=spec,
            results={"test": evaluate("classification", name, "test", rows)},
            device="api.example.test",
            dtype="",
            hosted=HostedUse(**{**use, **more}),
        )
    )
    return run


def table(report, table_id):
    return next(t for t in report.more if t.id == table_id)


def test_what_it_took_is_told(tmp_path):
    study = make_study(tmp_path)
    add_hosted(study, "gpt-x", 0.95)
    report = build_report(study)
    (row,) = table(report, "hosted").rows
    assert [cell.text for cell in row] == [
        *("gpt-x (hosted)", "120", "50,000", "1,200", "$0.6000 (90.0 yen)"),
        *("$5.0000 (750.0 yen)", "0.80 (2.50)", "0", "2", "1"),
    ]
    assert table(report, "hosted").notes[0] == "prices: a test"
    assert not [t for t in report.more if t.id == "repeats"]
    (system,) = report.evidence.of_kind("hosted")
    assert system.finalist
    assert cost(system, report.evidence) == (True, 0.0, False, pytest.approx(0.005), 0.8)
    assert not [run for run in report.evidence.incomplete if run.model == "gpt-x"]


def test_a_local_model_comes_before_a_hosted_one_that_is_no_better(tmp_path):
    level = {"kasuga-13b": (0.60, 0.93), "tanuki-1.8b": (0.45, 0.93)}
    study = make_study(tmp_path, skill=level, baseline=0.5, unfinished=False)
    add_hosted(study, "gpt-x", 0.99)
    report = build_report(study)
    assert "gpt-x (hosted)" in {system.name for system in report.recommendation.tied}
    assert report.recommendation.chosen.kind == "tuned"
    assert "gpt-x (hosted)" in " ".join(report.advice.sentences)


def test_of_hosted_ones_alone_the_cheapest_of_the_tied(tmp_path):
    level = {"kasuga-13b": (0.20, 0.30), "tanuki-1.8b": (0.20, 0.30)}
    study = make_study(tmp_path, skill=level, baseline=0.5, unfinished=False)
    add_hosted(study, "dear", 0.93, usd=6.0)
    add_hosted(study, "cheap", 0.93, usd=0.06)
    add_hosted(study, "unpriced", 0.93, usd=None)
    report = build_report(study)
    assert report.recommendation.chosen.name == "cheap (hosted)"
    assert report.recommendation.reason == "cheaper"
    text = " ".join(report.advice.sentences)
    assert "its answers cost least ($0.5000 (75.0 yen) per 1,000)" in text
    assert "the data leave your machine" in text
    assert table(report, "hosted").rows[-1][4].text == "–"
    japanese = build_report(study, language="ja")
    assert "データは社外に出る" in " ".join(japanese.advice.sentences)


def test_repeats_have_a_table(tmp_path):
    study = make_study(tmp_path)
    add_hosted(study, "gpt-x", 0.95, repeats=3, values=(0.9, None, 0.95))
    (row,) = table(build_report(study), "repeats").rows
    assert [cell.text for cell in row][1:] == ["3", row[2].text, "90.00 – 95.00", "2.00", "7 / 120"]


def test_a_result_reads_back_as_it_was_written(tmp_path):
    study = make_study(tmp_path)
    run = add_hosted(study, "gpt-x", 0.95, repeats=2, values=[0.9, 0.8])
    assert run.result().hosted.repeat_values == [0.9, 0.8]
    assert run.result().hosted.latency_p95_s == 2.5


def test_money_keeps_its_digits():
    assert money_text(0.00012, 0.018) == "$0.0001 (0.0 yen)"
    assert money_text(1234.5, 185175.0) == "$1,234.50 (185,175.0 yen)"
