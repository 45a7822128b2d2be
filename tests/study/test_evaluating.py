"""`tenbin eval`: one model or adapter on one file or a study's set; done once, compared where alike."""

import json
import tomllib
from dataclasses import replace

import pytest
import torch
from tests.study.studies import contents, reviews, rows_of, tiny_folder, write_rows, write_study

import tenbin
from tenbin.config import LoraConfig
from tenbin.errors import ConfigError, DataError, ModelError
from tenbin.models.adapters import write_adapter
from tenbin.models.files import fingerprint_folder
from tenbin.models.loading import load_model, resolve_source
from tenbin.models.lora import add_adapter, inject, lora_layers, remove_adapter
from tenbin.report import build_report
from tenbin.runs import StudyFolder

SMALL = {"training.dtype": "fp32", "generation.max_new_tokens": 6}
TEMPLATE = "感想: $text\n評価: $response"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_folder(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def loaded(model):
    source = resolve_source(str(model), cache_dir=model.parent / "cache", offline=True)
    return load_model(source, dtype=torch.float32, device=torch.device("cpu"))


def make_adapter(model, loaded, folder, *, info=True, strength=0.3, **more):
    """An adapter that changes what the model says; with `info` as tenbin keeps it, without as PEFT does."""
    names = inject(loaded.model, "all-linear")
    add_adapter(loaded.model, "made", LoraConfig(rank=2, alpha=4.0), 0, modules=names)
    for _, layer in lora_layers(loaded.model):
        torch.nn.init.normal_(layer.lora_B["made"], std=strength, generator=torch.Generator().manual_seed(1))
    about = {
        "task": "classification",
        "template": TEMPLATE,
        "chat": False,
        "categories": ["良い", "悪い"],
        "max_new_tokens": 5,
        "base_model_fingerprint": fingerprint_folder(model),
    }
    write_adapter(
        loaded.model, "made", folder, base_model=str(model), info={**about, **more} if info else None
    )
    remove_adapter(loaded.model, "made")
    if not info:
        (folder / "tenbin.json").unlink()
    return folder


def evaluate(model, data, folder, **changes):
    settings = {"task": "classification", "offline": True, "overrides": SMALL, "output": folder}
    return tenbin.evaluate(str(model), data, **{**settings, **changes})


def data_file(folder, num=12):
    folder.mkdir(parents=True, exist_ok=True)
    write_rows(folder / "reviews.jsonl", reviews(num))
    return folder / "reviews.jsonl"


def test_a_folder_like_a_studys_and_nothing_twice(model, tmp_path):
    data = data_file(tmp_path)
    found = evaluate(model, data, tmp_path / "out", name="small")
    (run,) = found.runs
    assert run.path.name.startswith("small-base-")
    assert set(contents(run.path)) == {
        "environment.json",
        "events.jsonl",
        "predictions/test.jsonl",
        "result.json",
        "run.json",
    }
    assert len(run.read_rows("test")) == 12
    assert found.results[0].results["test"].num_examples == 12
    assert [event["event"] for event in run.events()] == ["begun", "evaluated"]
    before = contents(run.path)
    again = evaluate(model, data, tmp_path / "out", name="small")
    assert contents(run.path) == before
    assert again.results == found.results
    report = build_report(StudyFolder(found.folder))
    assert {s.name for s in report.evidence.systems} >= {"small (base)"}
    assert not report.evidence.incomplete
    assert "chose the epoch" not in " ".join(report.advice.cautions)  # nothing was chosen


def test_two_models_share_a_folder_and_are_compared(model, tmp_path):
    data = data_file(tmp_path)
    other = tiny_folder(tmp_path / "other", seed=1)
    evaluate(model, data, tmp_path / "out")
    evaluate(other, data, tmp_path / "out")
    compared = tenbin.compare(tmp_path / "out")
    assert {s.name for s in compared.systems if s.kind == "base"} == {"tiny (base)", "other (base)"}
    assert not compared.left_out
    pairs = {frozenset((row["first"], row["second"])) for row in compared.to_rows()}
    assert frozenset(("tiny (base)", "other (base)")) in pairs
    names = [m["model"] for m in json.loads((tmp_path / "out" / "plan.json").read_text())["models"]]
    assert names == ["tiny", "other"]
    study = tomllib.loads((tmp_path / "out" / "study.toml").read_text(encoding="utf-8"))
    assert [m["source"] for m in study["model"]] == [str(model), str(other)]


def test_folders_are_compared_with_each_other(model, tmp_path):
    data = data_file(tmp_path)
    other = tiny_folder(tmp_path / "other", seed=1)
    evaluate(model, data, tmp_path / "a")
    evaluate(other, data, tmp_path / "b")
    compared = tenbin.compare(tmp_path / "a", tmp_path / "b")
    assert {s.name for s in compared.systems if s.kind == "base"} == {"tiny (base)", "other (base)"}
    write_rows(tmp_path / "reviews.jsonl", reviews(15))
    evaluate(other, data, tmp_path / "c")
    (left,) = tenbin.compare(tmp_path / "a", tmp_path / "c").left_out
    assert left.name == "other (base)"
    assert "fingerprint of the data" in left.reasons[0]
    with pytest.raises(DataError) as raised:
        tenbin.compare(tmp_path / "none", tmp_path / "a", tmp_path)
    assert len(raised.value.problems) == 2


def test_another_question_does_not_go_into_the_folder(model, tmp_path):
    data = data_file(tmp_path)
    evaluate(model, data, tmp_path / "out")
    before = contents(tmp_path / "out")
    with pytest.raises(ConfigError, match="another set of examples"):
        evaluate(model, data, tmp_path / "out", limit=5)
    with pytest.raises(ConfigError, match="another template"):
        evaluate(model, data, tmp_path / "out", overrides={**SMALL, "prompt.template": TEMPLATE})
    assert contents(tmp_path / "out") == before


def test_columns_limit_and_the_same_examples_for_every_model(model, tmp_path):
    rows = [{"本文": row["text"], "評価": row["category"]} for row in reviews(30)]
    write_rows(tmp_path / "r.jsonl", rows)
    columns = {"text": "本文", "category": "評価"}
    found = evaluate(model, tmp_path / "r.jsonl", tmp_path / "out", columns=columns, limit=7)
    other = tiny_folder(tmp_path / "other", seed=1)
    second = evaluate(other, tmp_path / "r.jsonl", tmp_path / "out", columns=columns, limit=7)
    ids = [[row.id for row in run.read_rows("test")] for run in (*found.runs, *second.runs)]
    assert len(ids[0]) == 7
    assert ids[0] == ids[1]


def test_an_adapter_is_asked_as_it_was_trained(model, loaded, tmp_path):
    adapter = make_adapter(model, loaded, tmp_path / "mine")
    data = data_file(tmp_path)
    found = evaluate(
        model,
        data,
        tmp_path / "out",
        task=None,
        adapter=adapter,
        with_base=True,
        overrides={"training.dtype": "fp32"},
    )
    assert [r.spec.label for r in found.results] == ["tiny (base)", "tiny + mine"]
    base, tuned = (run.read_rows("test") for run in found.runs)
    assert base[0].prompt == tuned[0].prompt == f"感想: {reviews(1)[0]['text']}\n評価: "
    assert [row.completion for row in base] != [row.completion for row in tuned]
    assert found.results[1].spec.settings["max_new_tokens"] == 5
    systems = {s.name: s for s in build_report(StudyFolder(found.folder)).evidence.systems}
    assert systems["tiny + mine"].kind == "adapter"
    assert systems["tiny + mine"].finalist
    # The adapter's folder alone is enough: it names its base model.
    alone = evaluate(adapter, data, tmp_path / "out", task=None, overrides={"training.dtype": "fp32"})
    assert alone.runs[0].path == found.runs[1].path


def test_an_adapter_of_peft_is_asked_as_the_call_says(model, loaded, tmp_path):
    mine = make_adapter(model, loaded, tmp_path / "mine")
    foreign = make_adapter(model, loaded, tmp_path / "foreign", info=False)
    data = data_file(tmp_path)
    overrides = {**SMALL, "prompt.template": TEMPLATE, "generation.max_new_tokens": 5}
    overrides["data.categories"] = ["良い", "悪い"]
    ours = evaluate(model, data, tmp_path / "a", adapter=mine, overrides=overrides)
    theirs = evaluate(model, data, tmp_path / "b", adapter=foreign, overrides=overrides)
    assert [r.completion for r in ours.runs[0].read_rows("test")] == [
        r.completion for r in theirs.runs[0].read_rows("test")
    ]
    with pytest.raises(ConfigError, match="what the task is"):
        evaluate(model, data, tmp_path / "c", task=None, adapter=foreign)


def test_an_adapter_of_another_model_is_refused(model, loaded, tmp_path):
    adapter = make_adapter(model, loaded, tmp_path / "mine")
    other = tiny_folder(tmp_path / "other", seed=1)
    data = data_file(tmp_path)
    with pytest.raises(ModelError, match="is another model"):
        evaluate(other, data, tmp_path / "out", adapter=adapter)
    assert not (tmp_path / "out").exists()
    with pytest.raises(ModelError, match="there is no adapter_config"):
        evaluate(model, data, tmp_path / "out", adapter=tmp_path)
    with pytest.raises(ConfigError, match="trained for classification"):
        evaluate(model, data, tmp_path / "out", adapter=adapter, task="reading")


def test_a_model_of_a_study(model, loaded, tmp_path):
    models = [{"source": "model", "name": "tiny"}, {"source": "second"}]
    path = write_study(tmp_path, training={"learning_rates": [0.01], "dtype": "fp32"}, model=models)
    tiny_folder(tmp_path / "second", seed=1)
    with pytest.raises(ConfigError, match=r"--model tiny \| second"):
        tenbin.evaluate(str(path), offline=True)
    with pytest.raises(ConfigError, match="no model 'third'"):
        tenbin.evaluate(str(path), name="third", offline=True)
    found = tenbin.evaluate(str(path), name="second", offline=True)
    assert found.folder == tmp_path / "results"
    assert [r.spec.label for r in found.results] == ["second (base)"]
    assert found.results[0].results["test"].num_examples == 6
    # The study itself still has its own work to do, and the record says so.
    waiting = {run.name for run in build_report(StudyFolder(found.folder)).evidence.incomplete}
    assert waiting == {"tiny (base)", "tiny lr=1e-2", "second lr=1e-2"}


def test_an_adapter_in_a_study_must_be_asked_alike(model, loaded, tmp_path):
    path = write_study(
        tmp_path, prompt={"template": TEMPLATE}, model=[{"source": str(model), "name": "tiny"}]
    )
    adapter = make_adapter(model, loaded, tmp_path / "mine")
    found = tenbin.evaluate(str(path), adapter=adapter, offline=True)
    assert [r.spec.label for r in found.results] == ["tiny + mine"]
    odd = make_adapter(model, loaded, tmp_path / "odd", template="$text: $response")
    with pytest.raises(ConfigError, match="evaluate it apart"):
        tenbin.evaluate(str(path), adapter=odd, offline=True)


def test_what_is_missing_is_said(model, tmp_path):
    with pytest.raises(ConfigError, match="no data to evaluate on"):
        tenbin.evaluate(str(model), task="classification")
    with pytest.raises(ConfigError, match="what the task is"):
        tenbin.evaluate(str(model), data_file(tmp_path))
    with pytest.raises(ConfigError) as raised:
        tenbin.evaluate("study.toml", task="reading", limit=3)
    assert len(raised.value.problems) == 2


def test_stopped_and_called_again_answers_only_what_is_missing(model, tmp_path, monkeypatch):
    from tenbin.study import answer_log

    data = data_file(tmp_path)
    whole = evaluate(model, data, tmp_path / "whole")

    real = answer_log.AnswerLog.add

    def stop_at_the_fifth(self, place, completion):
        real(self, place, completion)
        if len(self.path.read_bytes().split(b"\n")) == 6:
            raise KeyboardInterrupt

    small = {**SMALL, "generation.batch_size": 2}
    with monkeypatch.context() as patched:
        patched.setattr(answer_log.AnswerLog, "add", stop_at_the_fifth)
        with pytest.raises(KeyboardInterrupt):
            evaluate(model, data, tmp_path / "out", overrides=small)
    (folder,) = (tmp_path / "out" / "runs").iterdir()
    partial = folder / "predictions" / "test.partial.jsonl"
    kept = [json.loads(line)["id"] for line in partial.read_text().split("\n") if line]
    assert len(kept) == 5
    asked = []
    with monkeypatch.context() as patched:
        patched.setattr(
            answer_log.AnswerLog, "add", lambda self, place, c: (asked.append(place), real(self, place, c))
        )
        found = evaluate(model, data, tmp_path / "out", overrides=small)
    assert len(asked) == 7
    assert not partial.exists()
    rows, expected = found.runs[0].read_rows("test"), whole.runs[0].read_rows("test")
    assert [replace(row) for row in rows] == list(expected)


def test_choices_by_likelihood(model, tmp_path):
    data = data_file(tmp_path)
    by_text = evaluate(model, data, tmp_path / "text")
    found = evaluate(
        model, data, tmp_path / "out", overrides={**SMALL, "evaluation.answer_by": "likelihood_per_token"}
    )
    rows = found.runs[0].read_rows("test")
    assert {row.completion for row in rows} <= {"良い", "悪い"}
    assert found.results[0].results["test"].num_unparsed == 0
    assert found.results[0].spec.settings["answer_by"] == "likelihood_per_token"
    assert "answer_by" not in by_text.results[0].spec.settings
    write_rows(tmp_path / "handbook.jsonl", rows_of("reading", 4))
    with pytest.raises(ConfigError, match="reading has no choices"):
        evaluate(
            model,
            tmp_path / "handbook.jsonl",
            tmp_path / "r",
            task="reading",
            overrides={**SMALL, "evaluation.answer_by": "likelihood"},
        )


def test_an_adapter_is_asked_with_a_base_in_fewer_bits(model, loaded, tmp_path):
    """It finds its linear maps, although they are held otherwise by then."""
    path = write_study(
        tmp_path,
        prompt={"template": TEMPLATE},
        model=[{"source": str(model), "name": "tiny"}],
        training={"base_dtype": "fp8"},
    )
    adapter = make_adapter(model, loaded, tmp_path / "mine", strength=3.0)
    found = tenbin.evaluate(str(path), adapter=adapter, with_base=True, offline=True)
    assert [r.spec.label for r in found.results] == ["tiny (base)", "tiny + mine"]
    base, own = (contents(run.path)["predictions/test.jsonl"] for run in found.runs)
    assert base != own
