"""The table of an evaluation on a terminal: nothing that counts is left unsaid."""

import io
from dataclasses import replace

from rich.console import Console
from tests.report.studies import make_study
from tests.report.test_hosted import add_hosted

from tenbin.scoreboard import metrics_board, result_lines


def text_of(table):
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(table)
    return console.export_text()


def test_a_local_run(tmp_path):
    study = make_study(tmp_path)
    (run,) = [run for run in study.runs() if run.spec.label == "tanuki-1.8b (base)"]
    result = run.result()
    board = text_of(metrics_board([result]))
    estimate = result.results["test"].metrics[0].estimate
    assert f"{100 * estimate.value:.2f}" in board
    assert f"{100 * estimate.low:.2f} – {100 * estimate.high:.2f} (95 %)" in board
    assert "Accuracy (%)" in board
    text = "\n".join(result_lines(result, run))
    evaluation = result.results["test"]
    assert f"120 examples: 1 error (no score), {evaluation.num_unparsed} unparsed" in text
    rows = run.read_rows("test")
    assert f"{sum(r.input_tokens for r in rows):,} prompt tokens" in text
    assert "NVIDIA H200, bf16" in text


def test_an_undefined_metric_says_why(tmp_path):
    run = next(run for run in make_study(tmp_path).runs() if run.spec.kind == "eval")
    result = run.result()
    evaluation = result.results["test"]
    undefined = replace(evaluation.metrics[0], estimate=None, reason="no examples")
    changed = replace(result, results={"test": replace(evaluation, metrics=(undefined,))})
    board = text_of(metrics_board([changed]))
    assert "undefined" in board
    assert "no examples" in board


def test_a_hosted_run(tmp_path):
    study = make_study(tmp_path)
    run = add_hosted(study, "gpt-x", 0.9, repeats=2, values=(0.9, 0.8))
    text = "\n".join(result_lines(run.result(), run))
    assert "50,000 prompt tokens, 1,200 answer tokens, cost $0.6000 (90.0 yen)" in text
    assert "0.80 s an answer (median), 2.50 s (95 %)" in text
    assert "asked 2 times: 0.9000, 0.8000; standard deviation 0.0200; 7 examples changed in score" in text
    assert "2 kept back by the content filter" in text
    assert "1 call lost (may have been billed, at most $0.0100 on top)" in text


def test_a_hosted_run_without_a_price(tmp_path):
    run = add_hosted(make_study(tmp_path), "gpt-x", 0.9, usd=None, cost_note="no cost: no price for gpt-x")
    text = "\n".join(result_lines(run.result(), run))
    assert "cost not known" in text
    assert "no cost: no price for gpt-x" in text


def test_the_plan_and_what_was_measured(tmp_path):
    run = next(run for run in make_study(tmp_path).runs() if run.spec.kind == "train")
    probe = {"before": "blocks: 9 keep input", "after": "blocks: 9 keep everything", "tokens": 4096}
    probe |= {"predicted_mib": 30_500, "measured_mib": 28_100, "planned_mib": 44_200, "shrunk": []}
    text = "\n".join(result_lines(replace(run.result(), probe=probe), run))
    said = "blocks: 9 keep input: planned 30,500 MiB, held 28,100; blocks: 9 keep everything: 44,200"
    assert said in text
    assert "planned" not in "\n".join(result_lines(run.result(), run))
