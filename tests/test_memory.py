"""The plan against what blocks really keep and what a GPU really held, and its arithmetic."""

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.decoder.exact import packed, sequences
from tests.models.tiny import CONFIGS as TINY
from tests.models.tiny import FAMILIES, tiny_model

from tenbin import memory
from tenbin.config import LoraConfig
from tenbin.decoder import decoder as decoder_module
from tenbin.decoder import loss as loss_module
from tenbin.decoder.block import Block, Keep, Saved
from tenbin.decoder.decoder import Decoder
from tenbin.decoder.host import HostMemory
from tenbin.decoder.linear import Routing
from tenbin.errors import BudgetError
from tenbin.memory import ALL, HOST, MIB, KeepLevels, kept_bytes, longest_fitting, plan_training
from tenbin.models.lora import add_adapter, inject
from tenbin.models.shape import ModelShape

LLAMA_7B = {
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "vocab_size": 32000,
    "max_position_embeddings": 4096,
}
LLAMA_13B = LLAMA_7B | {
    "hidden_size": 5120,
    "intermediate_size": 13824,
    "num_hidden_layers": 40,
    "num_attention_heads": 40,
}
GPT2_13B = {
    "model_type": "gpt2",
    "n_embd": 5120,
    "n_layer": 40,
    "n_head": 40,
    "n_positions": 2048,
    "vocab_size": 50688,
    "n_inner": 20480,
}

CONFIGS = {"7b": LLAMA_7B, "13b": LLAMA_13B, "gpt2-13b": GPT2_13B}
RESULTS = Path(__file__).parents[1] / "bench" / "results" / "memory-h200.jsonl"
MEASURED = [json.loads(line) for line in RESULTS.read_text(encoding="utf-8").splitlines()]
BASES = {"bf16": "same", "fp8": "fp8", "fp8-both": "fp8-both"}
ROW_TOKENS = {"jsquad": 8192}


@pytest.mark.parametrize("point", MEASURED, ids=lambda p: f"{p['work']}-{p['dtype']}-{p['adapters']}")
def test_planned_against_what_the_gpu_held(point):
    """7B on one H200 under 46,000 MiB, memory in growing segments; see docs/performance.md."""
    work = point["work"]
    tokens = ROW_TOKENS.get(work) or int(work.split("x")[0]) * int(work.split("x")[1])
    planned = plan_training(
        ModelShape.read(CONFIGS[point["model"]] | {"max_position_embeddings": 65536}),
        rank=16,
        most_tokens=tokens * point["adapters"],
        dtype_bytes=2,
        cap_bytes=46000 * MIB,
        decode_tokens=0,
        gpu=True,
        base=BASES[point["dtype"]],
        num_adapters=point["adapters"],
    )
    assert 0.98 <= planned.total_bytes / MIB / point["peak_mib"] <= 1.05


def test_the_plan_knows_the_engines_levels_and_sizes():
    assert list(Keep) == [memory.HOST, memory.INPUT, memory.ATTENTION, memory.PROJECTIONS, memory.ALL]
    assert [level.name for level in Keep] == ["HOST", "INPUT", "ATTENTION", "PROJECTIONS", "ALL"]
    assert len(memory.LEVEL_NAMES) == len(Keep)
    assert memory.LOGIT_CHUNK_BYTES == loss_module.CHUNK_BYTES
    assert memory.MLP_ROWS == decoder_module.MLP_ROWS


def tensors(value):
    """All tensors in a record of a block."""
    if isinstance(value, torch.Tensor):
        return [value]
    if hasattr(value, "__slots__"):
        return [t for name in value.__slots__ for t in tensors(getattr(value, name))]
    return []


def held_bytes(saved):
    """Of the distinct storages of what one block keeps."""
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors(saved)}
    storages.pop(0, None)  # an input that is away holds nothing
    return sum(storages.values())


@pytest.mark.parametrize("level", list(Keep), ids=lambda level: level.name)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_block_keeps_what_the_plan_counts(family, dtype, level, monkeypatch):
    """Two adapters, of ranks 4 and 3, at once."""
    model = tiny_model(family, dtype)
    inject(model)
    for seed, (name, rank) in enumerate([("a", 4), ("b", 3)]):
        add_adapter(model, name, LoraConfig(rank=rank, alpha=8), seed=seed)
    decoder, batch = Decoder(model), packed(sequences())
    decoder.use(("a", "b"))
    kept = []
    forward, away = Block.forward, HostMemory.away

    def watched(block, *args):
        y, saved = forward(block, *args)
        kept.append(held_bytes(saved))
        return y, saved

    def watched_away(host, index, saved):
        saved = away(host, index, saved)
        kept[-1] = held_bytes(saved)
        return saved

    monkeypatch.setattr(Block, "forward", watched)
    monkeypatch.setattr(HostMemory, "away", watched_away)
    half = batch.num_tokens // 2
    routing = Routing(("a", "b"), ((0, half), (half, batch.num_tokens)))
    scales = torch.ones(batch.num_targets)
    decoder.losses(batch, routing, scales=scales, keep=[level] * decoder.num_layers)
    planned = kept_bytes(ModelShape.read({"model_type": family, **TINY[family]}), dtype.itemsize, 7)
    assert kept == [planned[level] * batch.num_tokens] * decoder.num_layers
    assert len(tensors(Saved(torch.ones(2)))) == 1  # nothing is counted for what is not there


