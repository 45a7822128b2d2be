"""The measured pass on a GPU: the corrected plan says what a training then holds, and the cap is spent."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tenbin.decoder.base_types import missing_package

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here"),
]
PROBED = """
import json
import sys

import tenbin  # before torch: memory in segments that grow
import torch
from tests.gpu.test_decoder_gpu import DEVICE, examples, jobs_of, some_model, with_adapters
from tenbin.decoder.base_types import make_frozen
from tenbin.decoder.decoder import Decoder
from tenbin.device import find_device
from tenbin.memory import MIB, plan_training
from tenbin.models.shape import ModelShape
from tenbin.train.probe import probe
from tenbin.train.room import Room
from tenbin.train.step import train_step

cap_mib, tokens, base, error_mib = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
sizes = {
    "hidden_size": 1536,
    "intermediate_size": 4096,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "num_key_value_heads": 12,
    "vocab_size": 32000,
    "max_position_embeddings": 16384,
}
device = find_device()
model = with_adapters(some_model("llama", **sizes).to(DEVICE), "a")
decoder = Decoder(model, make_frozen(base))
cap = device.cap(cap_mib)
(job,) = jobs_of(model, "a", batch_size=8, loss_on="all")  # as it is probed: every token may be a target
shape = ModelShape.read(model.config.to_dict())
plan = plan_training(
    shape, rank=16, most_tokens=tokens, dtype_bytes=2, cap_bytes=cap, decode_tokens=0, gpu=True, base=base
)
plan = plan.corrected(-error_mib * MIB, plan.levels)  # a plan that is wrong by so much
asked = examples(32, tokens // 8 - 60, 60)
room = Room(tokens, plan.levels, longest=tokens // 8)
found = probe(decoder, [job], asked, room, plan, device)
for _ in range(4):
    train_step(decoder, [job], asked, room)
torch.cuda.synchronize()
print(json.dumps({**found.to_json(), "held_mib": device.peak_mib(), "largest": room.largest}))
"""


def probed(cap_mib, tokens, base="same", error_mib=0):
    done = subprocess.run(
        [sys.executable, "-c", PROBED, str(cap_mib), str(tokens), base, str(error_mib)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("base", ["same", "fp8", "nf4"])
@pytest.mark.parametrize("tokens", [2048, 8192])
def test_the_corrected_plan_is_within_2_percent(base, tokens):
    if base == "fp8" and torch.cuda.get_device_capability() < (8, 9):
        pytest.skip("this GPU has no fp8 units")
    if missing_package(base) is not None:
        pytest.skip(f"no {missing_package(base)} here")
    found = probed(6000, tokens, base)
    assert found["largest"] <= found["tokens"] * 1.01 + 64
    assert found["planned_mib"] == pytest.approx(found["held_mib"], rel=0.02)
    assert found["held_mib"] <= 6000


@pytest.mark.parametrize("error_mib", [-600, 600])
def test_a_plan_that_is_wrong_is_put_right(error_mib):
    """Wrong in either direction by 600 MiB under a cap that binds: what is kept follows."""
    found = probed(5000, 8192, error_mib=error_mib)
    assert found["planned_mib"] == pytest.approx(found["held_mib"], rel=0.02)
    assert found["held_mib"] <= 5000
    assert found["predicted_mib"] - found["measured_mib"] == pytest.approx(error_mib, abs=500)
