"""`bench/peers/train.py` as a process: PEFT on a CPU, a tool that is missing, and the time limit."""

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
