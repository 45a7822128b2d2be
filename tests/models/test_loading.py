import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.models.tiny import FAMILIES, tiny_batch, tiny_model
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from tenbin.errors import ModelError
from tenbin.models.loading import check_folder, load_model, resolve_source


def save_tokenizer(folder, size=90):
    vocab = {"<unk>": 0, "<s>": 1, "</s>": 2} | {chr(0x3042 + i): 3 + i for i in range(size - 3)}
    backend = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    ).save_pretrained(folder)


def save_model(folder, family="llama", **kwargs):
    tiny_model(family).save_pretrained(folder, **kwargs)
    save_tokenizer(folder)
    return folder


def load(folder, tmp_path, **kwargs):
    return load_model(resolve_source(str(folder), cache_dir=tmp_path / "cache", offline=True), **kwargs)


def edit(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_loaded_is_what_was_saved(tmp_path, family):
    loaded = load(save_model(tmp_path / "m", family), tmp_path, dtype=torch.float32)
    assert torch.equal(loaded.model(tiny_batch()).logits, tiny_model(family)(tiny_batch()).logits)
    assert not any(p.requires_grad for p in loaded.model.parameters())
    assert not loaded.model.training
    assert loaded.model.config._attn_implementation == "sdpa"
    assert loaded.shape.num_params() == sum(p.numel() for p in loaded.model.parameters())
    assert loaded.tokenizer.eos_token_id == 2


def test_type_and_attention_are_as_asked(tmp_path):
    loaded = load(save_model(tmp_path / "m"), tmp_path, dtype=torch.bfloat16, attention="eager")
    assert {p.dtype for p in loaded.model.parameters()} == {torch.bfloat16}
    assert loaded.model.config._attn_implementation == "eager"


def test_shards_load_and_a_lost_one_is_named(tmp_path):
    folder = save_model(tmp_path / "m", max_shard_size="20KB")
    shards = sorted(folder.glob("model-*.safetensors"))
    assert len(shards) > 2
    assert torch.equal(
        load(folder, tmp_path, dtype=torch.float32).model(tiny_batch()).logits,
        tiny_model("llama")(tiny_batch()).logits,
    )
    shards[1].unlink()
    with pytest.raises(ModelError, match=shards[1].name):
        load(folder, tmp_path)


def test_fingerprint_follows_the_contents_not_the_name(tmp_path):
    folder = save_model(tmp_path / "m")
    first = resolve_source(str(folder), cache_dir=tmp_path).fingerprint
    moved = shutil.copytree(folder, tmp_path / "n")
    assert resolve_source(str(moved), cache_dir=tmp_path).fingerprint == first
    weights = load_file(moved / "model.safetensors")
    weights["model.norm.weight"][0] += 1
    save_file(weights, moved / "model.safetensors", metadata={"format": "pt"})
    assert resolve_source(str(moved), cache_dir=tmp_path).fingerprint != first


def test_every_reason_is_given_at_once(tmp_path):
    folder = tmp_path / "m"
    folder.mkdir()
    (folder / "config.json").write_text(
        json.dumps(
            {
                "model_type": "bert",
                "architectures": ["BertForMaskedLM"],
                "auto_map": {"AutoModel": "evil.Model"},
                "quantization_config": {"quant_method": "gptq"},
            }
        )
    )
    (folder / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(ModelError) as caught:
        resolve_source(str(folder), cache_dir=tmp_path)
    text = str(caught.value)
    for part in ("never runs", "gptq", "BertForMaskedLM", "pickle files", "save_pretrained", "no tokenizer"):
        assert part in text


@pytest.mark.parametrize(
    ("break_it", "words"),
    [
        (lambda f: (f / "config.json").unlink(), "no config.json"),
        (lambda f: (f / "config.json").write_text("{"), "cannot be read"),
        (lambda f: edit(f / "config.json", model_type="mamba"), "'mamba'"),
        (lambda f: (f / "model.safetensors").unlink(), "no model.safetensors"),
        (lambda f: (f / "tokenizer.json").unlink(), "no tokenizer"),
        (lambda f: (f / "config.json").rename(f / "adapter_config.json"), "an adapter, not a base model"),
    ],
)
def test_folders_that_cannot_be_used(tmp_path, break_it, words):
    folder = save_model(tmp_path / "m")
    assert check_folder(folder) == []
    break_it(folder)
    assert words in " ".join(str(problem) for problem in check_folder(folder))
    with pytest.raises(ModelError, match=words):
        resolve_source(str(folder), cache_dir=tmp_path)


def test_weights_that_do_not_belong_are_all_named(tmp_path):
    folder = save_model(tmp_path / "m")
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    weights["model.layers.0.self_attn.q_proj.weight"] = torch.zeros(32, 16)
    weights["model.surplus"] = torch.zeros(1)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError) as caught:
        load(folder, tmp_path)
    assert {p.field for p in caught.value.problems} == {
        "model.layers.1.mlp.up_proj.weight",
        "model.layers.0.self_attn.q_proj.weight",
        "model.surplus",
    }


def test_a_cut_file_is_said(tmp_path):
    folder = save_model(tmp_path / "m")
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match="cannot be loaded"):
        load(folder, tmp_path)


def test_a_tokenizer_from_elsewhere(tmp_path):
    folder = save_model(tmp_path / "m")
    for path in folder.glob("tokenizer*"):
        path.unlink()
    save_tokenizer(tmp_path / "t", size=50)
    source = resolve_source(str(folder), cache_dir=tmp_path, tokenizer=str(tmp_path / "t"))
    assert len(load_model(source).tokenizer) == 50


def test_a_tokenizer_with_more_ids_than_embeddings_is_refused(tmp_path):
    folder = save_model(tmp_path / "m")
    save_tokenizer(folder, size=98)
    with pytest.raises(ModelError, match="ids up to 97, the model has 97 embeddings"):
        load(folder, tmp_path)


@pytest.mark.parametrize("source", ["./nowhere", "/no/such/folder", "~/no such folder", "a/b/c"])
def test_paths_that_are_not_there(tmp_path, source):
    with pytest.raises(ModelError, match="no such file or folder"):
        resolve_source(source, cache_dir=tmp_path)


def test_a_hub_model_that_is_not_here_offline(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    with pytest.raises(ModelError, match=r"--offline forbids.*\n.*hf download nobody/nothing"):
        resolve_source("nobody/nothing", cache_dir=tmp_path, offline=True)


def test_a_hub_model_that_was_fetched_before_loads_offline(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    repository = tmp_path / "hub" / "models--nobody--tiny"
    snapshot = repository / "snapshots" / ("a" * 40)
    snapshot.parent.mkdir(parents=True)
    save_model(snapshot)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("a" * 40)
    source = resolve_source("nobody/tiny", cache_dir=tmp_path, offline=True)
    assert (source.kind, source.name, source.folder) == ("hub", "nobody/tiny", snapshot)
    loaded = load_model(source, dtype=torch.float32)
    assert torch.equal(loaded.model(tiny_batch()).logits, tiny_model("llama")(tiny_batch()).logits)


def test_without_a_network_the_remedy_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    lines = []
    with pytest.raises(ModelError, match=r"cannot be fetched.*\n.*check the connection"):
        resolve_source("nobody/nothing", cache_dir=tmp_path, progress=lines.append)
    assert lines == ["looking up nobody/nothing"]
