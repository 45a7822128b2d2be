"""The plan of a generation bench: the cache gets what the cap leaves, and no more than is needed."""

from tenbin.bench_generate_plan import plan_generation
from tenbin.bench_sizes import model_sizes
from tenbin.memory import CPU_CACHE_TOKENS, MIB
from tenbin.models.shape import ModelShape

SEVEN = ModelShape.read(model_sizes("7b"))
CAP = 46_000 * MIB


def plan(**changes):
    asked = {
        "needed_tokens": 10**9,
        "longest": 600,
        "most_tokens": 8192,
        "cap_bytes": CAP,
        "gpu": True,
    }
    return plan_generation(SEVEN, **(asked | changes))


def test_the_cache_fills_the_cap():
    found = plan()
    each = 2 * 32 * 4096 * 2
    assert found.terms["kv_cache"] == found.cache_tokens * each
    assert CAP - each < found.total_bytes <= CAP
    assert 13_400 * MIB > found.terms["weights"] > 12_800 * MIB


def test_no_more_than_is_needed():
    found = plan(needed_tokens=1000)
    assert found.cache_tokens == 1000
    assert found.total_bytes < CAP - 20_000 * MIB


def test_no_room_is_no_token():
    assert plan(cap_bytes=12_000 * MIB).cache_tokens == 0


def test_8_bit_weights_leave_more_room_and_an_adapter_less():
    plain = plan().cache_tokens
    assert plan(base="fp8").cache_tokens > plain + 10_000
    assert plan(num_adapters=1).cache_tokens < plain
    assert plan(num_adapters=0).terms["adapters"] == 0


def test_reading_more_at_once_leaves_less():
    assert plan(most_tokens=16_384).cache_tokens < plan().cache_tokens
    assert plan(most_tokens=16_384).terms["reading"] > 1.5 * plan().terms["reading"]


def test_a_cpu_has_a_cache_of_fixed_size():
    assert plan(cap_bytes=None, gpu=False).cache_tokens == CPU_CACHE_TOKENS
    assert plan(cap_bytes=None, gpu=False, longest=20_000).cache_tokens == 20_000
    assert plan(cap_bytes=None, gpu=False, needed_tokens=7).cache_tokens == 7
