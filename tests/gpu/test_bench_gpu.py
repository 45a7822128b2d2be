"""The training bench on a GPU: it trains with what a measured pass left, below the cap, and says both."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tenbin.memory import ALL, AWAY

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here"),
]
SIZES = {
    "model_type": "llama",
    "hidden_size": 1536,
    "intermediate_size": 4096,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "vocab_size": 32000,
    "max_position_embeddings": 16384,
}
CAP = 5000
"""Does not hold everything of 8,192 tokens."""


LONG = {
    **SIZES,
    "hidden_size": 2048,
    "intermediate_size": 5504,
    "num_attention_heads": 16,
    "max_position_embeddings": 32768,
}


def measured(folder, sizes, *options):
    """Lines of `tenbin bench train` in a process of its own."""
    model = folder / "model"
    model.mkdir(exist_ok=True)
    (model / "config.json").write_text(json.dumps(sizes), encoding="utf-8")
    output = folder / f"{len(list(folder.iterdir()))}.jsonl"
    command = [sys.executable, "-m", "tenbin.cli", "bench", "train", "--model", model, *options]
    done = subprocess.run(
        [*command, "--output", output],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]
    for line in lines:
        assert "reason" not in line
        assert "note" not in line, "memory was short"
    return lines


@pytest.mark.parametrize("dtype", ["bf16", "fp8"])
def test_the_steps_hold_what_the_corrected_plan_says(tmp_path, dtype):
    if dtype == "fp8" and torch.cuda.get_device_capability() < (8, 9):
        pytest.skip("this GPU has no fp8 units")
    works = ("--work", "1x8192", "--work", "1x512")
    lines = measured(tmp_path, SIZES, "--dtype", dtype, *works, "--steps", "5", "--vram-mib", str(CAP))
    assert [line["work"] for line in lines] == ["1x8192", "1x512"]
    for line in lines:
        assert line["peak_mib"] <= CAP
        # The steps hold what a pass does not: copies of the weights that were updated, and graphs' own.
        assert line["corrected_mib"] == pytest.approx(line["peak_mib"], rel=0.02, abs=120)
        # Of so small a model the reserve for libraries and gaps is a large part.
        assert line["probed_mib"] * 0.98 <= line["predicted_mib"] <= line["probed_mib"] + 500
    assert lines[0]["peak_mib"] > 0.85 * CAP, "what the plan counted too much is spent"
    assert lines[1]["kept"].split("/")[ALL] == str(SIZES["num_hidden_layers"])


@pytest.mark.parametrize("dtype", ["bf16", "fp8"])
def test_products_wait_in_the_computers_memory_within_the_cap(tmp_path, dtype):
    """A long row of a model that does not fit: as fast as it may be, with the losses of one that fits."""
    if dtype == "fp8" and torch.cuda.get_device_capability() < (8, 9):
        pytest.skip("this GPU has no fp8 units")
    cap = 7000
    options = ("--dtype", dtype, "--work", "1x16384", "--steps", "4")
    (less,) = measured(tmp_path, LONG, *options, "--vram-mib", str(cap))
    (all_of_it,) = measured(tmp_path, LONG, *options)
    assert int(less["kept"].split("/")[AWAY]) > 0
    assert less["host_mib"] > 0
    assert int(all_of_it["kept"].split("/")[ALL]) == LONG["num_hidden_layers"]
    assert less["peak_mib"] <= cap < all_of_it["peak_mib"]
    assert less["corrected_mib"] == pytest.approx(less["peak_mib"], rel=0.03, abs=120)
    assert less["loss"] == pytest.approx(all_of_it["loss"], rel=2e-3)
