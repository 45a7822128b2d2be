"""The plan of what [rag] and [[judge]] ask: counted as it is then asked, nothing loaded, nothing sent."""

import io
import json

import pytest
import tomli_w
from rich.console import Console
from tests.study.chat_server import chat_server
from tests.study.studies import contents, tiny_folder, write_rows, write_study

from tenbin.errors import ConfigError
from tenbin.planboard import further_tables
from tenbin.study.further import plan_whole
from tenbin.study.prepare import prepare
from tenbin.study.rag import plan_rag
from tenbin.study.run import run_study

RAG = {"lengths": [100, 200], "depths": 2, "questions": 2, "max_new_tokens": 4}
BANK = [
    {
        "id": f"q{i}",
        "question": f"問{i}は何か。",
        "reference": f"答{i}",
        "grade": ["judge", "people", "exact"][i % 3],
        "marking_note": "1点:合っている。",
    }
    for i in range(6)
]


def plan(path):
    return plan_whole(path, cache_dir=path.parent / "cache", offline=False)


def run(path):
    return run_study(path, cache_dir=path.parent / "cache", offline=False)


def shown(further):
    console = Console(file=io.StringIO(), width=200)
    for table in further_tables(further):
        console.print(table)
    return console.file.getvalue()


def prices(folder):
    one = {"model": "good", "input": 1.0, "output": 10.0, "source": "test", "checked": True}
    yen = {"per_dollar": 150.0, "source": "test", "checked": True}
    text = tomli_w.dumps({"yen": yen | {"date": "2026-11-01"}, "price": [one | {"date": "2026-11-01"}]})
    (folder / "prices.toml").write_text(text, encoding="utf-8")


def test_without_the_sections_there_is_nothing_more(tmp_path):
    found = plan(write_study(tmp_path))
    assert found.further == ()
    assert [model.model for model in found.models] == ["tiny"]
    assert further_tables(found.further) == []


def test_long_texts_of_local_and_hosted_models(tmp_path):
    tiny_folder(tmp_path / "model", positions=900)
    with chat_server(lambda prompt, number: "棚") as (url, requests):
        models = [
            {"source": "model", "name": "tiny"},
            {"source": f"{url}#good", "hosted": {"concurrency": 1, "repeats": 2}},
        ]
        prices(tmp_path)
        path = write_study(
            tmp_path,
            "reading",
            model=models,
            rag=RAG,
            training={"epochs": 1},
            budget={"prices": "prices.toml"},
        )
        before = plan(path)
        assert not requests
        assert not (tmp_path / "results").exists()
        tiny, good = before.further
        assert (tiny.part, tiny.model, tiny.num_systems) == ("rag", "tiny", 2)  # as it is, and tuned
        assert (good.part, good.model, good.num_systems) == ("rag", "good", 1)
        num_texts = len(plan_rag(prepare(path)).contexts)
        assert num_texts >= 2 * (1 + 2 * 2)  # 2 questions, each alone and in 2 lengths at 2 places
        assert tiny.asking.num_calls == 2 * num_texts
        assert good.asking.num_calls == num_texts
        assert tiny.asking.output_tokens == 4 * tiny.asking.num_calls
        assert tiny.asking.memory_bytes > 0
        assert tiny.asking.seconds > 0
        assert good.asking.seconds is None
        assert good.asking.cost.usd == pytest.approx(
            (good.asking.input_tokens * 1.0 + good.asking.output_tokens * 10.0) / 1e6
        )
        text = shown(before.further)
        assert "rag: tiny" in text
        assert f"${good.asking.cost.usd:.4f}" in text

        run(path)
        own = plan(path).models[1].to_json()["hosted"]["num_prompts"]
        # What was planned was asked: the study's own questions twice, the long texts once.
        assert len(requests) == 2 * own + good.asking.num_calls
        after = plan(path)
        assert [part.asking.num_calls for part in after.further] == [0, 0]
        assert [part.asking.num_cached for part in after.further] == [2 * num_texts, num_texts]
        assert after.further[1].asking.cost.usd == 0.0


