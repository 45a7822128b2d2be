import json
import warnings

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.models.test_lora import R4, fill_adapter, loss_of, with_adapter
from tests.models.tiny import FAMILIES, tiny_batch, tiny_model

from tenbin.config import LoraConfig
from tenbin.errors import ModelError, StorageError
from tenbin.models import files
from tenbin.models.adapters import CONFIG, INFO, WEIGHTS, read_adapter, read_folder, write_adapter
from tenbin.models.lora import activate, adapters, add_adapter, inject, trainable
from tenbin.models.merging import merge

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    peft = pytest.importorskip("peft")

# PEFT still uses names of transformers that are to go.
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning:peft")

TIGHT = {torch.float32: 1e-5, torch.float64: 1e-12}


def written(tmp_path, family="llama", dtype=torch.float32, info=None):
    model = with_adapter(family, dtype=dtype)
    write_adapter(model, "a", tmp_path / "adapter", base_model="tiny", info=info)
    return model, tmp_path / "adapter"


def peft_model(family, folder, dtype=torch.float32):
    return peft.PeftModel.from_pretrained(tiny_model(family, dtype), folder, is_trainable=True)


@pytest.mark.parametrize("dtype", TIGHT)
@pytest.mark.parametrize("family", FAMILIES)
def test_peft_computes_the_same_from_our_folder(tmp_path, family, dtype):
    ours, folder = written(tmp_path, family, dtype)
    theirs = peft_model(family, folder, dtype)
    if dtype == torch.float64:
        theirs = theirs.double()
    ids = tiny_batch()
    activate(ours, "a")
    close = {"rtol": TIGHT[dtype], "atol": TIGHT[dtype]}
    with torch.no_grad():
        torch.testing.assert_close(ours(ids).logits, theirs(ids).logits, **close)
    loss_of(ours, ids).backward()
    loss_of(theirs, ids).backward()
    gradients = {n.replace(".default", ""): p.grad for n, p in theirs.named_parameters() if p.requires_grad}
    mine = trainable(ours, "a")
    assert {f"base_model.model.{name}" for name in mine} == set(gradients)
    for name, parameter in mine.items():
        torch.testing.assert_close(parameter.grad, gradients[f"base_model.model.{name}"], **close)


@pytest.mark.parametrize("family", FAMILIES)
def test_we_compute_the_same_from_pefts_folder(tmp_path, family):
    config = peft.LoraConfig(
        r=3,
        lora_alpha=12,
        target_modules="all-linear",
        fan_in_fan_out=family == "gpt2",
        task_type="CAUSAL_LM",
    )
    theirs = peft.get_peft_model(tiny_model(family), config)
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            if "lora_" in name:
                parameter.normal_(std=0.1)
    theirs.save_pretrained(tmp_path)
    ours = tiny_model(family)
    found = read_adapter(ours, tmp_path, "theirs")
    assert (found.config.rank, found.config.alpha, found.info) == (3, 12.0, {})
    ids = tiny_batch()
    with torch.no_grad(), activate(ours, "theirs"):
        torch.testing.assert_close(ours(ids).logits, theirs(ids).logits, rtol=1e-5, atol=1e-5)
    merge(ours, "theirs")
    with torch.no_grad():
        torch.testing.assert_close(
            ours(ids).logits, theirs.merge_and_unload()(ids).logits, rtol=1e-5, atol=1e-5
        )


@pytest.mark.parametrize("family", FAMILIES)
def test_written_and_read_is_the_same_to_the_bit(tmp_path, family):
    ours, folder = written(tmp_path, family, info={"template": "$質問", "score": None})
    again = tiny_model(family)
    found = read_adapter(again, folder, "b", base_model="tiny")
    assert found.info == {"template": "$質問", "score": None}
    assert found.config == LoraConfig(rank=4, alpha=8.0)
    activate(ours, "a")
    with activate(again, "b"):
        assert torch.equal(again(tiny_batch()).logits, ours(tiny_batch()).logits)


def test_same_keys_and_settings_as_peft_writes(tmp_path):
    _, folder = written(tmp_path)
    peft_model("llama", folder).save_pretrained(tmp_path / "theirs")
    theirs = load_file(tmp_path / "theirs" / WEIGHTS)
    ours = load_file(folder / WEIGHTS)
    assert set(ours) == set(theirs)
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    their_config = json.loads((tmp_path / "theirs" / CONFIG).read_text())
    our_config = json.loads((folder / CONFIG).read_text())
    ignored = {"target_modules", "base_model_name_or_path", "inference_mode"}
    for key in our_config.keys() - ignored:
        assert our_config[key] == their_config[key], key
    assert sorted(our_config["target_modules"]) == sorted(their_config["target_modules"])


