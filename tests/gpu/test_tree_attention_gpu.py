"""Attention of short segments in one pass on a GPU, against attention run by run on the CPU."""

import pytest
import torch

if not torch.cuda.is_available():  # before the kernels are imported: elsewhere they are interpreted
    pytest.skip("no GPU here", allow_module_level=True)

from tests.decoder import tree_attention_checks as checks
from tests.decoder.kernel_checks import Place
from tests.decoder.rows import layout_of

from tenbin.decoder import tree_attention

pytestmark = pytest.mark.gpu

HALF = Place("cuda", torch.bfloat16, 1e-2)
LIKE_7B = (32, 32, 128)
QUESTIONS = layout_of([(121 + n, [37, 30 + n, 41, 36]) for n in range(12)] + [(0, [200, 64])])


@pytest.mark.parametrize("layout", checks.LAYOUTS.values(), ids=checks.LAYOUTS)
@pytest.mark.parametrize("sizes", [*checks.SIZES.values(), (4, 2, 128)], ids=str)
@pytest.mark.parametrize("turn", [True, False])
def test_kernels(layout, sizes, turn):
    checks.check(HALF, layout, sizes, turn=turn)


def test_kernels_within_a_window():
    checks.check(HALF, checks.LAYOUTS["no-branches"], checks.SIZES["grouped"], window=10)


def test_a_row_of_questions():
    checks.check(HALF, QUESTIONS, LIKE_7B, turn=True)


def test_they_serve_this_gpu():
    assert tree_attention.serves(torch.empty(1, 4, 128, dtype=torch.bfloat16, device="cuda"))
