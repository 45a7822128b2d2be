"""Generation on a GPU in bf16 against float32, with CUDA graphs and without, shared and alone; the cap holds.

In bf16 two words whose logits are nearly equal may change places when rows are added up in another order. So
an answer is right where every word of it is the best one of the float32 model but for bf16's own error, which
transformers' forward in bf16 shows on the same texts; two ways of answering may part only at such a place.
"""

import copy
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tests.gpu.test_decoder_gpu import VOCABULARY, some_model, texts, with_adapters
from tests.models.tiny import FAMILIES

from tenbin.bench import TrainBench
from tenbin.bench_generate import Answering, measure_generation
from tenbin.bench_generate_works import generate_work
from tenbin.decoder.decoder import Decoder
from tenbin.decoder.fp8 import Fp8Frozen
from tenbin.device import find_device
from tenbin.generate.batching import BatchGenerator, Request
from tenbin.memory import MIB
from tenbin.models.lora import activate

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here"),
]
DEVICE = torch.device("cuda")
NEW = 12
CACHE = 12_000


def prompts_of(vocabulary=VOCABULARY):
    """Questions about two passages, one behind the first half of the other, and texts that share nothing."""
    first, second = (text.tolist() for text in texts(240, 350, seed=1))
    asked = [first + q.tolist() for q in texts(10, 31, 12, 40, 1, seed=2)]
    asked += [first[:120] + second + q.tolist() for q in texts(25, 9, 33, seed=3)]
    asked += [text.tolist() for text in texts(5, 600, 64, 1, 128, 333, seed=4)]
    return [tuple(i % vocabulary for i in ids) for ids in asked]


def answers(decoder, prompts, *, graphs, adapter=None, new=NEW, **options):
    """Of one run: a tuple of new tokens for each prompt."""
    generator = BatchGenerator(decoder, cache_tokens=CACHE, end_ids=(), graphs=graphs, **options)
    names = adapter if isinstance(adapter, list) else [adapter] * len(prompts)
    asked = [Request(i, ids, new, name) for i, (ids, name) in enumerate(zip(prompts, names, strict=True))]
    found = {answer.index: answer for answer in generator.run(asked)}
    assert {answer.reason for answer in found.values()} == {"length"}
    assert generator.notes == []
    return [found[i].new_ids for i in range(len(prompts))]


class Judge:
    """The same model in float32, and how far bf16 is from it."""

    def __init__(self, model):
        self.model, self.exact = model, copy.deepcopy(model).float()

    @torch.no_grad()
    def gaps(self, prompts, found):
        """(gap of each new token to the best one in float32, bf16's largest error, spread of the logits)."""
        gaps, error, spread = [], 0.0, 0.0
        for prompt, new in zip(prompts, found, strict=True):
            ids = torch.tensor([[*prompt, *new[:-1]]], device=DEVICE)
            logits = self.exact(ids, use_cache=False).logits[0, len(prompt) - 1 :]
            rounded = self.model(ids, use_cache=False).logits[0, len(prompt) - 1 :].float()
            error = max(error, (logits - rounded).abs().max().item())
            spread = max(spread, logits.std().item())
            chosen = logits.gather(1, torch.tensor(new, device=DEVICE)[:, None])[:, 0]
            gaps.append((logits.max(dim=1).values - chosen).tolist())
        return gaps, error, spread

    def right(self, prompts, found):
        """Every word is the best one but for rounding: of the best, of the chosen, and of our own steps."""
        gaps, error, spread = self.gaps(prompts, found)
        assert max(map(max, gaps)) <= 4 * error
        assert error < 0.25 * spread, "the yardstick itself is short"


def agreed(one, other):
    """Share of the tokens before two ways part."""
    same = total = 0
    for a, b in zip(one, other, strict=True):
        total += len(a)
        same += next((i for i, (x, y) in enumerate(zip(a, b, strict=True)) if x != y), len(a))
    return same / total


@pytest.mark.parametrize("family", FAMILIES)
def test_graphs_and_eager_steps_answer_alike(family):
    model = with_adapters(some_model(family)).to(DEVICE)
    decoder, judge, prompts = Decoder(model), Judge(model), prompts_of()
    eager = answers(decoder, prompts, graphs=False)
    graphs = answers(decoder, prompts, graphs=True)
    judge.right(prompts, eager)
    judge.right(prompts, graphs)
    assert agreed(eager, graphs) > 0.6
    assert len({word for new in eager for word in new}) > 8, "answers differ"


@pytest.mark.parametrize("family", FAMILIES)
def test_graphs_repeat_themselves(family):
    """The second run replays what the first captured; a second generator captures anew."""
    decoder = Decoder(with_adapters(some_model(family)).to(DEVICE))
    prompts = prompts_of()
    generator = BatchGenerator(decoder, cache_tokens=CACHE, end_ids=(), graphs=True)
    asked = [Request(i, ids, NEW) for i, ids in enumerate(prompts)]
    runs = [{a.index: a.new_ids for a in generator.run(asked)} for _ in range(3)]
    assert runs[1] == runs[2]
    assert answers(decoder, prompts, graphs=True) == [runs[0][i] for i in range(len(prompts))]


