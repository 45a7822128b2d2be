"""An executable that stands in for vLLM, in several states of health, and what it leaves behind.

`write_vllm` writes it; started, this file is the server: `python vllm_stand_in.py HOW RECORD serve ...`.
"""

import json
import os
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

KEPT = ("VLLM_NO_USAGE_STATS", "DO_NOT_TRACK", "HF_HUB_OFFLINE", "PYTORCH_ALLOC_CONF", "OPENAI_API_KEY")


def write_vllm(folder, how):
    """Path of an executable `vllm`; `record(folder)` is what it was started with."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "vllm"
    path.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{__file__}" "{how}" "{folder}" "$@"\n')
    path.chmod(0o755)
    return path


def records(folder):
    """Of every start: arguments, environment, process ids."""
    return [json.loads(path.read_text()) for path in sorted(folder.glob("start-*.json"))]


def is_alive(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"


def gone(folder, seconds=60.0):
    """Whether every process of every start ends within that time."""
    pids = [pid for record in records(folder) for pid in record["pids"]]
    deadline = time.monotonic() + seconds
    while any(is_alive(pid) for pid in pids):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return bool(pids)


def _value(arguments, name):
    return arguments[arguments.index(name) + 1]


def _handler(how, names, key):
    answered = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            if self.path == "/health":
                self.reply(503 if how == "never" else 200, None)
            elif self.path == "/version":
                self.reply(200, {"version": "0.0.stand-in"})
            elif self.headers.get("Authorization") != f"Bearer {key}":
                self.reply(401, {"error": "no key"})
            else:
                self.reply(200, {"data": [{"id": name} for name in names]})

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if self.headers.get("Authorization") != f"Bearer {key}":
                self.reply(401, {"error": {"message": "no key"}})
                return
            answered.append(body)
            if how == "falls" and len(answered) == 4:
                print("RuntimeError: CUDA error: an illegal memory access", flush=True)
                os._exit(9)
            adapted = body["model"] != names[0]
            prompt = body["messages"][-1]["content"] if "messages" in body else body["prompt"]
            text = "悪い" if adapted or "壁が" in prompt else "良い"
            choice = {"index": 0, "finish_reason": "stop"}
            choice |= (
                {"message": {"role": "assistant", "content": text}} if "messages" in body else {"text": text}
            )
            usage = {"prompt_tokens": len(prompt), "completion_tokens": len(text)}
            self.reply(200, {"id": "x", "model": body["model"], "choices": [choice], "usage": usage})

        def reply(self, status, value):
            data = b"" if value is None else json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *args):
            pass

    return Handler


def _serve_llama(gguf, arguments):
    import xllamacpp

    parameters = xllamacpp.CommonParams()
    parameters.model.path = gguf
    parameters.model_alias = {_value(arguments, "--served-model-name")}
    parameters.api_keys = [os.environ["VLLM_API_KEY"]]
    parameters.hostnames = ["127.0.0.1"]
    parameters.port = int(_value(arguments, "--port"))
    parameters.n_parallel = 1
    parameters.n_ctx = 4096
    parameters.n_gpu_layers = 0
    parameters.cpuparams.n_threads = 1
    parameters.warmup = False
    server = xllamacpp.Server(parameters)
    print("listening at", server.listening_address, flush=True)
    time.sleep(3600)


def main(how, folder, arguments):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"])
    number = len(list(folder.glob("start-*.json")))
    kept = {name: os.environ.get(name) for name in KEPT}
    record = {"arguments": arguments, "environment": kept, "pids": [os.getpid(), child.pid]}
    (folder / f"start-{number}.json").write_text(json.dumps(record))
    if how == "dies":
        for line in range(30):
            print(f"line {line}")
        print("ValueError: no room for the KV cache", flush=True)
        sys.exit(3)
    if how.startswith("llama:"):
        _serve_llama(how.removeprefix("llama:"), arguments)
    if how == "deaf":
        import signal

        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    names = [_value(arguments, "--served-model-name")]
    if "--lora-modules" in arguments:
        names.append(_value(arguments, "--lora-modules").split("=")[0])
    address = (_value(arguments, "--host"), int(_value(arguments, "--port")))
    print("serving at", address, flush=True)
    server = ThreadingHTTPServer(address, _handler(how, names, os.environ["VLLM_API_KEY"]))
    server.daemon_threads = True
    server.serve_forever()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3:])