def test_the_tokens_of_long_texts_are_those_of_the_answers(tmp_path):
    tiny_folder(tmp_path / "model", positions=900)
    path = write_study(tmp_path, "reading", rag=RAG, training={"learning_rates": []})
    (planned,) = plan(path).further
    run(path)
    answers = sorted((tmp_path / "results" / "rag").glob("*/*/answers.jsonl"))
    rows = [json.loads(line) for file in answers for line in file.read_text().splitlines() if line]
    assert planned.asking.num_calls == len(rows)
    assert planned.asking.input_tokens == sum(row["input_tokens"] for row in rows)
    assert planned.asking.longest_tokens == max(row["input_tokens"] for row in rows) + 4


def bank_study(folder, source, **judge):
    tiny_folder(folder / "model", positions=2048)
    prices(folder)
    study = {
        "name": "small",
        "task": "question_bank",
        "output": "results",
        "budget": {"prices": "prices.toml"},
        "data": {"train": "bank.jsonl", "test": "bank.jsonl", "split": {"validation": 0.0, "test": 0.0}},
        "model": [{"source": "model", "name": "one"}, {"source": "model", "name": "two"}],
        "training": {"learning_rates": [], "dtype": "fp32"},
        "generation": {"max_new_tokens": 6},
        "judge": [{"source": source, "repeats": 2, "max_new_tokens": 50, **judge}],
    }
    write_rows(folder / "bank.jsonl", BANK)
    path = folder / "study.toml"
    path.write_text(tomli_w.dumps(study), encoding="utf-8")
    return path


def test_a_hosted_judge_is_counted_before_the_answers_are_there_and_after(tmp_path):
    with chat_server(lambda prompt, number: "{}") as (url, requests):
        path = bank_study(tmp_path, f"{url}#good")
        (before,) = plan(path).further
        assert before.part == "judge good"
        # 4 of 6 questions are for a judge (2 to calibrate it), 2 systems, each answer twice.
        assert before.asking.num_calls == 4 * 2 * 2
        assert before.asking.output_tokens == 16 * 50
        assert before.asking.cost.usd > 16 * 50 * 10 / 1e6
        assert not requests
        run(path)
        assert 0 < len(requests) <= before.asking.num_calls  # equal answers are judged once
        usage = requests[0]["body"]["messages"][-1]["content"]
        assert "採点" in usage
        (after,) = plan(path).further
        assert after.asking.num_calls == 0
        assert after.asking.num_cached == len(requests)


def test_pairs_are_counted_too(tmp_path):
    with chat_server(lambda prompt, number: "{}") as (url, _):
        grades, twins = plan(bank_study(tmp_path, f"{url}#good", pairs=True)).further
    assert twins.part == "judge good, pairs"
    assert twins.asking.num_calls == 4 * 2  # one pair of systems, both positions
    assert grades.asking.num_calls == 16
    assert "judge good, pairs" in shown((grades, twins))


def test_a_local_judge_says_its_memory(tmp_path):
    path = bank_study(tmp_path, "model", name="referee", chat=False)
    before = contents(tmp_path)
    (judge,) = plan(path).further
    assert judge.model == "referee"
    assert judge.asking.memory_bytes > 0
    assert judge.asking.longest_tokens > 100
    assert judge.asking.cost is None
    assert "none" in shown((judge,))
    assert set(contents(tmp_path)) == set(before)


def test_a_judge_of_another_task_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="judges grade answers to a question bank"):
        plan(write_study(tmp_path, judge=[{"source": "model"}]))


def test_the_command_prints_it(tmp_path, cli, monkeypatch):
    tiny_folder(tmp_path / "model", positions=900)
    path = write_study(tmp_path, "reading", rag=RAG)
    monkeypatch.setenv("COLUMNS", "160")
    code, out, err = cli("plan", path, "--offline")
    assert code == 0, err
    assert "Asked beyond the study's own questions" in out
    assert "rag: tiny" in out
