"""The main job on tiny models: what is written, what is done again, what is refused before anything is."""

import json

import pytest
from tests.study.studies import contents, reviews, rows_of, run, tiny_folder, write_rows, write_study

import tenbin.study.local as study_local
import tenbin.study.run as study_run
from tenbin.errors import ConfigError, DataError, ModelError
from tenbin.report import build_report
from tenbin.runs import StudyFolder

TRAINED = {
    "adapter/adapter_config.json",
    "adapter/adapter_model.safetensors",
    "adapter/tenbin.json",
    "environment.json",
    "events.jsonl",
    "predictions/test.jsonl",
    "predictions/validation-epoch-01.jsonl",
    "predictions/validation-epoch-02.jsonl",
    "result.json",
    "run.json",
}
AS_IT_IS = {"environment.json", "events.jsonl", "predictions/test.jsonl", "result.json", "run.json"}


@pytest.fixture
def no_report(monkeypatch):
    """The report has tests of its own and takes longer than a tiny study."""
    monkeypatch.setattr(study_run, "write_report", lambda folder: folder.path / "report.html")


def finished(result):
    return {run.spec.label: run for run in StudyFolder(result.folder).runs() if run.done}


@pytest.mark.parametrize(
    ("task", "headline"),
    [("classification", "accuracy"), ("reading", "jsquad_f1"), ("summarization", "rouge1")],
)
def test_every_task_from_table_to_report(tmp_path, task, headline):
    result, lines = run(write_study(tmp_path, task))
    assert set(contents(result.folder)) >= {
        "study.toml",
        "data.json",
        "inspection.json",
        "plan.json",
        "report.html",
    }
    runs = finished(result)
    assert set(runs) == {"tiny (base)", "tiny lr=0.01"}
    assert set(contents(runs["tiny (base)"].path)) == AS_IT_IS
    tuned = runs["tiny lr=0.01"]
    assert set(contents(tuned.path)) == TRAINED
    found = tuned.result()
    assert found.results["test"].metrics[0].metric == headline
    assert found.selected_on == f"validation {headline}"
    assert [e.epoch for e in found.epochs] == [1, 2]
    assert found.train_examples == 2 * 18
    assert len(tuned.read_rows("test")) == found.results["test"].num_examples == 6
    steps = [e for e in tuned.events() if e["event"] == "step"]
    assert [e["step"] for e in steps] == list(range(1, 11))
    data = json.loads((result.folder / "data.json").read_text())
    assert {name: split["num_examples"] for name, split in data["splits"].items()} == {
        "train": 18,
        "validation": 6,
        "test": 6,
    }
    assert data["same_set"] is False
    info = json.loads((tuned.path / "adapter" / "tenbin.json").read_text())
    assert (info["task"], info["epoch"]) == (task, found.best_epoch)
    assert lines[-1] == "report"
    assert "tiny lr=1e-2" in result.report.read_text(encoding="utf-8")


def test_without_a_test_set_validation_reports(tmp_path):
    result, _ = run(write_study(tmp_path, data={"split": {"validation": 0.3, "test": 0.0}}))
    for found in finished(result).values():
        assert set(found.result().results) == {"validation"}
    assert json.loads((result.folder / "data.json").read_text())["same_set"] is True
    assert "One set both chose the epoch" in (result.folder / "report.md").read_text(encoding="utf-8")


def test_the_grid_and_only_what_is_missing(tmp_path, monkeypatch, no_report):
    path = write_study(tmp_path, training={"learning_rates": [0.01, 0.001], "seeds": [0, 3]})
    result, _ = run(path)
    assert set(finished(result)) == {
        "tiny (base)",
        "tiny lr=0.01",
        "tiny lr=0.01 seed=3",
        "tiny lr=0.001",
        "tiny lr=0.001 seed=3",
    }
    weights = {
        (found.path / "adapter" / "adapter_model.safetensors").read_bytes()
        for label, found in finished(result).items()
        if "base" not in label
    }
    assert len(weights) == 4
    before = contents(result.folder / "runs")

    loads = []
    load = study_local.load_model
    monkeypatch.setattr(study_local, "load_model", lambda *a, **k: loads.append(1) or load(*a, **k))
    again, lines = run(path)
    assert contents(result.folder / "runs") == before
    assert loads == []
    assert "5 of 5 runs are done already" in lines
    assert [r.spec.label for r in again.results] == [r.spec.label for r in result.results]

    more, _ = run(path, **{"training.learning_rates": [0.01, 0.001, 0.1], "training.seeds": [0, 3]})
    after = contents(result.folder / "runs")
    assert {name: after[name] for name in before} == before
    new = {name.split("/")[0] for name in set(after) - set(before)}
    assert {name.rsplit("-", 1)[0] for name in new} == {"tiny-lr0.1-seed0", "tiny-lr0.1-seed3"}
    assert len(loads) == 1
    assert len(more.results) == 7


