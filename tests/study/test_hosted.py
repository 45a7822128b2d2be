"""Hosted models in a study, against a server on this machine: planned, asked once, kept, weighed, told."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import tomli_w
from tests.study.chat_server import chat_server
from tests.study.studies import Told, reviews, tiny_folder, write_rows, write_study

import tenbin
from tenbin.errors import ConfigError, CostError, ModelError, TenbinError
from tenbin.report import build_report
from tenbin.runs import StudyFolder
from tenbin.study.run import plan_file, run_study

PRICES = {
    "yen": {"per_dollar": 150.0, "date": "2026-11-01", "source": "test", "checked": True},
    "price": [
        {"model": m, "input": 1.0, "output": 10.0, "date": "2026-11-01", "source": "test", "checked": True}
        for m in ("good", "poor")
    ],
}
BAD = ("壁が", "掃除が", "予約が", "食事が", "二度と")


def even_reviews(num):
    """As many good as bad ones, so that the majority category is easy to beat."""
    rows = reviews(4 * num)
    bad = [row for row in rows if row["category"] == "悪い"][: num // 2]
    return bad + [row for row in rows if row["category"] == "良い"][: num - len(bad)]


def right(prompt, number):
    """Knows the rows of `reviews`; the server's good model."""
    text = prompt.split("号室")[0][-40:]
    return "悪い" if any(word in text for word in BAD) else "良い"


def hosted_study(folder, url, *names, local=False, **hosted):
    """A study of hosted models of the server, with prices; `local`: beside a tiny one on this machine."""
    path = write_study(folder) if local else folder / "study.toml"
    folder.mkdir(parents=True, exist_ok=True)
    write_rows(folder / "reviews.jsonl", even_reviews(60))
    models = [{"source": f"{url}#{name}", "hosted": hosted} for name in names]
    models += [{"source": "model", "name": "tiny"}] if local else []
    study = {
        "name": "small",
        "task": "classification",
        "output": "results",
        "budget": {"prices": "prices.toml"},
        "data": {"train": "reviews.jsonl", "split": {"validation": 0.2, "test": 0.3, "seed": 0}},
        "model": models,
        "training": {"learning_rates": [], "dtype": "fp32"},
        "generation": {"max_new_tokens": 8},
    }
    text = tomli_w.dumps(study)
    path.write_text(text, encoding="utf-8")
    dates = tomli_w.dumps(PRICES).replace('date = "2026-11-01"', "date = 2026-11-01")
    (folder / "prices.toml").write_text(dates, encoding="utf-8")
    return path


def run(path, **changes):
    offline = changes.pop("offline", False)
    screen = Told()
    done = run_study(path, overrides=changes, offline=offline, cache_dir=path.parent / "cache", screen=screen)
    return done, screen.lines


def test_it_stands_beside_a_local_model_with_paired_tests(tmp_path):
    with chat_server(right) as (url, requests):
        path = hosted_study(tmp_path, url, "good", local=True)
        done, _ = run(path)
        assert len(requests) == 18
    by_name = {result.spec.label: result for result in done.results}
    assert set(by_name) == {"good (hosted)", "tiny (base)"}
    hosted = by_name["good (hosted)"]
    assert hosted.results["test"].metrics[0].estimate.value == 1.0
    assert hosted.hosted.num_calls == 18
    assert hosted.hosted.cost_usd == pytest.approx(
        (hosted.hosted.input_tokens * 1.0 + hosted.hosted.output_tokens * 10.0) / 1e6
    )
    assert hosted.hosted.cost_yen == pytest.approx(150 * hosted.hosted.cost_usd)
    assert 0 < hosted.hosted.latency_median_s <= hosted.hosted.latency_p95_s

    study = StudyFolder(done.folder)
    rows = {run.spec.label: run.read_rows("test") for run in study.runs()}
    assert [r.prompt for r in rows["good (hosted)"]] == [r.prompt for r in rows["tiny (base)"]]
    assert [r.id for r in rows["good (hosted)"]] == [r.id for r in rows["tiny (base)"]]
    # One user message, the same text as the local prompt.
    sent = sorted(r["body"]["messages"][0]["content"] for r in requests)
    assert sent == sorted(r.prompt for r in rows["good (hosted)"])
    assert all(len(r["body"]["messages"]) == 1 for r in requests)

    report = build_report(study)
    (pair,) = [
        c
        for c in report.recommendation.comparisons
        if {c.a.name, c.b.name} == {"good (hosted)", "tiny (base)"}
    ]
    assert pair.p_value is not None
    assert report.recommendation.chosen.name == "good (hosted)"
    text = done.report.read_text(encoding="utf-8")
    assert "the data leave your machine" in text
    assert "What the hosted models took" in text
    assert "127.0.0.1" in text
    assert not report.evidence.incomplete  # no learning rate is waited for


def test_done_is_not_asked_again_and_needs_no_network(tmp_path):
    with chat_server(right) as (url, requests):
        path = hosted_study(tmp_path, url, "good")
        run(path)
        again, lines = run(path)
        assert len(requests) == 18
    assert "1 of 1 runs are done already" in lines
    offline, _ = run(path, offline=True)  # the server is gone
    assert offline.results == again.results


def test_offline_refuses_before_anything_is_written(tmp_path):
    path = hosted_study(tmp_path, "http://127.0.0.1:9/v1", "good", "poor")
    with pytest.raises(TenbinError, match="offline") as raised:
        run(path, offline=True)
    assert len(raised.value.problems) == 2
    assert not (tmp_path / "results").exists()