@pytest.mark.parametrize("graphs", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_shared_beginnings_answer_as_each_prompt_alone(family, graphs):
    model = with_adapters(some_model(family)).to(DEVICE)
    decoder, judge, prompts = Decoder(model), Judge(model), prompts_of()
    together = answers(decoder, prompts, graphs=graphs)
    alone = [answers(decoder, [ids], graphs=graphs)[0] for ids in prompts]
    judge.right(prompts, together)
    judge.right(prompts, alone)
    assert agreed(together, alone) > 0.6


def test_pieces_and_turns_answer_alike():
    """Long prompts in pieces, and few rows at once."""
    model = with_adapters(some_model("llama")).to(DEVICE)
    decoder, judge, prompts = Decoder(model), Judge(model), prompts_of()
    found = answers(decoder, prompts, graphs=True, most_tokens=100, most_rows=3)
    judge.right(prompts, found)
    assert agreed(found, answers(decoder, prompts, graphs=True)) > 0.6


@pytest.mark.parametrize("graphs", [False, True])
def test_requests_of_several_adapters_in_one_batch(graphs):
    model = with_adapters(some_model("llama"), "a", "b").to(DEVICE)
    decoder, prompts = Decoder(model), prompts_of()
    decoder.use(("a", "b"))
    names = [("a", None, "b")[i % 3] for i in range(len(prompts))]
    found = answers(decoder, prompts, graphs=graphs, adapter=names)
    plain = answers(decoder, prompts, graphs=graphs, adapter=None)
    for name in ("a", "b", None):
        mine = [i for i, other in enumerate(names) if other == name]
        with activate(model, name):
            judge = Judge(model)
            judge.right([prompts[i] for i in mine], [found[i] for i in mine])
    other = [i for i, name in enumerate(names) if name is not None]
    assert agreed([found[i] for i in other], [plain[i] for i in other]) < 0.5, "an adapter changes answers"


@pytest.mark.parametrize("family", FAMILIES)
def test_fp8_weights(family):
    """Far nearer the best word than chance; graphs as eager steps."""
    if torch.cuda.get_device_capability() < (8, 9):
        pytest.skip("this GPU has no fp8 units")
    model = with_adapters(some_model(family)).to(DEVICE)
    judge, prompts = Judge(model), prompts_of()
    decoder = Decoder(model, Fp8Frozen.make)
    eager, graphs = (answers(decoder, prompts, graphs=on) for on in (False, True))
    for found in (eager, graphs):
        gaps, _, spread = judge.gaps(prompts, found)
        flat = [gap for row in gaps for gap in row]
        assert sum(flat) / len(flat) < 0.5 * spread
    assert agreed(eager, graphs) > 0.3


# --- a model as large as Gemma 3 270M ---


@pytest.fixture(scope="module")
def built():
    return TrainBench.build("gemma-3-270m", find_device(), base="same", cap_bytes=None)


def test_a_larger_model_answers_alike_with_graphs_shared_and_alone(built):
    judge, prompts = Judge(built.model), prompts_of()
    eager = answers(built.decoder, prompts, graphs=False, new=6)
    graphs = answers(built.decoder, prompts, graphs=True, new=6)
    alone = [answers(built.decoder, [ids], graphs=True, new=6)[0] for ids in prompts]
    for found in (eager, graphs, alone):
        judge.right(prompts, found)
    assert agreed(eager, graphs) > 0.4
    assert agreed(graphs, alone) > 0.4


def test_the_bench_measures_with_and_without_graphs(built):
    work = generate_work("64x100+8", vocabulary=31_000)
    for graphs in (True, False):
        for adapters in (0, 1):
            found = measure_generation(built, work, Answering(runs=2, graphs=graphs, adapters=adapters))
            assert "reason" not in found
            assert found["graphs"] == graphs
            assert found["examples_per_s"] > 0


@pytest.mark.parametrize("dtype", ["bf16", "fp8"])
def test_the_cap_holds_while_the_cache_fills_it(tmp_path, dtype):
    """More prompts than the cache has room for; nothing is done with less than was planned."""
    if dtype == "fp8" and torch.cuda.get_device_capability() < (8, 9):
        pytest.skip("this GPU has no fp8 units")
    free, total = torch.cuda.mem_get_info()
    before, cap = (total - free) / MIB, 4000
    command = [sys.executable, "-m", "tenbin.cli", "bench", "generate", "--model", "gemma-3-270m"]
    command += ["--work", "400x600+8", "--dtype", dtype, "--vram-mib", str(cap), "--runs", "1"]
    done = subprocess.run(
        [*command, "--output", tmp_path / "out.jsonl"],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (line,) = map(json.loads, (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines())
    assert "reason" not in line
    assert "note" not in line, "memory was short"
    assert line["cache_tokens"] < 400 * 608, "the cap is what bounds the cache"
    assert 0.75 * cap < line["peak_mib"] <= cap
    assert line["driver_mib"] - before <= cap
    assert line["planned_mib"] <= cap