def test_a_level_keeps_more_than_the_one_before():
    for config in CONFIGS.values():
        sizes = kept_bytes(ModelShape.read(config), 2, 16)
        assert list(sizes) == sorted(set(sizes))


def some_levels(room_bytes, steps, layers, transient, wide):
    sizes = [sum(steps[: i + 1]) for i in range(len(steps))]
    return KeepLevels(
        num_layers=layers,
        token_bytes=tuple(sizes),
        room_bytes=room_bytes,
        transient_bytes=transient,
        wide_bytes=wide,
    )


LEVELS = st.builds(
    some_levels,
    st.integers(0, 10**9),
    st.tuples(st.integers(0, 50), *[st.integers(1, 3000)] * 4),
    st.integers(1, 6),
    st.integers(0, 3000),
    st.integers(0, 3000),
)
TOKENS = st.integers(1, 200_000)


@given(LEVELS, TOKENS)
def test_what_is_chosen_stays_in_the_room(levels, num_tokens):
    chosen = levels.choose(num_tokens)
    assert len(chosen) == levels.num_layers
    assert chosen == sorted(chosen)  # the last blocks keep the most
    used = levels.kept_bytes(num_tokens) + levels.working_bytes(num_tokens)
    assert used <= levels.room_bytes or set(chosen) == {HOST}
    for i, level in enumerate(chosen):  # and there is no room for one more step of any block
        if level < ALL:
            step = (levels.token_bytes[level + 1] - levels.token_bytes[level]) * num_tokens
            later = chosen[i + 1] if i + 1 < len(chosen) else ALL
            assert used + step > levels.room_bytes or later == level


@given(LEVELS, TOKENS, TOKENS)
def test_more_tokens_keep_no_more_of_each(levels, a, b):
    few, many = sorted((a, b))
    assert levels.kept_bytes(many) / many <= levels.kept_bytes(few) / few


@given(LEVELS, TOKENS)
def test_giving_up_ends_with_everything_recomputed(levels, num_tokens):
    before = levels.kept_bytes(num_tokens)
    while (smaller := levels.less(num_tokens)) is not None:
        levels = smaller
        assert levels.kept_bytes(num_tokens) < before
        before = levels.kept_bytes(num_tokens)
    assert set(levels.choose(num_tokens)) == {HOST}


def test_levels_that_were_asked_for_are_kept_until_they_do_not_fit():
    asked = KeepLevels(
        num_layers=3,
        token_bytes=(1, 10, 20, 30, 40),
        room_bytes=2**62,
        transient_bytes=5,
        wide_bytes=5,
        fixed=(1, 1, 4),
    )
    assert asked.choose(100) == [1, 1, 4]
    less = asked.less(100)
    assert less.kept_bytes(100) < asked.kept_bytes(100)


def plan(config, tokens, cap_mib=None):
    return plan_training(
        ModelShape.read(config),
        rank=16,
        most_tokens=tokens,
        dtype_bytes=2,
        cap_bytes=None if cap_mib is None else cap_mib * MIB,
        decode_tokens=0,
        gpu=True,
    )


def test_the_longest_that_fits_is_the_longest():
    long = LLAMA_13B | {"max_position_embeddings": 2**20}
    shape = ModelShape.read(long)
    cap = 46000 * MIB
    longest = longest_fitting(shape, rank=16, dtype_bytes=2, cap_bytes=cap, decode_tokens=0, gpu=True)
    assert plan(long, longest, 46000).fits
    assert not plan(long, longest + 64, 46000).fits
    assert longest > 1024  # where the paper had to stop


def test_the_models_positions_are_a_limit_too():
    shape = ModelShape.read(LLAMA_7B)
    assert longest_fitting(shape, rank=16, dtype_bytes=2, cap_bytes=None, decode_tokens=0, gpu=True) == 4096


def test_what_never_fits_is_said_with_both_figures():
    shape = ModelShape.read(LLAMA_13B)
    with pytest.raises(BudgetError, match=r"24,000 MiB; rows of 64 tokens need 2\d,\d{3} MiB"):
        longest_fitting(shape, rank=16, dtype_bytes=2, cap_bytes=24000 * MIB, decode_tokens=0, gpu=True)