def test_the_plan_counts_calls_tokens_and_money_without_a_call(tmp_path):
    path = hosted_study(tmp_path, "http://127.0.0.1:9/v1", "good", "unpriced", repeats=3)
    good, unpriced = plan_file(path)
    assert (good.calls.num_prompts, good.calls.num_calls, good.calls.output_tokens) == (18, 54, 54 * 8)
    assert good.calls.cost.usd == pytest.approx((good.calls.input_tokens + 10 * 54 * 8) / 1e6)
    assert unpriced.calls.cost is None
    assert json.dumps(good.to_json())
    assert not (tmp_path / "results").exists()


def test_a_limit_stops_before_it_is_passed_and_what_was_answered_is_kept(tmp_path):
    with chat_server(right) as (url, requests):
        path = hosted_study(tmp_path, url, "good", concurrency=1)
        with pytest.raises(CostError, match="max_cost"):
            run(path, **{"budget.max_cost": "0.0016 USD"})
        before = len(requests)
        assert 0 < before < 18
        run(path, **{"budget.max_cost": "1 USD"})
        assert len(requests) == 18


def test_repeats_are_shown_with_their_spread(tmp_path):
    def moody(prompt, number):
        return right(prompt, number) if number % 4 else "悪い"

    with chat_server(moody) as (url, requests):
        path = hosted_study(tmp_path, url, "good", repeats=3, concurrency=1)
        done, _ = run(path)
        assert len(requests) == 54
    (result,) = done.results
    use = result.hosted
    values = use.repeat_values
    assert len(values) == 3
    assert values[0] == result.results["test"].metrics[0].estimate.value
    assert use.repeat_sd is not None
    assert 0 < use.num_changed <= 18
    (made,) = StudyFolder(done.folder).runs()
    for number, value in zip((2, 3), values[1:], strict=True):
        rows = made.read_rows(f"test-repeat-{number:02d}")
        assert sum(r.scores["accuracy"] for r in rows) / 18 == pytest.approx(value)
    (table,) = [t for t in build_report(StudyFolder(done.folder)).more if t.id == "repeats"]
    assert table.rows[0][1].text == "3"


def test_failed_calls_are_errors_and_are_made_again(tmp_path):
    broken = {"now": True}

    def answer(prompt, number):
        return 400 if broken["now"] and "掃除が" in prompt else right(prompt, number)

    with chat_server(answer) as (url, _):
        path = hosted_study(tmp_path, url, "good")
        first, _ = run(path)
        failed = first.results[0].results["test"].num_errors
        assert 0 < failed < 18
        assert first.results[0].results["test"].metrics[0].estimate.n == 18 - failed
        broken["now"] = False
        second, lines = run(path)
    assert second.results[0].results["test"].num_errors == 0
    assert any("failed the last time" in line for line in lines)


def test_likelihoods_cannot_be_had(tmp_path):
    path = hosted_study(tmp_path, "http://127.0.0.1:9/v1", "good")
    with pytest.raises(ConfigError, match="hosted and gives no likelihoods"):
        run(path, **{"evaluation.answer_by": "likelihood"})


def test_a_missing_key_stops_a_study_before_it_works(tmp_path, monkeypatch):
    monkeypatch.delenv("TENBIN_TEST_KEY", raising=False)
    path = hosted_study(tmp_path, "http://127.0.0.1:9/v1", "good", local=True, api_key_env="TENBIN_TEST_KEY")
    with pytest.raises(ModelError, match="TENBIN_TEST_KEY"):
        run(path)
    assert not (tmp_path / "results").exists()


WITHOUT_TORCH = """
import sys

class Without:  # as where they are not installed
    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        missing = name.split(".")[0] in ("torch", "transformers", "safetensors")
        return None if missing else self.finder.find_spec(name, path, target)

    def __getattr__(self, name):
        return getattr(self.finder, name)

sys.meta_path[:] = [Without(finder) for finder in sys.meta_path]
from tenbin.cli import main

sys.argv = ["tenbin", *sys.argv[1:]]
main()
"""


@pytest.mark.parametrize("command", ["inspect", "plan", "run", "eval", "report"])
def test_torch_is_not_needed_for_hosted_models(tmp_path, command):
    with chat_server(right) as (url, _):
        path = hosted_study(tmp_path, url, "good")
        if command == "report":
            run(path)
        target = tmp_path / "results" if command == "report" else path
        done = subprocess.run(
            [sys.executable, "-c", WITHOUT_TORCH, command, str(target)],
            capture_output=True,
            text=True,
            check=False,
            cwd=Path(__file__).parents[2],
        )
    assert done.returncode == 0, done.stderr


def test_a_local_model_says_what_to_install(tmp_path):
    tiny_folder(tmp_path / "model")
    path = hosted_study(tmp_path, "http://127.0.0.1:9/v1", "good", local=True)
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, "plan", str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert 'pip install "tenbin[train]"' in done.stderr


def test_as_a_function(tmp_path):
    with chat_server(right) as (url, _):
        write_rows(tmp_path / "reviews.jsonl", reviews(10))
        found = tenbin.evaluate(
            f"{url}#good",
            tmp_path / "reviews.jsonl",
            task="classification",
            output=tmp_path / "out",
            overrides={"model.0.hosted.repeats": 2},
        )
    assert found.results[0].hosted.repeats == 2
    assert found.results[0].results["test"].metrics[0].estimate.value == 1.0
