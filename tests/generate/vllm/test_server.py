"""vLLM's process: started when needed, asked only by us, ended for certain; its last words are in errors."""

import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from tests.vllm_stand_in import gone, records, write_vllm

from tenbin.errors import ModelError
from tenbin.generate.vllm import Launch, VllmServer, find_command

ROOT = Path(__file__).parents[3]


def launch(folder, how="answers", **more):
    settings = {"timeout_s": 120.0, "grace_s": 30.0, **more}
    return Launch(
        where="model tiny",
        command=str(write_vllm(folder, how)),
        name="tiny",
        arguments=("a model", "--dtype", "auto"),
        log=folder / "run" / "vllm.log",
        **settings,
    )


def test_started_once_when_first_reached_and_ended_with_its_children(tmp_path):
    said = []
    with VllmServer(launch(tmp_path), said.append) as server:
        assert records(tmp_path) == []
        reached = server.reach()
        assert server.reach() is reached
        assert server.ended is None
        assert server.version == "0.0.stand-in"
        (record,) = records(tmp_path)
    arguments = record["arguments"]
    port = reached.address.split(":")[2].removesuffix("/v1")
    assert arguments[:4] == ["serve", "a model", "--dtype", "auto"]
    assert arguments[4:] == ["--host", "127.0.0.1", "--port", port, "--served-model-name", "tiny"]
    assert gone(tmp_path)
    assert "starting" in said[0]
    assert "answers after" in said[-1]
    assert "serving at" in (tmp_path / "run" / "vllm.log").read_text()


def test_it_tells_nobody_of_its_use_and_gets_nothing_of_ours(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTORCH_ALLOC_CONF", "expandable_segments:True")
    monkeypatch.setenv("OPENAI_API_KEY", "a key of a service")
    with VllmServer(launch(tmp_path, offline=True), print) as server:
        server.reach()
    (record,) = records(tmp_path)
    assert record["environment"] == {
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "HF_HUB_OFFLINE": "1",
        "PYTORCH_ALLOC_CONF": None,
        "OPENAI_API_KEY": None,
    }


def test_only_we_can_ask_it(tmp_path):
    with VllmServer(launch(tmp_path), print) as server:
        reached = server.reach()
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with pytest.raises(urllib.error.HTTPError) as raised:
            opener.open(f"{reached.address}/models", timeout=60)
        assert raised.value.code == 401
        raised.value.close()
        assert reached.key.reveal() not in " ".join(records(tmp_path)[0]["arguments"])


def test_one_that_dies_at_once_says_its_last_lines(tmp_path):
    with VllmServer(launch(tmp_path, "dies"), print) as server, pytest.raises(ModelError) as raised:
        server.reach()
    text = str(raised.value)
    assert "exit code 3" in text
    assert "| ValueError: no room for the KV cache" in text
    assert "| line 16\n" in text
    assert "line 15" not in text
    assert str(tmp_path / "run" / "vllm.log") in text
    assert gone(tmp_path)


def test_one_that_never_gets_healthy_is_ended(tmp_path):
    with VllmServer(launch(tmp_path, "never", timeout_s=3.0), print) as server:
        with pytest.raises(ModelError, match=r"within 3 s \(vllm.start_timeout_s\)"):
            server.reach()
        assert gone(tmp_path)


def test_one_that_does_not_listen_to_requests_to_end_is_killed(tmp_path):
    with VllmServer(launch(tmp_path, "deaf", grace_s=0.5), print) as server:
        server.reach()
    assert gone(tmp_path)


def test_a_command_that_is_not_there(tmp_path):
    with pytest.raises(ModelError) as raised:
        find_command(str(tmp_path / "vllm"), "model tiny", tmp_path)
    assert "pip install vllm" in str(raised.value)


def test_a_command_is_a_name_on_the_path_or_a_path_from_the_study_file(tmp_path, monkeypatch):
    path = str(write_vllm(tmp_path / "bin", "answers"))
    assert find_command("bin/vllm", "model tiny", tmp_path) == path
    assert find_command(path, "model tiny", ROOT) == path
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert find_command("vllm", "model tiny", ROOT) == path


KILLED = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs start without it
from pathlib import Path
from tests.generate.vllm.test_server import launch
from tenbin.generate.vllm import VllmServer
VllmServer(launch(Path(sys.argv[1])), print).reach()
print("reached", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("kind", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_it_ends_when_tenbin_is_killed(tmp_path, kind):
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    with process:
        assert any(line.startswith("reached") for line in process.stdout)
        process.send_signal(kind)
        process.wait(60)
    assert process.returncode != 0
    assert gone(tmp_path)
