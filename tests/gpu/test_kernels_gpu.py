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
@pytest.mark.parametrize(("layer", "offset"), [(False, False), (False, True), (True, False)])
@pytest.mark.parametrize("width", [48, 4096])
def test_quantized_norms(on, layer, offset, width):
    checks.check_quantized_norms(on, layer, offset, width, 0.04)


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
def test_rows_that_a_program_goes_through(on):
    checks.check_activations(on, "silu", True, 4, rows=600)
    checks.check_sums(on, 5, True, rows=600)


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
@pytest.mark.parametrize("width", [1, 700, 4096, 9000, 11008, 22016, 28672, 33000])
def test_quantization_to_the_last_bit(on, scaled, width):
    x = on.rand(70, width) * torch.logspace(-6, 6, 70)[:, None]
    x[3] = 0
    by = on.rand(width, seed=1).abs() if scaled else None
    found = kernels.quantized(on(x), by if by is None else by.to(on.device))
    expected = pointwise.quantized(x.to(on.dtype), by)
    assert torch.equal(found[0].cpu().view(torch.uint8), expected[0].view(torch.uint8))
    assert torch.equal(found[1].cpu(), expected[1])


@everywhere
def test_quantization_of_what_is_no_number(on):
    checks.check_rows_that_overflow(on)


@everywhere
@over(checks.LOW_GRADIENTS)
def test_low_gradients(on, widths, rank, masked):
    checks.check_low_gradients(on, widths, rank, masked)


@everywhere
@pytest.mark.parametrize("rows", [1, 1700, 1702])
def test_low_gradients_of_a_large_model(on, rows):
    checks.check_low_gradients(on, (4096, 1024, 1024), 16, True, rows)


@everywhere
def test_low_gradients_in_runs(on, monkeypatch):
    checks.check_low_gradients_in_runs(on, monkeypatch)


@everywhere
@pytest.mark.parametrize("rank", [64, 128, 256])
def test_ranks_of_many_adapters(on, rank):
    """Together they may be wide: other tiles, without what fills the registers."""
    checks.check_heads(on, (4, 2, 2), rank, True)
    checks.check_activations(on, "silu", True, rank)
    checks.check_sums(on, rank, True)


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
    return LowRank(low.low[-64:], low.b, low.parts)


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


def test_gradients_and_quantization_of_over_two_thousand_million_elements():
    width = 22016
    rows = 2**31 // width + 500
    grad, low = filled(rows, width), low_rank(rows, width, 2)
    by = filled(1, width, 6)[0].float().abs()
    bits, scale = kernels.quantized(grad, by)
    expected, expected_scale = pointwise.quantized(grad[-64:].cpu(), by.cpu())
    assert torch.equal(bits[-64:].cpu().view(torch.uint8), expected.view(torch.uint8))
    assert torch.equal(scale[-64:].cpu(), expected_scale)
    del bits
    found_b = torch.zeros(width, 16, device="cuda")
    found = kernels.low_gradients(grad, low, [0, width // 2], None, found_b)
    tail = torch.zeros(width, 16)
    near(
        found[-64:].cpu(),
        pointwise.low_gradients(grad[-64:].cpu().float(), on_cpu(last(low)), [0, width // 2], None, tail),
    )
    expected_b = torch.zeros_like(found_b)
    for start in range(0, rows, 4096):
        piece, of_rows = grad[start : start + 4096].double(), low.low[start : start + 4096].double()
        for p, columns in enumerate((slice(0, width // 2), slice(width // 2, width))):
            expected_b[columns] += (piece[:, columns].t() @ of_rows[:, p * 16 : (p + 1) * 16]).float()
    near(found_b, expected_b)
