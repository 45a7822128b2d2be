"""llama.cpp's own server with a .gguf file, as a process that ends with the test: a real foreign server."""

import subprocess
import sys
from contextlib import contextmanager

SERVE = """
import sys
import xllamacpp

parameters = xllamacpp.CommonParams()
parameters.model.path = sys.argv[1]
parameters.hostnames = ["127.0.0.1"]
parameters.port = 0
parameters.n_parallel = 2
parameters.n_ctx = 4096
parameters.n_gpu_layers = 0
parameters.cpuparams.n_threads = 1  # more wait for each other in a loop, and a busy machine has none to spare
parameters.warmup = False
server = xllamacpp.Server(parameters)
print("listening at", server.listening_address, flush=True)
sys.stdin.read()
import os
os._exit(0)
"""


@contextmanager
def llama_server(gguf):
    """The server's address, `http://127.0.0.1:PORT`, while the model is loaded."""
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE, str(gguf)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with process:
        try:
            address = next(
                (line.split()[-1] for line in process.stdout if line.startswith("listening at")), None
            )
            assert address is not None, "llama.cpp's server did not start"
            yield address
        finally:
            process.stdin.close()
            process.stdout.close()
            process.wait(60)
