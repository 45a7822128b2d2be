"""A test that needs the real model is skipped where a person works, and fails where CI runs."""

import pytest
from tests import real_parts


@pytest.mark.parametrize(("ci", "outcome"), [("", pytest.skip.Exception), ("true", pytest.fail.Exception)])
def test_a_missing_model_is_never_passed_over_in_ci(monkeypatch, ci, outcome):
    monkeypatch.setattr(real_parts, "demo_model", lambda: None)
    monkeypatch.setenv("CI", ci)
    with pytest.raises(outcome, match="make model"):
        real_parts.real_model()
