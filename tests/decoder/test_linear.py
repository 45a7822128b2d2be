"""LinearGroup with kernels: one kernel makes dlow and dB that are those of the products."""

import os
from dataclasses import replace

import pytest
import torch

if torch.cuda.is_available():  # and to interpret them would spoil the tests of the GPU, in the same process
    pytest.skip("tests/gpu runs the kernels themselves", allow_module_level=True)
os.environ["TRITON_INTERPRET"] = "1"  # before triton is imported

from tests.decoder.exact import other_model, with_adapters
from tests.models.tiny import FAMILIES, tiny_model

from tenbin.decoder import kernels, linear, pointwise
from tenbin.decoder.decoder import Decoder
from tenbin.decoder.linear import Routing
from tenbin.decoder.multiprocessors import Multiprocessors

ROWS = 37
NAMES = ("a", "b")


def rand(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def routings():
    owners = torch.arange(ROWS) % 2
    return {
        "one": (("a",), Routing(("a",), ((0, ROWS),))),
        "spans": (NAMES, Routing(("b", "a", "b"), ((0, 5), (5, 20), (20, 30)))),  # 7 tokens are of none
        "owners": (NAMES, Routing((), (), owners=owners)),
    }


@torch.no_grad()
def passed(group, names, routing):
    """(dx before the adapters' part, dlow, all dB) of one pass, with dB gathered twice."""
    group.use(names)
    for copy, master, factor in group.pairs():
        copy.copy_(master * factor)
    routing = replace(routing, masks={})
    x, grad = rand(ROWS, group.frozen.in_features), rand(ROWS, group.parts[-1].end, seed=1)
    _, low = group.forward(x, routing)
    for _ in range(2):
        dx, dlow = group.backward(grad, low, routing)
    return dx, dlow, [one.grad_b.clone() for one in group.lows]


@pytest.fixture
def with_kernels(monkeypatch):
    """Calls that reached the kernel, once it is switched on."""
    calls = []

    def low_gradients(grad, low, *more):
        calls.append(low.rank)
        return kernels.low_gradients(grad, low, *more)

    def switch_on():
        monkeypatch.setattr(linear, "has_kernels", lambda x: True)
        monkeypatch.setattr(pointwise, "has_kernels", lambda x: True)
        monkeypatch.setattr(linear, "low_gradients", low_gradients)

    return switch_on, calls


def compare(model, case, with_kernels, most_calls):
    names, routing = routings()[case]
    groups = Decoder(model).blocks[0].groups
    expected = [passed(group, names, routing) for group in groups]
    switch_on, calls = with_kernels
    switch_on()
    found = [passed(group, names, routing) for group in groups]
    assert len(calls) == most_calls
    for f, e in zip(found, expected, strict=True):
        assert torch.equal(f[0], e[0])
        if e[1] is None:
            assert f[1] is None
            continue
        torch.testing.assert_close(f[1], e[1], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(f[2], e[2], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("case", ["one", "spans", "owners"])
@pytest.mark.parametrize("family", [*FAMILIES, "qwen2"])
def test_one_reading_is_two_products(family, case, with_kernels):
    """GPT-2 makes queries, keys and values with one map; elsewhere the queries are wider than the others."""
    model = tiny_model(family) if family in FAMILIES else other_model(family, torch.float32)
    compare(with_adapters(model, *NAMES), case, with_kernels, 8)


def test_adapters_on_some_maps_stay_products(with_kernels):
    """o and down are whole, the others lack a map's adapters."""
    model = with_adapters(tiny_model("llama"), "a", targets=("q_proj", "o_proj", "up_proj", "down_proj"))
    compare(model, "one", with_kernels, 4)


def test_high_ranks_stay_products(with_kernels, monkeypatch):
    monkeypatch.setattr(pointwise, "MOST_JOINED_RANK", 3)
    compare(with_adapters(tiny_model("llama"), "a"), "one", with_kernels, 0)  # of rank 4


def test_gpus_with_little_shared_memory_stay_with_products(with_kernels, monkeypatch):
    monkeypatch.setattr(pointwise, "multiprocessors", lambda device: Multiprocessors(128, 99 << 10))
    compare(with_adapters(tiny_model("llama"), "a"), "one", with_kernels, 0)
