"""Tiny random models of every family, built in the test."""

import torch
from transformers import AutoConfig, AutoModelForCausalLM

CONFIGS = {
    "llama": {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 97,
        "max_position_embeddings": 64,
    },
    "gpt2": {"n_embd": 32, "n_inner": 48, "n_layer": 2, "n_head": 4, "n_positions": 64, "vocab_size": 97},
    "gemma3_text": {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 1,
        "head_dim": 16,
        "vocab_size": 97,
        "max_position_embeddings": 64,
        "sliding_window": 8,
        "query_pre_attn_scalar": 16,
    },
}
FAMILIES = tuple(CONFIGS)


def tiny_model(family, dtype=torch.float32, seed=0, **changes):
    """`changes`: to the config."""
    torch.manual_seed(seed)
    # ids inside the vocabulary, so that no default of a real model's tokenizer points outside
    ids = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    config = AutoConfig.for_model(family, **(CONFIGS[family] | changes), **ids)
    model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    for parameter in model.parameters():  # also the norms and biases, which start as ones and zeros
        torch.nn.init.normal_(parameter, std=0.2)
    return model.eval()


def tiny_batch(seed=1, rows=3, tokens=11):
    return torch.randint(3, 97, (rows, tokens), generator=torch.Generator().manual_seed(seed))
