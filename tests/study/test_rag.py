"""RAG fitness of a small study: asked, resumed, reported; what cannot be asked is said."""

import json

import pytest
import tomli_w
from tests.study.chat_server import chat_server
from tests.study.studies import Told, run, tiny_folder, write_rows, write_study
from typer.testing import CliRunner

from tenbin.cli import app
from tenbin.errors import ConfigError, DataError
from tenbin.rag.store import RagFolder, current_results
from tenbin.runs import StudyFolder
from tenbin.study.prepare import prepare
from tenbin.study.rag import plan_rag, rag_file
from tenbin.study.run import run_study

RAG = {"lengths": [100, 200], "depths": 2, "questions": 2, "max_new_tokens": 4}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rag")
    tiny_folder(folder / "model", positions=900)
    path = write_study(folder, "reading", training={"epochs": 1}, rag=RAG)
    run(path)
    return path


def ask(path, **overrides):
    screen = Told()
    done = rag_file(path, overrides, cache_dir=path.parent / "cache", offline=True, screen=screen)
    return done, screen.lines


def test_a_study_with_the_section_asks_every_weighed_system(study):
    results = current_results(StudyFolder(study.parent / "results"))
    assert sorted(result.system for result in results.values()) == ["tiny (base)", "tiny lr=0.01"]
    for result in results.values():
        assert result.lengths == [0, 100, 200]
        assert result.find("score", "present", 200).num_asked == 4
        assert result.find("says_absent", "absent", 200).num_asked == 2
        assert result.errors == {}
    folder = RagFolder(StudyFolder(study.parent / "results"), plan_rag(prepare(study)).settings)
    base, tuned = ([row.completion for row in folder.rows(run_id).values()] for run_id in sorted(results))
    assert base != tuned  # the adapter took part
    report = (study.parent / "results" / "report.html").read_text(encoding="utf-8")
    assert 'id="rag"' in report
    assert 'id="chart-rag-heat"' in report


def test_what_is_done_is_not_asked_again(study):
    done, lines = ask(study)
    assert "2 of 2 systems are done already" in lines
    assert len(done.results) == 2


def test_answers_that_are_there_are_kept_and_the_result_is_the_same(study):
    folder = StudyFolder(study.parent / "results")
    before = current_results(folder)
    kept = RagFolder(folder, plan_rag(prepare(study)).settings)
    for run_id in before:
        path = kept.path / run_id / "answers.jsonl"
        lines = [line for line in path.read_text().splitlines() if line]
        path.write_text("\n".join(lines[:4]) + '\n{"id": "cut of')
        (kept.path / run_id / "result.json").unlink()
        assert len(kept.rows(run_id)) == 4
    ask(study)
    assert current_results(folder) == before
    for run_id in before:
        keys = [
            json.loads(line)["length"]
            for line in (kept.path / run_id / "answers.jsonl").read_text().splitlines()
            if line.endswith("}")
        ]
        assert len(keys) == len(lines)


def test_the_command_prints_the_tables(study):
    done = CliRunner().invoke(app, ["rag", str(study), "--offline"])
    assert done.exit_code == 0, done.output
    assert "| tiny (base) |" in done.output
    assert "report.html" in done.output.replace("\n", "")


def test_other_settings_are_another_questioning(study):
    done, _ = ask(study, **{"rag.lengths": [150]})
    assert {result.lengths[-1] for result in done.results} == {150}
    assert len(list((study.parent / "results" / "rag").glob("*/settings.json"))) == 2
    ask(study)
    assert {r.lengths[-1] for r in current_results(StudyFolder(study.parent / "results")).values()} == {200}


def test_what_does_not_fit_the_model_is_said_and_not_cut(study):
    done, lines = ask(study, **{"rag.lengths": [400]})
    for result in done.results:
        assert result.find("score", "present", 400).reason == "no completion was got"
        assert all("pass the model's 900 positions" in error for error in result.errors)
    assert any("texts were not answered" in line for line in lines)


def test_a_corpus_of_its_own(study):
    write_rows(
        study.parent / "corpus.jsonl", [{"本文": f"規程の第{i}条は{i}月に改めた。"} for i in range(40)]
    )
    changes = {"rag.corpus": "corpus.jsonl", "rag.corpus_column": "本文", "rag.lengths": [120]}
    plan = plan_rag(prepare(study, changes))
    assert any("規程" in context.text for context in plan.contexts)


def test_problems_are_said_before_anything_is_loaded(tmp_path, study):
    with pytest.raises(ConfigError, match="not asked about a text"):
        run(write_study(tmp_path, rag={}))
    assert not (tmp_path / "results").exists()
    with pytest.raises(DataError, match="corpus has only"):
        plan_rag(prepare(study, {"rag.lengths": [100_000]}))
    with pytest.raises(DataError, match="no finished run 'x'"):
        rag_file(study, runs=["x"], offline=True)
    with pytest.raises(ConfigError, match=r"has \$response 0 times"):
        plan_rag(prepare(study, {"rag.template": "$passage $question"}))
    with pytest.raises(ConfigError, match="the same value twice"):
        prepare(study, {"rag.lengths": [500, 500]})


def test_a_hosted_model_is_asked_too(tmp_path):
    with chat_server(lambda prompt, number: "本文にありません。") as (address, asked):
        path = write_study(
            tmp_path,
            "reading",
            model=[{"source": f"{address}#reader"}],
            training={"learning_rates": []},
            rag=RAG | {"questions": 3},
        )
        run_study(path)
        num = len(asked)
        (result,) = rag_file(path).results
        assert len(asked) == num  # all is there
    assert result.system == "reader (hosted)"
    assert result.find("says_absent", "absent", 200).estimate.value == 1
    assert result.find("score", "alone", 0).num_asked == 3


def test_a_bank_is_asked_about_its_contexts(tmp_path):
    rows = [
        {
            "id": f"q{i}",
            "question": "鍵はどこか。",
            "context": f"第{i}倉庫の鍵は{i}番の棚にある。" if i % 3 else "",
            "reference": f"{i}番の棚",
            "grade": "contains",
        }
        for i in range(30)
    ]
    write_rows(tmp_path / "bank.jsonl", rows)
    study = {
        "name": "bank",
        "task": "question_bank",
        "data": {"train": "bank.jsonl", "test": "bank.jsonl", "split": {"validation": 0.0, "test": 0.0}},
        "model": [{"source": "http://127.0.0.1:9/v1#x"}],
        "training": {"learning_rates": []},
        "rag": RAG | {"questions": 30, "absent_answer": "$ない$"},
    }
    path = tmp_path / "study.toml"
    path.write_text(tomli_w.dumps(study), encoding="utf-8")
    plan = plan_rag(prepare(path))
    assert plan.field == "context"
    assert len({context.example.id for context in plan.contexts}) == 20  # those with a context
    prompts = [plan.task.template.prompt(c.example.inputs | {"context": c.text}) for c in plan.contexts]
    assert all("「$ない$」とだけ" in prompt and "選択肢" not in prompt for prompt in prompts)
    assert plan.task.metrics[0].id == "points"