def test_targets_mean_no_more_modules_than_the_adapter_has(tmp_path):
    model = tiny_model("gpt2")
    names = inject(model, ["mlp.c_proj"])  # c_proj alone would be the attention's too
    add_adapter(model, "a", R4, seed=0)
    fill_adapter(model, "a")
    write_adapter(model, "a", tmp_path / "x", base_model="tiny")
    assert json.loads((tmp_path / "x" / CONFIG).read_text())["target_modules"] == ["mlp.c_proj"]
    theirs = peft_model("gpt2", tmp_path / "x")
    assert sum("lora_A" in n for n, _ in theirs.named_parameters()) == len(names)
    one = tiny_model("gpt2")
    inject(one, ["transformer.h.1.mlp.c_proj"])
    add_adapter(one, "a", R4, seed=0)
    write_adapter(one, "a", tmp_path / "y", base_model="tiny")
    assert json.loads((tmp_path / "y" / CONFIG).read_text())["target_modules"] == [
        "transformer.h.1.mlp.c_proj"
    ]


def test_every_weight_that_is_wrong_is_named(tmp_path):
    _, folder = written(tmp_path)
    weights = load_file(folder / WEIGHTS)
    keys = sorted(weights)
    del weights[keys[0]]
    weights[keys[1]] = weights[keys[1]][:, :-1].contiguous()
    weights["base_model.model.lm_head.lora_A.weight"] = torch.zeros(4, 32)
    save_file(weights, folder / WEIGHTS)
    model = tiny_model("llama")
    with pytest.raises(ModelError) as caught:
        read_adapter(model, folder, "a", base_model="another")
    found = {(p.field, p.found.split(",")[0].split(" for ")[0]) for p in caught.value.problems}
    assert found == {
        ("base_model_name_or_path", "the adapter was made"),
        (keys[0], "the weight is missing"),
        (keys[1], f"shape ({weights[keys[1]].shape[0]}"),
        ("base_model.model.lm_head.lora_A.weight", "the model has no place"),
    }
    assert not adapters(model)
    assert set(model.state_dict()) == set(tiny_model("llama").state_dict())  # untouched


def test_an_adapter_of_another_family_is_refused(tmp_path):
    _, folder = written(tmp_path, "gpt2")
    with pytest.raises(ModelError, match="no place for this weight"):
        read_adapter(tiny_model("llama"), folder, "a")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("use_dora", True),
        ("use_rslora", True),
        ("bias", "all"),
        ("rank_pattern", {"q_proj": 2}),
        ("modules_to_save", ["lm_head"]),
        ("peft_type", "IA3"),
        ("r", 0),
        ("lora_alpha", None),
    ],
)
def test_what_is_not_plain_lora_is_refused(tmp_path, key, value):
    _, folder = written(tmp_path)
    config = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps(config | {key: value}))
    with pytest.raises(ModelError, match=key):
        read_folder(folder)


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS])
def test_missing_and_broken_files(tmp_path, name):
    _, folder = written(tmp_path)
    (folder / name).write_bytes(b"\xff{")
    with pytest.raises(ModelError, match=name):
        read_adapter(tiny_model("llama"), folder, "a")
    (folder / name).unlink()
    with pytest.raises(ModelError, match=name):
        read_adapter(tiny_model("llama"), folder, "a")


def test_writing_again_replaces_and_leaves_nothing_behind(tmp_path):
    model, folder = written(tmp_path, info={"n": 1})
    fill_adapter(model, "a", seed=50)
    write_adapter(model, "a", folder, base_model="tiny", info={"n": 2})
    assert json.loads((folder / INFO).read_text()) == {"n": 2}
    assert torch.equal(
        load_file(folder / WEIGHTS)["base_model.model.model.layers.0.mlp.up_proj.lora_B.weight"],
        trainable(model, "a")["model.layers.0.mlp.up_proj.lora_B.weight"],
    )
    assert [p.name for p in tmp_path.iterdir()] == ["adapter"]


def test_a_failed_write_keeps_what_was_there(tmp_path, monkeypatch):
    model, folder = written(tmp_path, info={"n": 1})

    def full(path, value):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tenbin.models.adapters.write_json", full)
    with pytest.raises(StorageError, match="disk is full"):
        write_adapter(model, "a", folder, base_model="tiny", info={"n": 2})
    assert json.loads((folder / INFO).read_text()) == {"n": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["adapter"]
    assert files.read_json(folder / CONFIG, "")["r"] == 4


def test_another_folder_is_not_overwritten(tmp_path):
    (tmp_path / "thesis.docx").write_text("x")
    with pytest.raises(ModelError, match="holds something else"):
        write_adapter(with_adapter(), "a", tmp_path, base_model="tiny")
    assert (tmp_path / "thesis.docx").exists()
