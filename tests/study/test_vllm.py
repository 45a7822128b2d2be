"""Models that vLLM serves, with a stand-in for it: asked, kept, weighed as local ones, ended."""

import json
import os
from pathlib import Path

import pytest
import torch
from platformdirs import user_cache_path
from tests.study.studies import Told, rows_of, tiny_folder, write_rows, write_study
from tests.study.test_evaluating import make_adapter
from tests.vllm_stand_in import gone, records, write_vllm

import tenbin
from tenbin.config import parse_study
from tenbin.config_vllm import VllmSection
from tenbin.device import Device
from tenbin.errors import ConfigError, ModelError
from tenbin.models.loading import load_model, resolve_source
from tenbin.report import build_report
from tenbin.runs import StudyFolder
from tenbin.study.run import plan_file, run_study
from tenbin.study.serving import memory_share

PLAIN = {"learning_rates": [], "dtype": "fp32"}


def served_study(folder, how="answers", **sections):
    """A study of one model that vLLM serves; the stand-in is in the study's folder."""
    vllm = {"command": str(write_vllm(folder / "bin", how)), "start_timeout_s": 120.0}
    models = [{"source": "vllm:model", "name": "big", "vllm": vllm | sections.pop("vllm", {})}]
    return write_study(
        folder,
        model=models + sections.pop("more", []),
        training=PLAIN | sections.pop("training", {}),
        **sections,
    )


def run(path, **changes):
    screen = Told()
    done = run_study(path, overrides=changes, cache_dir=path.parent / "cache", offline=True, screen=screen)
    return done, screen.lines


def test_it_stands_beside_a_local_model_as_a_local_one(tmp_path):
    more = [{"source": "model", "name": "tiny"}]
    done, lines = run(served_study(tmp_path, more=more, training={"learning_rates": [0.01], "epochs": 1}))
    by_name = {result.spec.label: result for result in done.results}
    assert set(by_name) == {"big (base, vLLM)", "tiny (base)", "tiny lr=0.01"}  # it is not tuned
    big = by_name["big (base, vLLM)"]
    assert big.hosted is None
    assert big.spec.variety == "base"
    assert big.evaluate_s > 0
    assert any("vLLM answers after" in line for line in lines)
    assert len(records(tmp_path / "bin")) == 1
    assert gone(tmp_path / "bin")

    (folder,) = [r.path for r in StudyFolder(done.folder).runs() if r.spec.model == "big"]
    assert (folder / "vllm.log").exists()
    versions = json.loads((folder / "environment.json").read_text())["versions"]
    assert versions["vllm"] == "0.0.stand-in"
    rows = [json.loads(line) for line in (folder / "predictions" / "test.jsonl").read_text().splitlines()]
    assert {row["completion"] for row in rows} <= {"良い", "悪い"}
    evidence = build_report(StudyFolder(done.folder)).evidence
    assert {s.name: s.kind for s in evidence.systems if s.run}["big (base, vLLM)"] == "base"
    assert evidence.incomplete == ()
    report = (done.folder / "report.md").read_text(encoding="utf-8")
    assert "big (base, vLLM)" in report
    assert "What the hosted models took" not in report


def test_what_is_done_starts_nothing_and_kept_answers_need_no_server(tmp_path):
    path = served_study(tmp_path)
    done, _ = run(path)
    again, lines = run(path)
    assert again.results == done.results
    assert "1 of 1 runs are done already" in lines
    (folder,) = StudyFolder(done.folder).runs()
    (folder.path / "result.json").unlink()
    third, _ = run(path)
    assert third.results[0].results["test"].metrics == done.results[0].results["test"].metrics
    assert third.results[0].evaluate_s == 0.0
    assert len(records(tmp_path / "bin")) == 1


def test_one_that_falls_in_the_middle_says_why_and_goes_on(tmp_path):
    path = served_study(tmp_path, "falls", vllm={"concurrency": 1})
    with pytest.raises(ModelError) as raised:
        run(path)
    text = str(raised.value)
    assert "exit code 9" in text
    assert "| RuntimeError: CUDA error: an illegal memory access" in text
    assert gone(tmp_path / "bin")
    write_vllm(tmp_path / "bin", "answers")
    done, _ = run(path)
    assert done.results[0].results["test"].num_errors == 0
    (kept,) = (done.folder / "hosted").glob("big-*.jsonl")
    lines = [json.loads(line) for line in kept.read_text().splitlines()]
    keys = [line["key"] for line in lines if line["kind"] == "answer"]
    assert len(keys) == len(set(keys)) == 6  # the three of the first run were not asked again


