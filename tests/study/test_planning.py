"""What the plan gives generation: a cache for the answers that are written at once, within the limits."""

import json

import pytest
from tests.study.studies import write_study

from tenbin.memory import MIB
from tenbin.memory_reading import CPU_CACHE_TOKENS
from tenbin.models.encode import Encoder
from tenbin.models.shape import ModelShape
from tenbin.models.tokenizer import load_tokenizer
from tenbin.study.planning import plan_model
from tenbin.study.prepare import prepare


def planned(path, *, cap_bytes=None, gpu=False, **overrides):
    prepared = prepare(path, {key.replace("__", "."): value for key, value in overrides.items()})
    folder = path.parent / "model"
    encoder, shape = Encoder(load_tokenizer(folder)), ModelShape.read(folder)
    evaluation = {split: d.examples for split, d in prepared.datasets().items() if split != "train"}
    plan = plan_model(
        prepared.config,
        "tiny",
        shape,
        encoder,
        prepared.task,
        prepared.splits.train.examples,
        evaluation,
        cap_bytes=cap_bytes,
        dtype_bytes=2,
        gpu=gpu,
    )
    lengths = {
        split: [len(encoder.prompt(prepared.task.prompt(example))[0]) for example in examples]
        for split, examples in evaluation.items()
    }
    return plan, shape, lengths


def test_the_cache_holds_all_prompts_with_their_answers_where_they_are_few(tmp_path):
    plan, shape, lengths = planned(write_study(tmp_path))
    assert plan.cache_tokens == max(sum(some) + 8 * len(some) for some in lengths.values())
    assert plan.memory.terms["kv_cache"] == plan.cache_tokens * shape.kv_bytes_per_token(2)
    assert json.loads(json.dumps(plan.to_json()))["cache_tokens"] == plan.cache_tokens


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({"generation__batch_size": 2}, lambda longest: sum(longest[:2]) + 2 * 8),
        ({"generation__batch_tokens": 400}, lambda longest: 400),
        ({"generation__batch_tokens": 1}, lambda longest: longest[0] + 8),
    ],
)
def test_the_limits_of_the_study_are_kept(tmp_path, limits, expected):
    plan, _, lengths = planned(write_study(tmp_path), **limits)
    longest = max((sorted(some, reverse=True) for some in lengths.values()), key=lambda some: sum(some[:2]))
    assert plan.cache_tokens == expected(longest)


def test_a_cap_bounds_the_cache(tmp_path):
    path = write_study(tmp_path)
    free, shape, _ = planned(path, cap_bytes=46000 * MIB, gpu=True)
    beside = sum(
        size for cause, size in free.memory.terms.items() if cause in ("weights", "adapters", "gradients")
    )
    beside += free.memory.terms["optimizer"] + free.memory.terms["reserve"] + free.memory.terms["reading"]
    cap = beside + 100 * shape.kv_bytes_per_token(2)
    tight, _, _ = planned(path, cap_bytes=cap, gpu=True)
    assert tight.cache_tokens == 100 < free.cache_tokens
    assert tight.memory.terms["kv_cache"] + beside == cap
    assert tight.memory.fits


def test_on_a_cpu_one_long_prompt_has_room_in_any_case(tmp_path):
    long = [{"text": "長" * 9000 + str(i), "category": "良い" if i % 2 else "悪い"} for i in range(10)]
    path = write_study(tmp_path, rows=long, data={"too_long": "leave_out"}, training={"learning_rates": []})
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    (tmp_path / "model" / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 40_000}))
    plan, _, lengths = planned(path)
    assert plan.cache_tokens == max(max(some) for some in lengths.values()) + 8 > CPU_CACHE_TOKENS
