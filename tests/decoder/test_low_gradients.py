"""dlow and dB, sums of many tiles of columns or of many runs of rows, by Triton's interpreter on a CPU."""

import os

import pytest
import torch

if torch.cuda.is_available():  # and to interpret them would spoil the tests of the GPU, in the same process
    pytest.skip("tests/gpu runs the kernels themselves", allow_module_level=True)
os.environ["TRITON_INTERPRET"] = "1"  # before triton is imported

from tests.decoder import kernel_checks as checks

from tenbin.decoder import low_gradient_kernels
from tenbin.decoder.multiprocessors import LARGE, Multiprocessors

HERE = checks.Place("cpu", torch.float32, 2e-5)


@pytest.mark.parametrize(
    ("widths", "rows"),
    [((1200,), 40), ((1100, 70), 40), ((60,), 500), ((40, 20), 500), ((20, 20, 20), 330), ((60,), 17)],
)
def test_more_sums_than_are_added_at_once(monkeypatch, widths, rows):
    """Up to 19 tiles of columns, or 32 runs of rows, and few of either."""
    monkeypatch.setattr(low_gradient_kernels, "multiprocessors", lambda _: Multiprocessors(60, LARGE))
    checks.check_low_gradients(HERE, widths, 16, True, rows)
