"""A key goes through a whole study, and is looked for in everything that the study writes and says."""

import os
import subprocess
import sys

import pytest
import tomli_w
from tests.generate.hosted.fault_server import FaultServer, error, ok
from tests.study.studies import reviews, write_rows

KEY = "sk-canary-0123456789/abcdef+XYZ"


def study(folder, url):
    rows = reviews(200)
    bad = [row for row in rows if row["category"] == "悪い"][:20]
    write_rows(folder / "reviews.jsonl", bad + [row for row in rows if row["category"] == "良い"][:20])
    text = {
        "name": "keys",
        "task": "classification",
        "output": "results",
        "data": {"train": "reviews.jsonl", "split": {"validation": 0.2, "test": 0.3, "seed": 0}},
        "model": [
            {
                "source": f"{url}#gpt-4o",
                "hosted": {"api_key_env": "MY_KEY", "attempts": 2, "first_wait_s": 0.01, "max_cost": "5 USD"},
            }
        ],
        "training": {"learning_rates": []},
    }
    (folder / "study.toml").write_text(tomli_w.dumps(text), encoding="utf-8")


def echo(seen):
    return seen.header("authorization")


ACTS = {
    "answers": (lambda seen: ok(f"良い {echo(seen)}", model=echo(seen)), 0),
    "filtered": (lambda seen: error(400, echo(seen), "content_filter"), 0),
    "wrong key": (lambda seen: error(401, f"Incorrect API key provided: {echo(seen)}", echo(seen)), 2),
}


@pytest.mark.parametrize("name", ACTS)
def test_no_key_in_anything_that_a_study_writes_or_says(tmp_path, name):
    act, code = ACTS[name]
    with FaultServer(lambda seen, number: act(seen)) as server:
        study(tmp_path, server.url)
        done = subprocess.run(
            [sys.executable, "-m", "tenbin.cli", "run", "study.toml"],
            cwd=tmp_path,
            env={**os.environ, "MY_KEY": KEY, "OPENAI_LOG": "debug"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert echo(server.seen[0]) == f"Bearer {KEY}"
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) >= 5
    texts = [path.read_bytes().decode("utf-8", "replace") for path in files]
    for text in (done.stdout, done.stderr, *texts):
        assert "canary" not in text