@pytest.mark.parametrize("change", ["template", "data"])
def test_what_was_measured_otherwise_is_not_mixed_in(tmp_path, change, no_report):
    """The old runs are more, so the majority must not decide what is compared."""
    path = write_study(tmp_path, training={"learning_rates": [0.01, 0.001]})
    old, _ = run(path)
    if change == "template":
        overrides = {"prompt.template": "評価：$text 答え：$response"}
    else:
        write_rows(tmp_path / "reviews.jsonl", reviews(40))
        overrides = {}
    new, _ = run(path, **{"training.learning_rates": [0.01], **overrides})
    assert {r.spec.id for r in old.results}.isdisjoint({r.spec.id for r in new.results})
    assert len(StudyFolder(new.folder).runs()) == 5
    evidence = build_report(StudyFolder(new.folder)).evidence
    assert {s.key for s in evidence.systems if s.kind != "baseline"} == {r.spec.id for r in new.results}
    assert {x.run_id for x in evidence.left_out} == {r.spec.id for r in old.results}
    reason = "fingerprint of the template" if change == "template" else "fingerprint of the data"
    assert all(reason in " ".join(x.reasons) for x in evidence.left_out)


def three_files(folder, long_ones, **sections):
    """A study whose sets are files; a row of each set is too long for the model's 512 positions."""
    folder.mkdir()
    for name in ("train", "validation", "test"):
        rows = reviews(10)
        for i in long_ones:
            rows[i]["text"] += "長" * 200
        write_rows(folder / f"{name}.jsonl", rows)
    data = {"train": "train.jsonl", "validation": "validation.jsonl", "test": "test.jsonl"}
    return write_study(folder, **{**sections, "data": {**data, "split": None, **sections.get("data", {})}})


def test_too_long_is_an_error_that_lists_every_row(tmp_path):
    path = three_files(tmp_path / "s", (2, 7))
    with pytest.raises(DataError) as caught:
        run(path)
    assert [p.where for p in caught.value.problems] == [
        f"{name}.jsonl:{line}" for name in ("train", "validation", "test") for line in (3, 8)
    ]
    assert all("more than the" in p.found for p in caught.value.problems)
    assert not (tmp_path / "s" / "results").exists()


def test_too_long_is_left_out_and_counted(tmp_path, no_report):
    result, _ = run(three_files(tmp_path / "s", (2, 7), data={"too_long": "leave_out"}))
    (plan,) = json.loads((result.folder / "plan.json").read_text())["models"]
    assert {split: len(ids) for split, ids in plan["left_out"].items()} == {
        "train": 2,
        "validation": 2,
        "test": 2,
    }
    for found in finished(result).values():
        evaluation = found.result().results["test"]
        assert (evaluation.num_examples, evaluation.num_errors) == (10, 2)
        assert evaluation.metrics[0].estimate.n == 8
        assert sum(row.error is not None for row in found.read_rows("test")) == 2
    assert finished(result)["tiny lr=0.01"].result().train_examples == 2 * 8


def test_too_long_is_cut_and_counted(tmp_path, no_report):
    result, _ = run(three_files(tmp_path / "s", (2, 7), data={"too_long": "cut"}))
    (plan,) = json.loads((result.folder / "plan.json").read_text())["models"]
    assert {split: len(cut) for split, cut in plan["cut"].items()} == {"train": 2, "validation": 2, "test": 2}
    assert all(0 < chars < 200 for cut in plan["cut"].values() for chars in cut.values())
    for found in finished(result).values():
        evaluation = found.result().results["test"]
        assert (evaluation.num_examples, evaluation.num_errors) == (10, 0)


def test_nothing_is_left_to_train_on(tmp_path):
    path = write_study(tmp_path, data={"too_long": "leave_out"}, training={"max_length": 20})
    with pytest.raises(DataError, match="none of the 18 training examples fits 20 tokens"):
        run(path)
    with pytest.raises(DataError, match="does not fit 20 tokens even without its text") as caught:
        run(path, **{"data.too_long": "cut"})
    assert len(caught.value.problems) == 18
    assert not (tmp_path / "results").exists()


def test_an_answer_that_takes_all_positions(tmp_path):
    with pytest.raises(DataError, match="512 new tokens leave no room for a prompt: tiny has 512 positions"):
        run(write_study(tmp_path, generation={"max_new_tokens": 512}))


def test_models_as_they_are(tmp_path, no_report):
    result, _ = run(write_study(tmp_path, training={"learning_rates": []}))
    assert set(finished(result)) == {"tiny (base)"}


