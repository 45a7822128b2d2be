"""The Triton kernels against their plain counterparts, run by Triton's interpreter on a CPU."""

import os

import pytest
import torch

if torch.cuda.is_available():  # and to interpret them would spoil the tests of the GPU, in the same process
    pytest.skip("tests/gpu runs the kernels themselves", allow_module_level=True)
os.environ["TRITON_INTERPRET"] = "1"  # before triton is imported

from tests.decoder import kernel_checks as checks
from tests.decoder.kernel_checks import over

from tenbin.decoder import activation_kernels

# sigmoid(x) = 1 / (1 + exp(-x)): exp may overflow to infinity, which gives the right 0
pytestmark = pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")

HERE = checks.Place("cpu", torch.float32, 2e-5)


@over(checks.NORMS)
def test_norms(layer, offset, shape):
    checks.check_norms(HERE, layer, offset, shape)


@pytest.mark.parametrize(("layer", "offset"), [(False, False), (False, True), (True, False)])
@pytest.mark.parametrize("width", [48, 4096])
def test_quantized_norms(layer, offset, width):
    checks.check_quantized_norms(HERE, layer, offset, width, 0.1)


@over(checks.HEADS)
def test_heads(heads, rank, turn):
    checks.check_heads(HERE, heads, rank, turn)


def test_heads_of_one_map():
    checks.check_heads_of_one_map(HERE)


@pytest.mark.parametrize("turn", [True, False])
def test_gradients_of_heads(turn):
    checks.check_gradients_of_heads(HERE, turn)


@over(checks.ACTIVATIONS)
def test_activations(kind, gated, rank):
    checks.check_activations(HERE, kind, gated, rank)


@pytest.mark.parametrize("gated", [True, False])
def test_rows_that_a_program_goes_through(gated, monkeypatch):
    """Tile by tile, holding the factors, as in 16 bits on a GPU."""
    monkeypatch.setattr(activation_kernels, "_holds", lambda x, rank: True)
    checks.check_activations(HERE, "silu", gated, 4, rows=300)
    checks.check_sums(HERE, 5, gated, rows=300)


@over(checks.SUMS)
def test_sums(rank, residual):
    checks.check_sums(HERE, rank, residual)


@pytest.mark.parametrize("bounded", [True, False])
def test_merged_attentions(bounded):
    checks.check_merge(HERE, bounded)


def test_added_rows():
    checks.check_added_rows(HERE)


@pytest.mark.parametrize("scaled", [True, False])
@pytest.mark.parametrize("width", [1, 4096, 9000, 33000])
def test_quantization(scaled, width):
    # The interpreter cuts digits off where a GPU rounds: off by one of the 3 bits.
    checks.check_quantization(HERE, scaled, 0.1, width)


@over(checks.LOW_GRADIENTS)
def test_low_gradients(widths, rank, masked):
    checks.check_low_gradients(HERE, widths, rank, masked)


def test_low_gradients_in_runs(monkeypatch):
    checks.check_low_gradients_in_runs(HERE, monkeypatch)


def test_transposition():
    checks.check_transposition(HERE)


def test_cross_entropy():
    checks.check_cross_entropy(HERE)