def test_the_plan_starts_nothing_and_needs_no_vllm(tmp_path):
    path = served_study(tmp_path, vllm={"command": "no-such-vllm", "memory_share": 0.5})
    (plan,) = plan_file(path, cache_dir=tmp_path / "cache", offline=True)
    asked = plan.to_json()["vllm"]
    assert asked["num_calls"] == asked["num_prompts"] == 6
    assert asked["input_tokens"] > 6 * 20
    assert asked["memory_share"] == 0.5
    with pytest.raises(ModelError, match="no executable no-such-vllm"):
        run(path)
    assert not (tmp_path / "results").exists()


def test_what_it_is_started_with(tmp_path):
    more = {"dtype": "bfloat16", "max_model_len": 300, "memory_share": 0.25, "args": ["--enforce-eager"]}
    run(served_study(tmp_path, vllm=more))
    (record,) = records(tmp_path / "bin")
    expected = ["serve", str(tmp_path / "model"), "--generation-config", "vllm", "--dtype", "bfloat16"]
    expected += ["--max-model-len", "300", "--gpu-memory-utilization", "0.2500", "--enforce-eager"]
    assert record["arguments"][: len(expected)] == expected


def test_the_share_of_the_memory_is_the_studys_cap():
    gpu, cpu = Device("cuda", "a GPU", 100 * 2**30), Device("cpu", "a CPU", None)
    assert memory_share(VllmSection(), gpu, 51200) == 0.5
    assert memory_share(VllmSection(), gpu, 204800) == 1.0
    assert memory_share(VllmSection(), gpu, None) is None
    assert memory_share(VllmSection(), cpu, 51200) is None
    assert memory_share(VllmSection(memory_share=0.9), gpu, 51200) == 0.9


def test_an_adapter_and_the_model_without_it_from_one_server(tmp_path):
    model = tiny_folder(tmp_path / "model")
    source = resolve_source(str(model), cache_dir=tmp_path / "cache", offline=True)
    loaded = load_model(source, dtype=torch.float32, device=torch.device("cpu"))
    adapter = make_adapter(model, loaded, tmp_path / "mine")
    write_rows(tmp_path / "reviews.jsonl", rows_of("classification", 8))
    found = tenbin.evaluate(
        f"vllm:{model}",
        str(tmp_path / "reviews.jsonl"),
        name="big",
        adapter=adapter,
        with_base=True,
        offline=True,
        output=tmp_path / "out",
        overrides={"model.0.vllm.command": str(write_vllm(tmp_path / "bin", "answers"))},
    )
    assert [r.spec.label for r in found.results] == ["big (base, vLLM)", "big + mine (vLLM)"]
    base, adapted = ([row.completion for row in run.read_rows("test")] for run in found.runs)
    assert set(adapted) == {"悪い"}
    assert set(base) == {"良い", "悪い"}
    (record,) = records(tmp_path / "bin")
    arguments = record["arguments"]
    at = arguments.index("--enable-lora")
    assert arguments[at + 1 : at + 4] == ["--max-lora-rank", "8", "--lora-modules"]
    assert arguments[at + 4].startswith("mine-")
    assert arguments[at + 4].endswith(f"={adapter}")
    assert gone(tmp_path / "bin")


def test_likelihoods_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="gives no likelihoods"):
        run(served_study(tmp_path), **{"evaluation.answer_by": "likelihood"})


@pytest.mark.parametrize(
    ("model", "found"),
    [
        ({"source": "vllm:"}, "names no model"),
        ({"source": "folder", "vllm": {}}, "begins with vllm:"),
        ({"source": "vllm:folder", "hosted": {}}, "the model is local"),
        ({"source": "vllm:folder", "vllm": {"args": ["--port", "1"]}}, "args cannot set port"),
        ({"source": "vllm:folder", "vllm": {"args": ["--max_model_len=9"]}}, "args cannot set max-model-len"),
        ({"source": "vllm:folder", "vllm": {"memory": 1}}, "unknown key"),
    ],
    ids=["no-model", "section-alone", "hosted", "port", "underscores", "unknown"],
)
def test_keys_that_do_not_fit(model, found):
    raw = {"name": "x", "task": "reading", "data": {"train": "x.csv"}, "model": [model]}
    with pytest.raises(ConfigError, match=found):
        parse_study(raw)


def test_names_come_from_what_is_served():
    raw = {"name": "x", "task": "reading", "data": {"train": "x.csv"}}
    models = [{"source": "vllm:llm-jp/llm-jp-3-1.8b"}, {"source": "vllm:models/mine.gguf"}]
    assert [m.label for m in parse_study({**raw, "model": models}).model] == ["llm-jp-3-1.8b", "mine"]


