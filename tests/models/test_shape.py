import json

import pytest
import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM

from tenbin.errors import ModelError
from tenbin.models.shape import FAMILY_OF, ModelShape

LLAMA_7B = {
    "model_type": "llama",
    "num_hidden_layers": 32,
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "vocab_size": 32000,
    "max_position_embeddings": 4096,
    "tie_word_embeddings": False,
}
LLAMA_13B = LLAMA_7B | {
    "num_hidden_layers": 40,
    "hidden_size": 5120,
    "intermediate_size": 13824,
    "num_attention_heads": 40,
    "num_key_value_heads": 40,
}
LLM_JP_13B = {
    "model_type": "gpt2",
    "n_layer": 40,
    "n_embd": 5120,
    "n_head": 40,
    "n_inner": 20480,
    "n_positions": 2048,
    "vocab_size": 50688,
}
GEMMA_270M = {
    "model_type": "gemma3_text",
    "num_hidden_layers": 18,
    "hidden_size": 640,
    "intermediate_size": 2048,
    "num_attention_heads": 4,
    "num_key_value_heads": 1,
    "head_dim": 256,
    "vocab_size": 262144,
    "max_position_embeddings": 32768,
    "sliding_window": 512,
}
QWEN2 = LLAMA_7B | {"model_type": "qwen2", "num_key_value_heads": 4, "tie_word_embeddings": True}
QWEN3 = LLAMA_7B | {"model_type": "qwen3", "num_key_value_heads": 8, "head_dim": 128}
MISTRAL = LLAMA_7B | {"model_type": "mistral", "num_key_value_heads": 8, "sliding_window": 1024}
BIASED = LLAMA_7B | {"attention_bias": True, "mlp_bias": True}
ALL = {
    "llama-7b": LLAMA_7B,
    "llama-13b": LLAMA_13B,
    "llm-jp-13b": LLM_JP_13B,
    "gemma-270m": GEMMA_270M,
    "qwen2": QWEN2,
    "qwen3": QWEN3,
    "mistral": MISTRAL,
    "llama-with-biases": BIASED,
}


def meta_model(config):
    rest = {key: value for key, value in config.items() if key != "model_type"}
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(AutoConfig.for_model(config["model_type"], **rest))


@pytest.mark.parametrize(
    ("config", "count"),
    [(LLAMA_7B, 6_738_415_616), (LLAMA_13B, 13_015_864_320), (GEMMA_270M, 268_098_176)],
)
def test_published_number_of_weights(config, count):
    assert ModelShape.read(config).num_params() == count


@pytest.mark.parametrize("name", ALL)
def test_same_weights_as_transformers(name):
    config = ALL[name]
    shape, model = ModelShape.read(config), meta_model(config)
    assert shape.num_params() == sum(p.numel() for p in model.parameters())
    assert shape.family == FAMILY_OF[config["model_type"]]
    block = next(m for m in model.modules() if isinstance(m, torch.nn.ModuleList))[0]
    found = {}
    for path, module in block.named_modules():
        if isinstance(module, torch.nn.Linear):
            found[path] = (module.out_features, module.in_features)
        elif isinstance(module, transformers.pytorch_utils.Conv1D):
            found[path] = tuple(module.weight.shape)[::-1]
    assert shape.linear_shapes() == found


@pytest.mark.parametrize("name", ALL)
def test_a_config_written_by_transformers_reads_the_same(name, tmp_path):
    rest = {key: value for key, value in ALL[name].items() if key != "model_type"}
    AutoConfig.for_model(ALL[name]["model_type"], **rest).save_pretrained(tmp_path)
    assert ModelShape.read(tmp_path) == ModelShape.read(ALL[name])


def test_what_a_config_leaves_out_is_what_transformers_takes():
    for model_type in FAMILY_OF:
        full = AutoConfig.for_model(model_type).to_dict()
        bare = {k: v for k, v in full.items() if k not in ("tie_word_embeddings", "layer_types", "head_dim")}
        assert ModelShape.read(bare) == ModelShape.read(full), model_type


def test_gemma_slides_on_five_layers_of_six():
    shape = ModelShape.read(GEMMA_270M)
    assert (shape.sliding_window, shape.num_sliding_layers) == (512, 15)
    per_layer = 2 * 256 * 2
    assert shape.kv_bytes(512, 2) == 512 * shape.kv_bytes_per_token(2) == 512 * 18 * per_layer
    assert shape.kv_bytes(1000, 2) == (3 * 1000 + 15 * 512) * per_layer


def test_kv_cache_of_grouped_heads():
    assert ModelShape.read(LLAMA_7B).kv_bytes_per_token(2) == 2 * 32 * 4096 * 2
    assert ModelShape.read(QWEN2).kv_bytes_per_token(2) == 2 * 32 * 512 * 2


def test_flops_are_two_per_weight_forward_and_four_with_the_gradient_of_the_inputs():
    shape = ModelShape.read(LLAMA_7B)
    weights = 6_738_415_616 - 32000 * 4096 - 65 * 4096  # without the embedding and the norms
    assert shape.flops_per_token() == 2 * weights
    assert shape.flops_per_token(training=True) == 4 * weights
    assert shape.flops_per_token(head_share=0.0) == 2 * (weights - 32000 * 4096)
    attention = 4 * 4096 * 100 * 32
    assert shape.flops_per_token(100) - shape.flops_per_token() == attention
    assert shape.flops_per_token(100, training=True) - shape.flops_per_token(training=True) == 3 * attention


def test_flops_of_the_products_agree_with_torch_counting_a_real_forward():
    config = GEMMA_270M | {
        "num_hidden_layers": 6,
        "hidden_size": 64,
        "intermediate_size": 96,
        "vocab_size": 128,
    }
    config |= {"head_dim": 16, "sliding_window": 1000}
    model = meta_model(config).to_empty(device="cpu").eval()
    for parameter in model.parameters():
        torch.nn.init.zeros_(parameter)
    model.set_attn_implementation("eager")
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(1, 8, dtype=torch.long), use_cache=False)
    # eager attention multiplies the whole square: every token meets 8 keys; rotary tables are a few more
    rotary = counter.get_total_flops() - 8 * ModelShape.read(config).flops_per_token(8)
    assert 0 <= rotary <= 2 * 2 * 8 * 8


def test_lora_params_of_the_paper():
    assert ModelShape.read(LLAMA_7B).lora_params(16) == 39_976_960


def test_unknown_family_names_the_known_ones(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "mamba"}))
    with pytest.raises(ModelError, match=r"(?s)'mamba'.*llama, mistral, qwen2, qwen3, gpt2, gemma3_text"):
        ModelShape.read(tmp_path)


def test_every_missing_size_is_named():
    with pytest.raises(ModelError) as caught:
        ModelShape.read({"model_type": "llama", "hidden_size": 64, "num_attention_heads": "four"})
    fields = {problem.field for problem in caught.value.problems}
    assert fields == {
        "num_attention_heads",
        "num_hidden_layers",
        "intermediate_size",
        "num_key_value_heads",
        "vocab_size",
        "max_position_embeddings",
    } - {"num_key_value_heads"}


@pytest.mark.parametrize("text", ["", "[1]", "{"])
def test_a_broken_config_is_said(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ModelError, match=r"config\.json"):
        ModelShape.read(tmp_path)


def test_no_config(tmp_path):
    with pytest.raises(ModelError, match=r"no config\.json"):
        ModelShape.read(tmp_path)
