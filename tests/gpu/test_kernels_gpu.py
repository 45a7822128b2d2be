"""The Triton kernels on a GPU against their plain counterparts on the CPU."""

import pytest
import torch

if not torch.cuda.is_available():  # before the kernels are imported: elsewhere they are interpreted
    pytest.skip("no GPU here", allow_module_level=True)

from tests.decoder import kernel_checks as checks
from tests.decoder.kernel_checks import over

from tenbin.decoder import kernels, pointwise
from tenbin.decoder.low_rank import LowRank

pytestmark = pytest.mark.gpu

PLACES = [
    pytest.param(checks.Place("cuda", torch.float32, 2e-5), id="float32"),
    pytest.param(checks.Place("cuda", torch.bfloat16, 6e-3), id="bfloat16"),
]
everywhere = pytest.mark.parametrize("on", PLACES)


@everywhere
@over(checks.NORMS)
def test_norms(on, layer, offset, shape):
    checks.check_norms(on, layer, offset, shape)


@everywhere
@over(checks.HEADS)
def test_heads(on, heads, rank, turn):
    checks.check_heads(on, heads, rank, turn)


@everywhere
def test_heads_of_one_map(on):
    checks.check_heads_of_one_map(on)


@everywhere
@pytest.mark.parametrize("turn", [True, False])
def test_gradients_of_heads(on, turn):
    checks.check_gradients_of_heads(on, turn)


@everywhere
@over(checks.ACTIVATIONS)
def test_activations(on, kind, gated, rank):
    checks.check_activations(on, kind, gated, rank)


@everywhere
@over(checks.SUMS)
def test_sums(on, rank, residual):
    checks.check_sums(on, rank, residual)


@everywhere
@pytest.mark.parametrize("bounded", [True, False])
def test_merged_attentions(on, bounded):
    checks.check_merge(on, bounded)


@everywhere
def test_added_rows(on):
    checks.check_added_rows(on)


@everywhere
@pytest.mark.parametrize("scaled", [True, False])
def test_quantization(on, scaled):
    # A quotient half-way between two values of e4m3 may fall to either side: few do.
    checks.check_quantization(on, scaled, 5e-3)


def test_transposition():
    checks.check_transposition(PLACES[0].values[0])


@everywhere
def test_cross_entropy(on):
    checks.check_cross_entropy(on)


# --- beyond what 32 bits can count ---


def filled(rows, width, seed=0):
    generator = torch.Generator("cuda").manual_seed(seed)
    return torch.empty(rows, width, dtype=torch.bfloat16, device="cuda").normal_(generator=generator)


def low_rank(rows, width, parts, rank=16):
    return LowRank(filled(rows, parts * rank, 1), filled(width, rank, 2).mul_(0.1), parts)


def last(low):
    return low.rows(slice(-64, None))


def near(found, expected):
    assert (found.float() - expected.float()).norm() < 6e-3 * expected.float().norm()


def on_cpu(low):
    return LowRank(low.low.cpu().float(), low.b.cpu().float(), low.parts)


@pytest.mark.parametrize("gated", [True, False])
def test_activations_of_over_two_thousand_million_elements(gated):
    """What the last rows hold; offsets that wrap around would give something else, or a fault."""
    width = 11008
    rows = 2**31 // (width * (2 if gated else 1)) + 500
    up, low = (
        filled(rows, width * (2 if gated else 1)),
        low_rank(rows, width * (2 if gated else 1), 2 if gated else 1),
    )
    tail, part = up[-64:].cpu().float(), on_cpu(last(low))
    expected = pointwise.activation(tail, "silu", gated=gated, low=part)
    near(kernels.activation(up, "silu", gated, low)[-64:].cpu(), expected)
    grad = filled(rows, width, 5)
    slope = grad[-64:].cpu().float()
    kernels.activation_backward_(up, grad, "silu", gated, low, None, None)
    pointwise.activation_backward_(tail, slope, "silu", gated=gated, low=part)
    near(up[-64:].cpu(), tail)
    near(grad[-64:].cpu(), slope)


def test_heads_and_sums_of_over_two_thousand_million_elements():
    heads, d = 96, 128
    rows = 2**31 // (heads * d) + 500
    qkv, low = filled(rows, heads * d), low_rank(rows, heads * d, 3)
    cos, sin = filled(rows, d, 3), filled(rows, d, 4)
    tail = qkv[-64:].cpu().float()
    tail = pointwise.completed(tail, on_cpu(last(low)))
    pointwise.finish_heads_(tail, None, d, (32, 32, 32), cos[-64:].cpu().float(), sin[-64:].cpu().float())
    kernels.finish_heads_(qkv, low, d, (32, 32, 32), cos, sin)
    near(qkv[-64:].cpu(), tail)
    one = LowRank(low.low[:, :16], low.b, 1)
    expected = torch.empty_like(tail)
    pointwise.add(qkv[-64:].cpu().float(), qkv[-64:].cpu().float(), on_cpu(last(one)), expected)
    kernels.add(qkv, qkv, one, qkv)
    near(qkv[-64:].cpu(), expected)


def test_norms_and_losses_of_over_two_thousand_million_elements():
    rows, width = 2**31 // 5120 + 500, 5120
    x, weight = filled(rows, width), filled(1, width, 1)[0]
    expected = pointwise.norm(x[-64:].cpu().float(), weight.cpu().float(), None, 1e-5, unit_offset=False)
    near(kernels.norm(x, weight, None, 1e-5, False)[-64:].cpu(), expected)
    del x
    rows, width = 2**31 // 262144 + 70, 262144
    logits = filled(rows, width)
    labels = torch.arange(rows, device="cuda") * 31
    scales = torch.ones(rows, dtype=torch.float64, device="cuda")
    tail = logits[-64:].cpu().float()
    losses = kernels.cross_entropy_(logits, labels, scales)
    near(losses[-64:].cpu(), pointwise.cross_entropy_(tail, labels[-64:].cpu(), scales[-64:].cpu()))
    near(logits[-64:].cpu(), tail)
