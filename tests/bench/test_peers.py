"""`bench/peers/train.py` as a process: PEFT on a CPU, a tool that is missing, and the time limit."""

import pytest
from tests.bench.peer_process import run_peer

KEYS = {
    "bench",
    "system",
    "model",
    "work",
    "dtype",
    "tokens_per_s",
    "examples_per_s",
    "planned_mib",
    "peak_mib",
    "mfu",
    "roof_tflops",
    "gpu",
    "versions",
    "commit",
}


def peer(tmp_path, variant, *args, works=("2x16", "jsquad")):
    done, lines = run_peer("train.py", tmp_path, variant, *args, works=works)
    assert [line["work"] for line in lines] == list(works), done.stderr
    return done, lines


def test_peft_on_a_cpu(tmp_path):
    done, lines = peer(tmp_path, "peft_ckpt", "--steps", "4")
    assert done.returncode == 0, done.stderr
    for line in lines:
        assert set(line) >= KEYS
        assert (line["system"], line["variant"], line["counted_steps"]) == ("peft", "peft_ckpt", 2)
    rows, questions = lines
    assert rows["batch_size"] == 2
    assert rows["tokens_per_s"] / rows["examples_per_s"] > 15.5
    assert questions["batch_size"] == 16
    mean = (3 * 20 + 7 + 9 + 6) / 3  # without padding
    assert abs(questions["tokens_per_s"] / questions["examples_per_s"] / mean - 1) < 0.1
    assert "padded to the longest" in questions["note"]


def test_a_tool_that_is_not_installed_is_a_line_with_the_reason(tmp_path):
    done, lines = peer(tmp_path, "unsloth_plain")
    assert done.returncode == 1
    assert {line["reason"] for line in lines} == {"ModuleNotFoundError: No module named 'unsloth'"}
    assert {line["tokens_per_s"] for line in lines} == {None}


def test_the_time_limit_leaves_a_line_for_every_work(tmp_path):
    _, lines = peer(tmp_path, "peft", "--steps", "1000000", "--time-limit", "4")
    first, second = lines
    assert second["reason"] == "the time limit of 4 s passed"
    assert second["tokens_per_s"] is None
    assert first.get("reason") == "the time limit of 4 s passed" or first["counted_steps"] >= 2


UNSLOTH = """
import os
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

class FastLanguageModel:
    @staticmethod
    def from_pretrained(folder, *, max_seq_length, dtype, load_in_4bit, local_files_only):
        assert AutoConfig.from_pretrained(folder).max_position_embeddings == max_seq_length
        if LOOKS:
            assert any(name.endswith(".safetensors") for name in os.listdir(folder)), "no weights"
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
        assert model.dtype == dtype
        return model, AutoTokenizer.from_pretrained(folder)

    @staticmethod
    def get_peft_model(model, *, r, lora_alpha, target_modules, use_gradient_checkpointing, **others):
        assert use_gradient_checkpointing in ("unsloth", False)
        return get_peft_model(model, LoraConfig(r=r, lora_alpha=lora_alpha, target_modules=target_modules))
"""


@pytest.mark.parametrize("looks", [False, True])
def test_unsloth_gets_random_weights_made_in_place_or_written_where_it_looks_for_them(
    tmp_path, monkeypatch, looks
):
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "unsloth.py").write_text(UNSLOTH.replace("LOOKS", str(looks)), encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tools))
    done, lines = peer(tmp_path, "unsloth_ckpt", "--steps", "4", works=("2x16",))
    assert done.returncode == 0, done.stderr
    assert (lines[0]["system"], lines[0]["variant"], lines[0]["counted_steps"]) == (
        "unsloth",
        "unsloth_ckpt",
        2,
    )
    assert 5 < lines[0]["loss"] < 8  # of 512 words at random: nothing was learnt, nothing is 0
    written = list((tmp_path / "scratch").glob("*/*.safetensors"))
    assert bool(written) == looks
    assert ("weights are written and loaded" in done.stderr) == looks
