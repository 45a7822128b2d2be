"""What tests on a GPU share."""

import gc

import pytest
import torch

from tenbin.device import find_device


@pytest.fixture
def capped():
    """Cap this process for one test."""

    def cap(mib):
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        find_device().cap(mib)

    yield cap
    torch.cuda.set_per_process_memory_fraction(1.0)
    gc.collect()
    torch.cuda.empty_cache()
