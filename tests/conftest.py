"""What holds for every test: those marked `model` need the real model."""

import pytest
from tests.real_parts import real_model


@pytest.fixture(autouse=True)
def _needs_the_real_model(request):
    if request.node.get_closest_marker("model"):
        real_model()
