"""The cache's Triton kernel against its plain counterpart, run by Triton's interpreter on a CPU."""

import os

import pytest
import torch

if torch.cuda.is_available():  # and to interpret them would spoil the tests of the GPU, in the same process
    pytest.skip("tests/gpu runs the kernels themselves", allow_module_level=True)
os.environ["TRITON_INTERPRET"] = "1"  # before triton is imported

from tests.decoder import cache_kernel_checks as checks
from tests.decoder.kernel_checks import Place

HERE = Place("cpu", torch.float32, 2e-5)


@pytest.mark.parametrize(("heads", "d"), [(2, 16), (3, 24), (1, 64)])
def test_keys_and_values_reach_their_slots(heads, d):
    checks.check_write(HERE, heads, d)
