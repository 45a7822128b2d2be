"""Systems of a study asked again: each answers as its run did, adapters from elsewhere included."""

import json
import shutil

import pytest
import torch
from tests.study.studies import tiny_folder, write_study
from tests.study.test_evaluating import make_adapter

import tenbin
from tenbin.decoder.fp8 import Fp8Frozen
from tenbin.errors import ModelError
from tenbin.generate.local import LocalGenerator
from tenbin.models.loading import load_model, resolve_source
from tenbin.rag.store import RagFolder
from tenbin.runs import StudyFolder
from tenbin.study.prepare import prepare
from tenbin.study.rag import plan_rag, rag_file

TEMPLATE = "$passage\n$question\n$response"
RAG = {"lengths": [100], "depths": 2, "questions": 2, "max_new_tokens": 4}


@pytest.fixture
def study(tmp_path):
    return made(tmp_path)


def made(tmp_path, **training):
    """A reading study, evaluated as it is and with an adapter from another folder."""
    model = tiny_folder(tmp_path / "model", positions=900)
    path = write_study(
        tmp_path,
        "reading",
        training={"learning_rates": [], **training},
        rag=RAG,
        prompt={"template": TEMPLATE},
    )
    source = resolve_source(str(model), cache_dir=tmp_path / "cache", offline=True)
    loaded = load_model(source, dtype=torch.float32, device=torch.device("cpu"))
    about = {"task": "reading", "template": TEMPLATE, "categories": None}
    adapter = make_adapter(model, loaded, tmp_path / "mine", strength=1.0, **about)
    tenbin.evaluate(str(path), adapter=adapter, with_base=True, offline=True)
    return path


def runs_of(path):
    return {run.spec.label: run for run in StudyFolder(path.parent / "results").runs()}


def ask(path, **options):
    return rag_file(path, cache_dir=path.parent / "cache", offline=True, **options)


def test_an_adapter_from_elsewhere_takes_part(study):
    done = ask(study)
    assert sorted(result.system for result in done.results) == ["tiny (base)", "tiny + mine"]
    folder = RagFolder(StudyFolder(study.parent / "results"), plan_rag(prepare(study)).settings)
    runs = runs_of(study)
    said = {
        label: [row.completion for row in folder.rows(run.path.name).values()] for label, run in runs.items()
    }
    assert len(said["tiny + mine"]) == len(said["tiny (base)"]) > 0
    assert said["tiny + mine"] != said["tiny (base)"]


def test_weights_in_fewer_bits_are_asked_in_fewer_bits(tmp_path, monkeypatch):
    """As they were evaluated."""
    study, held = made(tmp_path, base_dtype="fp8"), []

    def generator(*args, decoder, **options):
        held.extend(type(group.frozen) for block in decoder.blocks for group in block.groups)
        return LocalGenerator(*args, decoder=decoder, **options)

    monkeypatch.setattr("tenbin.study.asking_local.LocalGenerator", generator)
    assert len(ask(study).results) == 2
    assert set(held) == {Fp8Frozen}


def test_one_that_is_gone_or_changed_is_said(study):
    run = runs_of(study)["tiny + mine"]
    weights = study.parent / "mine" / "adapter_model.safetensors"
    with weights.open("ab") as file:
        file.write(b"\0")
    with pytest.raises(ModelError, match="has changed since"):
        ask(study, runs=[run.path.name])
    shutil.rmtree(study.parent / "mine")
    with pytest.raises(ModelError, match="there is no such folder"):
        ask(study, runs=[run.path.name])
    (run.path / "adapter.json").unlink()
    with pytest.raises(ModelError, match="does not say where its adapter is"):
        ask(study, runs=[run.path.name])


def test_evaluated_again_the_adapter_is_found_where_it_is_now(study):
    run = runs_of(study)["tiny + mine"]
    moved = study.parent / "elsewhere" / "mine"
    moved.parent.mkdir()
    shutil.move(study.parent / "mine", moved)
    tenbin.evaluate(str(study), adapter=moved, offline=True)
    assert json.loads((run.path / "adapter.json").read_text()) == {"folder": str(moved)}
    done = ask(study, runs=[run.path.name])
    assert [result.system for result in done.results] == ["tiny + mine"]
