"""Sizes by name or folder."""

import json

import pytest

from tenbin.bench_sizes import MODELS, model_sizes
from tenbin.errors import ModelError
from tenbin.models.shape import ModelShape


def test_known_models_have_as_many_weights_as_their_names_say():
    billions = {name: ModelShape.read(model_sizes(name)).num_params() / 1e9 for name in MODELS}
    assert billions["7b"] == pytest.approx(6.74, abs=0.01)
    assert billions["13b"] == pytest.approx(13.02, abs=0.01)
    assert billions["gemma-3-270m"] == pytest.approx(0.268, abs=0.001)
    assert billions["tiny"] < 1e-3
    assert billions["tiny-gpt2"] < 1e-3


def test_a_folder_says_its_own(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(dict(MODELS["tiny"])), encoding="utf-8")
    assert model_sizes(str(tmp_path)) == MODELS["tiny"]


@pytest.mark.parametrize(("text", "said"), [("[1]", "an object"), ("{", "cannot be read")])
def test_a_config_that_is_none(tmp_path, text, said):
    (tmp_path / "config.json").write_text(text, encoding="utf-8")
    with pytest.raises(ModelError, match=said):
        model_sizes(str(tmp_path))


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ModelError, match="7b, 13b, gpt2-13b"):
        model_sizes("8b")