def test_only_tuned_models(tmp_path, no_report):
    result, _ = run(write_study(tmp_path, evaluation={"base_model": False}))
    assert set(finished(result)) == {"tiny lr=0.01"}


def test_a_study_without_runs_is_refused(tmp_path):
    path = write_study(tmp_path, evaluation={"base_model": False}, training={"learning_rates": []})
    with pytest.raises(ConfigError, match="there is nothing to do"):
        run(path)


def test_limits_are_kept_and_said(tmp_path, no_report):
    result, _ = run(write_study(tmp_path, data={"limit": {"train": 8, "test": 5}}))
    data = json.loads((result.folder / "data.json").read_text())
    assert {name: split["num_examples"] for name, split in data["splits"].items()} == {
        "train": 8,
        "validation": 6,
        "test": 5,
    }
    assert "train: 8 of 18 examples, drawn with seed 0 (data.limit)" in data["notes"]
    assert finished(result)["tiny lr=0.01"].result().train_examples == 16


def test_rows_that_were_skipped_are_listed(tmp_path, no_report):
    rows = reviews()
    rows[4]["text"] = " "
    path = write_study(tmp_path, rows=rows, data={"skip_bad_rows": True}, training={"learning_rates": []})
    result, _ = run(path)
    lines = (result.folder / "bad_rows.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["where"] for line in lines] == ["reviews.jsonl:5"]
    write_rows(tmp_path / "reviews.jsonl", reviews())
    run(path)
    assert not (result.folder / "bad_rows.jsonl").exists()


def test_chat_needs_a_chat_template(tmp_path, no_report):
    path = write_study(tmp_path, prompt={"chat": True}, training={"learning_rates": []})
    with pytest.raises(ModelError, match="the tokenizer has no chat template"):
        run(path)
    assert not (tmp_path / "results").exists()
    settings = tmp_path / "model" / "tokenizer_config.json"
    template = "{% for m in messages %}<s>{{ m.content }}{% endfor %}答："
    settings.write_text(json.dumps({**json.loads(settings.read_text()), "chat_template": template}))
    result, _ = run(path)
    assert set(finished(result)) == {"tiny (base)"}


def test_what_is_wrong_with_every_model_is_said_at_once(tmp_path):
    tiny_folder(tmp_path / "cut")
    (tmp_path / "cut" / "model.safetensors").unlink()
    path = write_study(
        tmp_path,
        model=[{"source": "./nowhere"}, {"source": "cut"}, {"source": "model"}],
        lora={"targets": ["q_proj", "query"]},
    )
    tiny_folder(tmp_path / "model")
    with pytest.raises(ConfigError) as caught:
        run(path)
    text = str(caught.value)
    assert "no such file or folder" in text
    assert "no model.safetensors" in text
    assert "'query' names no linear map" in text
    assert "'q_proj'" not in text
    assert not (tmp_path / "results").exists()


def test_a_model_that_fails_late_is_mended_and_goes_on(tmp_path, no_report):
    path = write_study(tmp_path)
    whole = (tmp_path / "model" / "model.safetensors").read_bytes()
    (tmp_path / "model" / "model.safetensors").write_bytes(whole[:-100])
    with pytest.raises(ModelError, match="cannot be loaded"):
        run(path)
    (tmp_path / "model" / "model.safetensors").write_bytes(whole)
    result, _ = run(path)
    assert set(finished(result)) == {"tiny (base)", "tiny lr=0.01"}


def test_a_run_that_failed_is_logged_and_done_again(tmp_path, monkeypatch, no_report):
    from tenbin.study import candidate

    path = write_study(tmp_path, evaluation={"base_model": False})

    def broken(*args, **kwargs):
        raise RuntimeError("a mistake of ours")

    with monkeypatch.context() as patched:
        patched.setattr(candidate, "train", broken)
        with pytest.raises(RuntimeError, match="a mistake of ours"):
            run(path)
    (failed,) = StudyFolder(tmp_path / "results").runs()
    assert failed.events()[-1]["error"] == "RuntimeError: a mistake of ours"
    (incomplete,) = build_report(StudyFolder(tmp_path / "results")).evidence.incomplete
    assert (incomplete.state, incomplete.detail) == ("failed", "RuntimeError: a mistake of ours")
    result, _ = run(path)
    assert set(finished(result)) == {"tiny lr=0.01"}


def test_two_rows_of_one_passage_stay_together(tmp_path, no_report):
    rows = rows_of("reading", 20)
    rows += [{**row, "id": f"{row['id']}b", "question": "どこ？"} for row in rows]
    result, _ = run(write_study(tmp_path, "reading", rows=rows, training={"learning_rates": []}))
    groups = [row.group for row in finished(result)["tiny (base)"].read_rows("test")]
    assert len(groups) == 8
    assert len(set(groups)) == 4
