"""The plan against what blocks really keep and what a GPU really held, and its arithmetic."""

import json
import random
import weakref
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.decoder.exact import packed, sequences
from tests.models.tiny import CONFIGS as TINY
from tests.models.tiny import FAMILIES, tiny_model
from transformers import AutoConfig, AutoModelForCausalLM

from tenbin import memory, memory_reading
from tenbin.bench_sizes import model_sizes
from tenbin.config import LoraConfig
from tenbin.decoder import decoder as decoder_module
from tenbin.decoder import loss as loss_module
from tenbin.decoder.block import Block, Keep, Saved
from tenbin.decoder.cache import bytes_per_slot
from tenbin.decoder.decoder import Decoder
from tenbin.decoder.host import HostMemory
from tenbin.decoder.linear import Routing
from tenbin.errors import BudgetError
from tenbin.generate import room
from tenbin.memory import (
    ALL,
    ATTENTION,
    AWAY,
    HOST,
    MIB,
    KeepLevels,
    kept_bytes,
    longest_fitting,
    plan_training,
)
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
BASES = {"bf16": "same", "fp8": "fp8"}
ROW_TOKENS = {"jsquad": 8192}


@pytest.mark.parametrize(
    "point",
    MEASURED,
    ids=lambda p: f"{p['model']}-{p['work']}-{p['dtype']}-{p['adapters']}-{p['kept']}",
)
def test_planned_against_what_the_gpu_held(point):
    """On one H200 under 46,000 MiB; see docs/performance.md."""
    work = point["work"]
    tokens = ROW_TOKENS.get(work) or int(work.split("x")[0]) * int(work.split("x")[1])
    tokens *= point["adapters"]
    planned = plan_training(
        ModelShape.read(model_sizes(point["model"])),
        rank=16,
        most_tokens=tokens,
        dtype_bytes=2,
        cap_bytes=46000 * MIB,
        decode_tokens=0,
        gpu=True,
        base=BASES[point["dtype"]],
        num_adapters=point["adapters"],
    )
    kept = [level for level, count in enumerate(point["kept"].split("/")) for _ in range(int(count))]
    levels = replace(planned.levels, fixed=tuple(kept))
    turned = planned.levels.turned_bytes if point["turned"] else 0
    held = planned.fixed_bytes + levels.kept_bytes(tokens) + levels.beside_bytes(tokens) + turned
    assert round(held / MIB) == point["planned_mib"]
    assert 0.98 <= held / MIB / point["peak_mib"] <= 1.05


def test_the_plan_knows_the_engines_levels_and_sizes():
    names = ["HOST", "INPUT", "ATTENTION", "PROJECTIONS", "ALL", "AWAY"]
    assert [(k.name, k.value) for k in Keep] == [(name, getattr(memory, name)) for name in names]
    assert len(memory.LEVEL_NAMES) == len(Keep)
    assert memory_reading.LOGIT_CHUNK_BYTES == loss_module.CHUNK_BYTES
    assert memory.MLP_ROWS == decoder_module.MLP_ROWS


@pytest.mark.parametrize("family", FAMILIES)
def test_a_pass_is_counted_alike_from_the_shape_and_from_the_blocks(family):
    model = tiny_model(family, torch.bfloat16)
    shape, decoder = ModelShape.read(model.config.to_dict()), Decoder(model)
    assert memory_reading.reading_bytes(shape, 100, 2) == room.pass_bytes(decoder, 100)
    assert shape.kv_bytes_per_token(2) == bytes_per_slot(decoder.blocks, torch.bfloat16)


def test_the_cache_gets_what_a_training_does_not_hold_all_the_time():
    shape = ModelShape.read(LLAMA_7B)
    plan = plan_training(
        shape, rank=16, most_tokens=4096, dtype_bytes=2, cap_bytes=46000 * MIB, decode_tokens=0, gpu=True
    )
    tokens = memory.cache_tokens(plan, shape, 2, gpu=True)
    assert 50_000 < tokens < 70_000  # half a MiB each, beside 14 GB of weights
    full = replace(plan, terms={**plan.terms, "kv_cache": tokens * shape.kv_bytes_per_token(2), "reading": 0})
    assert full.fits
    assert memory.cache_tokens(plan, shape, 2, gpu=False) == memory_reading.CPU_CACHE_TOKENS


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

    def watched_away(host, index, saved, parts):
        saved = away(host, index, saved, parts)
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


