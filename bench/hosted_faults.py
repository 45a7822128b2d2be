"""Hosted calls through a server that fails, killed and resumed: is every answer there, once, and paid once?

    python bench/hosted_faults.py [--calls 10000] [--kills 10] [--share 0.25] [--concurrency 32]

A process of its own serves faults (429 with and without Retry-After, 500, 502, 503, stalls, connections cut
before and within the answer, malformed JSON, wrong lengths, empty and null answers) in a share of the
requests. Another process asks every question; it is killed with SIGKILL again and again, each time after as
many more answers, and begun anew on the same folder. Prints a table, and one JSON line with the same figures.
Exits with 1 where an answer is missing, wrong, twice in the store, or asked for again after it was received.

Needs: pip install -c constraints.txt -e ".[hosted]"
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
ANSWER = b'{"kind": "answer"'
POLL_S = 0.005


@dataclass
class Outcome:
    """What came of it."""

    calls: int
    """Questions."""
    answered: int
    """Questions with the right answer in the end."""
    missing: int
    wrong: int
    twice_in_store: int
    kills: int
    killed_at: tuple[int, ...]
    """Answers in the store at each kill."""
    requests: int
    """That reached the server."""
    failed: int
    """Requests that the server let fail, or that found no end before a kill."""
    paid_twice: int
    """Good answers that the server sent for a question again."""
    paid_twice_after_receipt: int
    """Of these: for an answer that had been received. Must be 0."""
    in_flight_at_kills: int
    """Calls without an outcome in the store: the most that the kills can make paid twice."""
    timed_out: int
    """Calls that were left after `timeout_s`; the server may have answered too late."""
    seconds: float
    calls_per_s: float

    @property
    def is_right(self):
        """Nothing missing, wrong or twice, and nothing paid twice that had been received."""
        bad = self.missing, self.wrong, self.twice_in_store, self.paid_twice_after_receipt
        return not any(bad) and self.answered == self.calls


def question(number):
    return f"質問{number}: 日本の{number}番目の都市は？"


def client(url, folder, calls, concurrency):
    """Ask every question; the process that is killed."""
    from tenbin.config import ModelConfig
    from tenbin.generate.hosted import open_hosted, read_prices
    from tenbin.types import GenerationConfig, Message

    hosted = {"concurrency": concurrency, "timeout_s": 3.0, "first_wait_s": 0.01, "connect_timeout_s": 30.0}
    model = ModelConfig.model_validate({"source": f"{url}#gpt-4o", "hosted": hosted})
    generator = open_hosted(model, Path(folder), prices=read_prices())
    prompts = [[Message("user", question(number))] for number in range(calls)]
    found = {
        index: completion.text
        for index, completion in generator.generate(prompts, GenerationConfig(max_new_tokens=32))
        if completion.error is None
    }
    right = sum(text == f"答え: {question(index)}" for index, text in found.items())
    print(json.dumps({"answered": right, "missing": calls - len(found), "wrong": len(found) - right}))


def run(calls, kills, *, share=0.25, concurrency=32, seed=0):
    """Ask all questions, killed so often on the way."""
    started = time.perf_counter()
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    served = [sys.executable, "-m", "tests.generate.hosted.fault_server", str(seed), str(share)]
    with tempfile.TemporaryDirectory() as folder:
        server = subprocess.Popen(
            served, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        with server:
            url = f"http://127.0.0.1:{server.stdout.readline().strip()}/v1"
            command = [sys.executable, __file__, "--client", url, folder]
            command += ["--calls", str(calls), "--concurrency", str(concurrency)]
            killed_at = [
                killed(command, Path(folder), environment, calls * (number + 1) // (kills + 1))
                for number in range(kills)
            ]
            done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
            told, _ = server.communicate("")
        seconds = time.perf_counter() - started
        (path,) = (Path(folder) / "hosted").glob("*.jsonl")
        log = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return outcome(calls, killed_at, json.loads(done.stdout), json.loads(told), log, seconds)


def killed(command, folder, environment, answers):
    """Begin the client and kill it once the store holds so many answers; how many it held."""
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    count, place = 0, 0
    while count < answers:
        assert process.poll() is None, "the client ended before it was killed"
        time.sleep(POLL_S)
        for path in (folder / "hosted").glob("*.jsonl"):
            with path.open("rb") as file:
                file.seek(place)
                text = file.read()
            whole = text.rfind(b"\n") + 1
            count, place = count + text[:whole].count(ANSWER), place + whole
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    return path.read_bytes().count(ANSWER)


def outcome(calls, killed_at, said, told, log, seconds):
    answers = Counter(line["key"] for line in log if line["kind"] == "answer")
    # What one process could not finish: a call after which the store has no outcome of the same attempt.
    open_calls, in_flight, timed_out = {}, Counter(), Counter()
    for line in log:
        place = line["key"], line["attempt"]
        if line["kind"] == "call":
            in_flight[line["key"]] += open_calls.pop(place, 0)
            open_calls[place] = 1
            continue
        open_calls.pop(place, None)
        timed_out[line["key"]] += (line.get("error") or "").startswith("no answer within")
    for (key, _), left in open_calls.items():
        in_flight[key] += left
    keys = _keys(log, calls)
    again = {prompt: given - 1 for prompt, given in told["given"].items() if given > 1}
    requests = sum(told["asked"].values())
    return Outcome(
        calls=calls,
        **said,
        twice_in_store=sum(count > 1 for count in answers.values()),
        kills=len(killed_at),
        killed_at=tuple(killed_at),
        requests=requests,
        failed=requests - sum(told["given"].values()),
        paid_twice=sum(again.values()),
        paid_twice_after_receipt=sum(
            max(0, n - in_flight[keys[prompt]] - timed_out[keys[prompt]]) for prompt, n in again.items()
        ),
        in_flight_at_kills=sum(in_flight.values()),
        timed_out=sum(timed_out.values()),
        seconds=round(seconds, 1),
        calls_per_s=round(calls / seconds, 1),
    )


def _keys(log, calls):
    """Prompt -> its name in the store, from the answers, which repeat their prompt."""
    keys = {line["text"].removeprefix("答え: "): line["key"] for line in log if line["kind"] == "answer"}
    assert set(keys) == {question(number) for number in range(calls)}
    return keys


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--share", type=float, default=0.25, help="of the requests that fail")
    parser.add_argument("--concurrency", type=int, default=32)
    parser.add_argument("--client", nargs=2, metavar=("URL", "FOLDER"), help="be the process that asks")
    options = parser.parse_args()
    if options.client:
        client(*options.client, options.calls, options.concurrency)
        return
    found = run(options.calls, options.kills, share=options.share, concurrency=options.concurrency)
    for name, value in asdict(found).items():
        print(f"{name.replace('_', ' '):26} {value}")
    print(json.dumps({"bench": "hosted-faults", "share": options.share, **asdict(found)}))
    sys.exit(0 if found.is_right else 1)


if __name__ == "__main__":
    main()
