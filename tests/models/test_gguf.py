import json
import struct
from pathlib import Path

import gguf
import pytest
import torch
from tests.models.test_lora import R4, fill_adapter
from tests.real_parts import real_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from tenbin.errors import ModelError, StorageError
from tenbin.models import gguf as conversion
from tenbin.models.adapters import read_adapter, write_adapter
from tenbin.models.gguf import convert, read_architecture
from tenbin.models.loading import load_model, resolve_source
from tenbin.models.lora import activate, add_adapter, inject
from tenbin.models.merging import merge
from tenbin.models.tokenizer import PROBES

# The reader of GGUF files and its helpers use names of numpy and transformers that are to go.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


def tiny_gguf(path, architecture="llama"):
    """A Llama of two blocks with a vocabulary of bytes and a few pieces."""
    width, inner, vocab, heads = 32, 64, 3 + 256 + 4, 4
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_name("tiny")
    writer.add_context_length(64)
    writer.add_embedding_length(width)
    writer.add_block_count(2)
    writer.add_feed_forward_length(inner)
    writer.add_head_count(heads)
    writer.add_head_count_kv(heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(width // heads)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(vocab)
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{b:02X}>" for b in range(256)), "▁", "日", "本", "日本"]
    writer.add_tokenizer_model("llama")
    writer.add_token_list(pieces)
    writer.add_token_scores([0.0] * 259 + [-1.0, -2.0, -3.0, -0.5])
    writer.add_token_types([2, 3, 3] + [6] * 256 + [1] * 4)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    torch.manual_seed(0)

    def tensor(name, *shape):
        writer.add_tensor(name, (torch.randn(*shape) * 0.2).numpy())

    tensor("token_embd.weight", vocab, width)
    tensor("output_norm.weight", width)
    tensor("output.weight", vocab, width)
    for block in range(2):
        for name in ("attn_norm", "ffn_norm"):
            tensor(f"blk.{block}.{name}.weight", width)
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            tensor(f"blk.{block}.{name}.weight", width, width)
        for name in ("ffn_gate", "ffn_up"):
            tensor(f"blk.{block}.{name}.weight", inner, width)
        tensor(f"blk.{block}.ffn_down.weight", width, inner)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_a_file_becomes_a_folder_once(tmp_path):
    path, lines = tiny_gguf(tmp_path / "tiny.gguf"), []
    assert read_architecture(path) == "llama"
    source = resolve_source(str(path), cache_dir=tmp_path / "cache", offline=True, progress=lines.append)
    assert source.kind == "gguf"
    assert source.folder.parent == tmp_path / "cache" / "models"
    assert [line.split()[0] for line in lines] == ["hashing", "reading", "converting", "writing", "checking"]
    info = json.loads((source.folder / "tenbin.json").read_text())
    assert source.folder.name == f"tiny-{info['sha256'][:12]}"
    assert info["versions"]["transformers"]

    loaded = load_model(source)
    original = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file=path.name, dtype=torch.bfloat16)
    reference = AutoTokenizer.from_pretrained(tmp_path, gguf_file=path.name)
    for text in PROBES:
        ids = reference(text)["input_ids"]
        assert loaded.tokenizer(text)["input_ids"] == ids
        row = torch.tensor([ids])
        assert torch.equal(loaded.model(row).logits, original(row).logits)

    again = []
    assert convert(path, tmp_path / "cache", again.append) == source.folder
    assert len(again) == 1


def test_what_does_not_give_the_same_logits_is_not_kept(tmp_path, monkeypatch):
    path, save = tiny_gguf(tmp_path / "tiny.gguf"), conversion._save

    def wrong(model, config, folder):
        state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        with torch.no_grad():
            model.model.norm.weight[3] += 0.5
            save(model, config, folder)
            model.load_state_dict(state)

    monkeypatch.setattr(conversion, "_save", wrong)
    with pytest.raises(ModelError, match="other logits"):
        convert(path, tmp_path / "cache")
    assert list((tmp_path / "cache" / "models").iterdir()) == []


def test_no_room(tmp_path, monkeypatch):
    path = tiny_gguf(tmp_path / "tiny.gguf")
    monkeypatch.setattr(conversion, "free_bytes", lambda folder: 1000)
    with pytest.raises(StorageError, match="needs 64 MiB"):
        convert(path, tmp_path / "cache")


def test_an_architecture_that_is_not_known(tmp_path):
    with pytest.raises(ModelError, match=r"'mamba'.*\n.*llama, qwen2"):
        convert(tiny_gguf(tmp_path / "x.gguf", "mamba"), tmp_path)


@pytest.mark.parametrize(
    "content", [b"", b"GGUF", b"GGML" + bytes(40), b"GGUF" + struct.pack("<IQQ", 3, 0, 5)]
)
def test_files_that_are_not_whole(tmp_path, content):
    path = tmp_path / "x.gguf"
    path.write_bytes(content)
    with pytest.raises(ModelError, match="not a whole GGUF file"):
        read_architecture(path)


def test_a_file_cut_in_its_weights(tmp_path):
    path = tiny_gguf(tmp_path / "x.gguf")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 2 // 3])
    with pytest.raises(ModelError, match="cannot be converted"):
        convert(path, tmp_path / "cache")


@pytest.fixture
def real():
    return real_model()


@pytest.mark.model
def test_the_real_model_knows_japanese(real):
    loaded = load_model(real)
    assert loaded.shape.num_params() == 268_098_176 == sum(p.numel() for p in loaded.model.parameters())
    ids = torch.tensor(
        [loaded.tokenizer("日本の首都は東京です。人口は約1400万人で、世界有数の大都市です。")["input_ids"]]
    )
    assert ids[0, 0] == loaded.tokenizer.bos_token_id
    order = torch.randperm(ids.shape[1] - 1, generator=torch.Generator().manual_seed(0)) + 1
    shuffled = torch.cat([ids[:, :1], ids[:, order]], dim=1)
    with torch.no_grad():
        loss = loaded.model(ids, labels=ids).loss.item()  # nats a token
        assert loss < 4  # a guess among all tokens costs 12.5
        assert loaded.model(shuffled, labels=shuffled).loss.item() > loss + 2


@pytest.mark.model
def test_an_adapter_of_the_real_model_goes_to_disk_and_back_and_merges(real, tmp_path):
    loaded = load_model(real, dtype=torch.float32)
    ids = torch.tensor([loaded.tokenizer("吾輩は猫である。名前はまだ無い。")["input_ids"]])
    assert len(inject(loaded.model)) == 126
    add_adapter(loaded.model, "a", R4, seed=0)
    fill_adapter(loaded.model, "a")
    with torch.no_grad():
        plain = loaded.model(ids).logits
        with activate(loaded.model, "a"):
            tuned = loaded.model(ids).logits
        assert (plain - tuned).abs().max() > 1
        write_adapter(loaded.model, "a", tmp_path / "a", base_model=str(real.folder))
        read_adapter(loaded.model, tmp_path / "a", "b", base_model=str(real.folder))
        with activate(loaded.model, "b"):
            assert torch.equal(loaded.model(ids).logits, tuned)
        merge(loaded.model, "a")
        # fp32 sums in another order, through 18 blocks that a random adapter stirs up
        torch.testing.assert_close(loaded.model(ids).logits, tuned, rtol=1e-3, atol=1e-2)


@pytest.mark.model
@pytest.mark.slow
def test_the_real_file_converts_as_transformers_alone_would(real, tmp_path):
    path = Path(real.name)
    if path.suffix != ".gguf":
        pytest.skip("TENBIN_TEST_MODEL is a folder")
    loaded = load_model(real)
    reference = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    assert loaded.tokenizer.get_vocab() == reference.get_vocab()
    for text in (
        *PROBES,
        "<start_of_turn>user\nはい<end_of_turn>\n",
        "\n\n\n    x",
        "｡｢｣､･ｦ",
        bytes(range(256)).decode("latin1"),
    ):
        assert loaded.tokenizer(text)["input_ids"] == reference(text)["input_ids"], text
        assert loaded.tokenizer.decode(reference(text)["input_ids"]) == reference.decode(
            reference(text)["input_ids"]
        )