class Alive:
    """Bytes of the distinct storages, of those that were watched, that are still there."""

    def __init__(self):
        self.watched = {}
        self.most = 0

    def watch(self, some):
        for t in some:
            storage = t.untyped_storage()
            self.watched[id(t)] = weakref.ref(t), storage.data_ptr(), storage.nbytes()

    def look(self):
        there = {place: size for ref, place, size in self.watched.values() if ref() is not None}
        self.most = max(self.most, sum(there.values()))


ORDERS = [
    [Keep.AWAY] * 9,
    [Keep.AWAY, Keep.ALL] * 4 + [Keep.ALL],
    [Keep.INPUT, Keep.AWAY, Keep.AWAY, Keep.INPUT, Keep.INPUT, Keep.AWAY, Keep.INPUT, Keep.INPUT, Keep.ALL],
    [Keep.ATTENTION] * 6 + [Keep.AWAY, Keep.ALL, Keep.ALL],
    [Keep.INPUT] * 7 + [Keep.AWAY, Keep.AWAY],
    [Keep.ALL] * 9,
]


@pytest.mark.parametrize("number", range(30))
def test_a_whole_pass_holds_no_more_than_the_plan_counts(number, monkeypatch):
    """What blocks keep and what is on its way to the computer's memory and back, at every block's end and
    beginning: in orders that a plan has, and in any other."""
    generator = random.Random(number)
    levels = ORDERS[number] if number < len(ORDERS) else [*generator.choices(list(Keep), k=8), Keep.AWAY]
    config = TINY["llama"] | {"num_hidden_layers": 9}
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", **config))
    inject(model.requires_grad_(False))
    add_adapter(model, "a", LoraConfig(rank=4, alpha=8), seed=0)
    decoder, batch, alive = Decoder(model), packed(sequences()), Alive()
    decoder.use(("a",))
    forward, backward, fetch = Block.forward, Block.backward, HostMemory._fetch

    def watched(block, *args):
        y, saved = forward(block, *args)
        alive.watch(tensors(saved))
        alive.look()
        return y, saved

    def watched_back(block, *args):
        alive.look()
        return backward(block, *args)

    def watched_fetch(host, index):
        fetch(host, index)
        alive.watch(host._coming[index].parts.values())

    monkeypatch.setattr(Block, "forward", watched)
    monkeypatch.setattr(Block, "backward", watched_back)
    monkeypatch.setattr(HostMemory, "_fetch", watched_fetch)
    decoder.losses(batch, scales=torch.ones(batch.num_targets), keep=levels)
    shape = ModelShape.read({"model_type": "llama", **config})
    plan = plan_training(
        shape,
        rank=4,
        most_tokens=batch.num_tokens,
        dtype_bytes=4,
        cap_bytes=None,
        decode_tokens=0,
        gpu=True,
        host_bytes=2**40,
    )
    assert alive.most > 0
    assert alive.most <= replace(plan.levels, fixed=tuple(levels)).kept_bytes(batch.num_tokens)


def test_a_level_keeps_more_than_the_one_before():
    for config in CONFIGS.values():
        sizes = kept_bytes(ModelShape.read(config), 2, 16)
        assert list(sizes[:AWAY]) == sorted(set(sizes[:AWAY]))
        assert sizes[AWAY] == sizes[ATTENTION]


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


