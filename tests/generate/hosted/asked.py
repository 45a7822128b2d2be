"""Generators over a local server, quick to retry, and the questions put to them."""

from tests.generate.hosted.fault_server import FaultServer

from tenbin.config import ModelConfig
from tenbin.generate.hosted import open_hosted, read_prices
from tenbin.types import GenerationConfig, Message

CONFIG = GenerationConfig(max_new_tokens=8)
QUICK = {"first_wait_s": 0.002, "timeout_s": 20.0, "connect_timeout_s": 20.0}


def questions(count, start=0):
    return [[Message("user", f"問{number}")] for number in range(start, start + count)]


def right(index):
    return f"答え: 問{index}"


def hosted_model(server, model="gpt-4o", **hosted):
    url = server.url if isinstance(server, FaultServer) else server
    return ModelConfig.model_validate({"source": f"{url}#{model}", "hosted": {**QUICK, **hosted}})


def generator(server, folder, *, spending=None, say=lambda text: None, **hosted):
    return open_hosted(
        hosted_model(server, **hosted), folder, prices=read_prices(), spending=spending, say=say
    )


def ask(made, prompts, config=CONFIG):
    """Completions in the order of the prompts, each of them once."""
    found = {}
    for index, completion in made.generate(prompts, config):
        assert index not in found
        found[index] = completion
    assert sorted(found) == list(range(len(prompts)))
    return [found[index] for index in range(len(prompts))]


def lines(folder):
    """What the store's file holds."""
    (path,) = (folder / "hosted").glob("*.jsonl")
    return path.read_text(encoding="utf-8").splitlines()