RAG = {"lengths": [100], "depths": 1, "questions": 2, "max_new_tokens": 4}


def test_long_texts_are_asked_of_it_too(tmp_path):
    path = served_study(tmp_path, task="reading", rag=RAG)
    run(path)
    assert len(records(tmp_path / "bin")) == 2  # one for the questions, one for the long texts
    assert gone(tmp_path / "bin")
    done = tenbin.rag_fitness(path, offline=True)
    assert [result.system for result in done.results] == ["big (base, vLLM)"]
    assert done.results[0].errors == {}
    assert len(records(tmp_path / "bin")) == 2  # nothing is asked twice


BANK = [
    {"id": f"q{i}", "question": f"問{i}は何か。", "answer": "壁が", "grade": "judge", "category": "一般"}
    for i in range(4)
]


def test_a_judge_is_served_and_ended(tmp_path):
    command = str(write_vllm(tmp_path / "judge", "answers"))
    judge = [
        {"source": "vllm:model", "name": "judge", "chat": False, "repeats": 1, "vllm": {"command": command}}
    ]
    write_rows(tmp_path / "bank.jsonl", BANK)
    tiny_folder(tmp_path / "model", positions=4096)
    data = {
        "train": "bank.jsonl",
        "split": {"validation": 0.0, "test": 0.5},
        "columns": {"reference": "answer"},
    }
    path = served_study(tmp_path, task="classification", judge=judge)
    text = path.read_text(encoding="utf-8").replace('task = "classification"', 'task = "question_bank"')
    path.write_text(text, encoding="utf-8")
    run(path, **{f"data.{key}": value for key, value in data.items()})
    assert len(records(tmp_path / "judge")) == 1
    assert gone(tmp_path / "judge")
    grades = (tmp_path / "results" / "grades.jsonl").read_text(encoding="utf-8")
    assert '"grader": "judge"' in grades
    assert (tmp_path / "results" / "judge-judge-vllm.log").exists()


def test_a_judge_without_vllm_is_refused_before_anything_is_done(tmp_path):
    write_rows(tmp_path / "bank.jsonl", BANK)
    judge = [{"source": "vllm:model", "name": "judge", "vllm": {"command": "no-such-vllm"}}]
    path = served_study(tmp_path, task="classification", judge=judge)
    text = path.read_text(encoding="utf-8").replace('task = "classification"', 'task = "question_bank"')
    path.write_text(text, encoding="utf-8")
    data = {"train": "bank.jsonl", "columns": {"reference": "answer"}}
    with pytest.raises(ModelError, match="judge judge"):
        run(path, **{f"data.{key}": value for key, value in data.items()})
    assert records(tmp_path / "bin") == []


@pytest.mark.model
@pytest.mark.slow
def test_a_real_server_gives_the_real_models_answers(tmp_path):
    """llama.cpp's server in the place of vLLM, with the weights that tenbin reads from the same file."""
    from tenbin.models.fetch import MODEL_FILE

    named = os.environ.get("TENBIN_TEST_MODEL")
    gguf = Path(named) if named else user_cache_path("tenbin") / "downloads" / MODEL_FILE
    if gguf.suffix != ".gguf":
        pytest.skip("TENBIN_TEST_MODEL is no .gguf file")
    bank = Path(tenbin.__file__).parent / "samples" / "question_bank.jsonl"
    command = str(write_vllm(tmp_path / "bin", f"llama:{gguf}"))
    overrides = {"model.0.vllm.command": command, "model.0.vllm.concurrency": 1}
    short = {"generation.max_new_tokens": 8, "training.dtype": "fp32"}
    settings = {"task": "question_bank", "limit": 4, "output": tmp_path / "out"}
    ours = tenbin.evaluate(str(gguf), str(bank), name="gemma", overrides=short, **settings)
    theirs = tenbin.evaluate(
        f"vllm:{gguf}", str(bank), name="gemma-vllm", overrides=short | overrides, **settings
    )
    assert theirs.results[0].spec.model_fingerprint == ours.results[0].spec.model_fingerprint
    assert theirs.results[0].results["test"].num_errors == 0
    pairs = zip(ours.runs[0].read_rows("test"), theirs.runs[0].read_rows("test"), strict=True)
    equal = [a.completion == b.completion for a, b in pairs]
    print(f"{sum(equal)} of {len(equal)} completions are equal")
    assert sum(equal) >= 2  # rounding to 8 bits changes some, see tests/generate/hosted/test_llama_cpp.py
    assert gone(tmp_path / "bin")
