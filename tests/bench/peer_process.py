"""A script of `bench/peers` as a process, on a tiny model: what it printed, and what it wrote."""

import json
import subprocess
import sys
from pathlib import Path

PEERS = Path(__file__).parents[2] / "bench/peers"
LENGTHS = [[20, [[5, 2], [6, 3], [4, 2]]]] * 12


def run_peer(script, folder, variant, *args, works):
    """(finished process, lines); every line stands in the file as it was printed."""
    lengths = folder / "lengths.json"
    lengths.write_text(json.dumps(LENGTHS), encoding="utf-8")
    output = folder / "out.jsonl"
    command = [sys.executable, PEERS / script, variant, "--model", "tiny", "--lengths", lengths]
    command += ["--output", output, "--scratch", folder / "scratch", *args]
    for work in works:
        command += ["--work", work]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert output.exists(), done.stderr
    lines = [json.loads(text) for text in output.read_text(encoding="utf-8").splitlines()]
    assert [json.loads(t) for t in done.stdout.splitlines() if t.startswith("{")] == lines
    return done, lines