def plan(config, tokens, cap_mib=None, base="same"):
    return plan_training(
        ModelShape.read(config),
        rank=16,
        most_tokens=tokens,
        dtype_bytes=2,
        cap_bytes=None if cap_mib is None else cap_mib * MIB,
        decode_tokens=0,
        gpu=True,
        base=base,
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


def test_4_bits_take_a_quarter_and_a_whole_weight_at_a_time():
    """7B: 32 blocks of (4 x 4096 + 3 x 11008) x 4096 weights, of 4.127 bits in place of 16."""
    linear = 32 * (4 * 4096 + 3 * 11008) * 4096
    same, nf4 = plan(LLAMA_7B, 4096), plan(LLAMA_7B, 4096, base="nf4")
    saved = same.terms["weights"] - nf4.terms["weights"]
    assert saved == pytest.approx(linear * (16 - 4.127) / 8, rel=1e-4)
    made = nf4.terms["working"] - same.terms["working"]
    assert made == 2 * 11008 * 4096 * 2 + 2 * 11008 * 4096 // 64 * 4
    assert nf4.terms["activations"] == same.terms["activations"]


@pytest.mark.parametrize("base", ["same", "fp8", "nf4"])
@pytest.mark.parametrize("config", [LLAMA_7B, GPT2_13B])
@pytest.mark.parametrize("tokens", [64, 512, 4096, 40_000])
def test_what_training_takes_is_the_plans_total(base, config, tokens):
    """Without validation's cache, which is empty here, the two ways to count are one."""
    for cap_mib in (None, 46_000):
        planned = plan(config, tokens, cap_mib, base)
        assert planned.training_bytes(tokens) == planned.total_bytes


@pytest.mark.parametrize("base", ["same", "fp8", "nf4"])
@pytest.mark.parametrize("config", [LLAMA_7B, LLAMA_13B, GPT2_13B])
@pytest.mark.parametrize("tokens", [2048, 4096, 32_768, 65_536])
def test_no_plan_goes_over_its_cap(base, config, tokens):
    """Whatever is left between the levels: the last block that is raised spares the most work, and room."""
    for cap_mib in range(24_000, 80_000, 1_300):
        planned = plan(config, tokens, cap_mib, base)
        levels = planned.levels.choose(tokens)
        assert levels == sorted(levels)
        assert planned.fits or set(levels) == {HOST}


def test_the_losses_have_their_room_too():
    """A large vocabulary, narrow blocks: logits are what is largest, and nothing is kept in their place."""
    small = LLAMA_7B | {"hidden_size": 64, "intermediate_size": 64, "num_attention_heads": 1}
    small |= {"vocab_size": 262_144}
    free = plan(small, 2048)
    assert free.terms["logits"] > free.terms["working"]
    cap_mib = (free.total_bytes - free.terms["activations"] // 2) // MIB
    tight = plan(small, 2048, cap_mib)
    assert 0 < tight.terms["activations"] < free.terms["activations"]
    assert tight.fits


@given(st.integers(-(10**9), 10**9), st.sampled_from([512, 4096, 20_000]))
def test_a_corrected_plan_says_so_much_less(surplus, tokens):
    before = plan(LLAMA_7B, 4096, 20_000)
    corrected = before.corrected(surplus, before.levels)
    assert corrected.training_bytes(tokens) == before.training_bytes(tokens) - surplus
    assert corrected.total_bytes == before.total_bytes - surplus
    again = corrected.corrected(-surplus, before.levels)
    assert again.total_bytes == before.total_bytes


def test_weights_in_both_orders_take_what_is_left_when_all_is_kept():
    shape = ModelShape.read(LLAMA_7B)
    linear = shape.params_by_part()["linear"]

    def levels(cap_mib, base="fp8", gpu=True):
        return plan_training(
            shape,
            rank=16,
            most_tokens=4096,
            dtype_bytes=2,
            cap_bytes=cap_mib * MIB,
            decode_tokens=0,
            gpu=gpu,
            base=base,
        ).levels

    ample = levels(46000)
    assert ample.turns(4096)
    assert ample.choose(4096) == [ALL] * 32
    assert ample.describe(4096) == "blocks: 32 keep everything; weights in both orders"
    given_up = ample.less(4096)
    assert not given_up.turns(4096)
    assert given_up.choose(4096) == [ALL] * 32
    assert ample.kept_bytes(4096) - given_up.kept_bytes(4096) == linear
    assert given_up.less(4096).choose(4096) != [ALL] * 32
    needed = ample.kept_bytes(4096) + ample.beside_bytes(4096)
    exact = replace(ample, room_bytes=needed)
    assert exact.turns(4096)
    assert not replace(exact, room_bytes=needed - 1).turns(4096)
    assert not levels(46000, base="same").turns(4096)
    assert not levels(46000, gpu=False).turns(4096)


def test_a_block_that_keeps_everything_does_its_mlp_in_one_run():
    base = some_levels(2**40, (4, 4, 4, 4, 4), 2, 10, 20)
    levels = replace(base, spared_bytes=(0, 0, 1, 3, 3), spared_wide_bytes=6)
    rows = memory.MLP_ROWS
    some, many = rows // 2, 3 * rows
    assert replace(levels, fixed=(ALL, ALL)).working_bytes(some) == some * (10 - 3 + 20 - 6)
    assert replace(levels, fixed=(ALL, ALL)).working_bytes(many) == many * (10 - 3 + 20 - 6)
    assert replace(levels, fixed=(HOST, ALL)).working_bytes(many) == many * 10 + many * (20 - 6)
    assert replace(levels, fixed=(HOST, HOST)).working_bytes(many) == many * 10 + rows * 20
    assert replace(levels, fixed=(HOST, HOST)).working_bytes(some) == some * (10 + 20)
