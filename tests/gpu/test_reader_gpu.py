"""Generation on a GPU: graphs = no graphs, bf16 near float32 on a CPU, attention by flash = run by run."""

import copy

import pytest
import torch

if not torch.cuda.is_available():  # before the kernels are imported: elsewhere they are interpreted
    pytest.skip("no GPU here", allow_module_level=True)

from tests.decoder import cache_kernel_checks as checks
from tests.decoder.kernel_checks import Place
from tests.generate.test_local import LetterTokenizer
from tests.gpu.test_decoder_gpu import DEVICE, some_model, texts, with_adapters
from tests.models.tiny import FAMILIES

from tenbin.decoder import cached_attention, plain_attention
from tenbin.decoder.decoder import Decoder
from tenbin.decoder.fp8 import Fp8Frozen
from tenbin.decoder.frozen import PlainFrozen
from tenbin.decoder.layout import Layout
from tenbin.decoder.linear import Routing
from tenbin.decoder.pack import PackedBatch
from tenbin.generate.batching import BatchGenerator, Request
from tenbin.generate.local import LocalGenerator
from tenbin.models.encode import Encoder
from tenbin.types import GenerationConfig, Message

pytestmark = pytest.mark.gpu
PLACES = [
    pytest.param(Place("cuda", torch.float32, 2e-5), id="float32"),
    pytest.param(Place("cuda", torch.bfloat16, 6e-3), id="bfloat16"),
]


@pytest.mark.parametrize("on", PLACES)
@pytest.mark.parametrize(("heads", "d"), [(2, 16), (3, 24), (32, 128)])
def test_keys_and_values_reach_their_slots(on, heads, d):
    checks.check_write(on, heads, d)


def requests(new=24, adapters=(None,), window=None):
    """Questions about passages behind one header, and some that share nothing."""
    header, *passages = (t.tolist() for t in texts(40, 150, 90, 200, seed=1))
    found = []
    for adapter in adapters:
        for i in range(23):
            question = texts(3 + i, seed=10 + i)[0].tolist()
            shared = header + passages[i % 3] if i % 4 else []
            found.append(Request(len(found), tuple(shared + question), new, adapter))
        found.append(Request(len(found), tuple(texts(700, seed=99)[0].tolist()), new, adapter))
    return found


def answers(decoder, asked, **options):
    options = {"cache_tokens": 20_000, "end_ids": (), **options}
    generator = BatchGenerator(decoder, **options)
    found = {answer.index: answer for answer in generator.run(asked)}
    assert all(answer.error is None for answer in found.values())
    return generator, [found[request.index].new_ids for request in asked]


def largest_gap(decoder, asked, found, expected):
    """Where two answers part: by how many nats one token is better than the other. 0 where none do.

    Random weights make toss-ups, and 16 bits decide them by rounding; a mistake makes other tokens likely.
    """
    gaps = [0.0]
    for request, one, other in zip(asked, found, expected, strict=True):
        assert len(one) == len(other)
        place = next((i for i, (x, y) in enumerate(zip(one, other, strict=True)) if x != y), None)
        if place is None:
            continue
        ids = torch.tensor([*request.ids, *one[:place]])
        layout = Layout((0, len(ids)))
        span = (0, len(ids))
        routing = Routing((), ()) if request.adapter is None else Routing((request.adapter,), (span,))
        last = torch.tensor([len(ids) - 1])
        nats = []
        for token in (one[place], other[place]):
            batch = PackedBatch(ids, torch.arange(len(ids)), layout, last, torch.tensor([token]))
            nats.append(float(decoder.losses(batch.to(decoder.device), routing)))
        gaps.append(abs(nats[0] - nats[1]))
    return max(gaps)


@pytest.mark.parametrize(
    ("make", "tolerance"), [(PlainFrozen, 0.15), (Fp8Frozen.make, 0.5)], ids=["bf16", "fp8"]
)
@pytest.mark.parametrize("family", FAMILIES)
def test_graphs_predict_what_passes_without_graphs_do(family, make, tolerance):
    model = with_adapters(some_model(family), "a").to(DEVICE)
    decoder = Decoder(model, make)
    decoder.use(("a",))
    asked = requests(adapters=("a",))
    plain, expected = answers(decoder, asked, graphs=False)
    assert plain.reader.graphs is None
    generator, found = answers(decoder, asked)
    assert generator.reader.graphs._graphs, "no graph was made"
    # Rows that were filled up change the shapes of products, and with them their rounding.
    assert largest_gap(decoder, asked, found, expected) < tolerance
    again = {answer.index: answer.new_ids for answer in generator.run(asked)}
    assert largest_gap(decoder, asked, [again[r.index] for r in asked], expected) < tolerance
    for p in (p for n, p in model.named_parameters() if "lora_B" in n):
        p.data.mul_(-3)
    decoder.use(("a",))
    _, other = answers(decoder, asked, graphs=False)
    renewed = {answer.index: answer.new_ids for answer in generator.run(asked)}
    assert largest_gap(decoder, asked, [renewed[r.index] for r in asked], other) < tolerance
    assert largest_gap(decoder, asked, expected, other) > tolerance, "the adapters did not change"


@pytest.mark.parametrize("family", FAMILIES)
def test_adapters_side_by_side_in_graphs(family):
    decoder = Decoder(with_adapters(some_model(family), "a", "b").to(DEVICE))
    decoder.use(("a", "b"))
    asked = requests(adapters=("a", None, "b"))
    _, expected = answers(decoder, asked, graphs=False)
    generator, found = answers(decoder, asked)
    assert any(sizes.names is None for sizes in generator.reader.graphs._graphs)
    assert largest_gap(decoder, asked, found, expected) < 0.15


@pytest.mark.parametrize("family", FAMILIES)
def test_float32_on_the_gpu_answers_as_on_the_cpu(family):
    here = with_adapters(some_model(family).float(), "a", "b")
    there = copy.deepcopy(here).to(DEVICE)
    asked, found, decoders = requests(6, ("a", None, "b")), [], []
    for model in (here, there):
        decoders.append(Decoder(model))
        decoders[-1].use(("a", "b"))
        found.append(answers(decoders[-1], asked)[1])
    assert largest_gap(decoders[0], asked, found[1], found[0]) < 1e-3


@pytest.mark.parametrize("family", FAMILIES)
def test_flash_attention_over_the_cache_equals_attention_run_by_run(family, monkeypatch):
    decoder = Decoder(some_model(family).to(DEVICE))
    asked = requests(12)
    _, flash = answers(decoder, asked, graphs=False, most_tokens=300)
    monkeypatch.setattr(cached_attention, "without_flash", lambda q: plain_attention)
    _, plain = answers(decoder, asked, graphs=False, most_tokens=300)
    assert largest_gap(decoder, asked, flash, plain) < 0.15


def test_a_cache_that_is_too_large_is_an_error_at_once():
    decoder = Decoder(some_model("llama").to(DEVICE))
    with pytest.raises(torch.OutOfMemoryError):
        BatchGenerator(decoder, cache_tokens=10**9, end_ids=())


def test_answers_keep_to_the_cap_with_whatever_cache_there_is_room_for():
    """A plan that is far too large; the cap holds, and every prompt is answered."""
    model = some_model("llama").to(DEVICE)
    generator = LocalGenerator(model, Encoder(LetterTokenizer()), model_id="tiny", cache_tokens=10**8)
    prompts = [[Message("user", "いろはにほへと" * (20 + i % 50))] for i in range(3000)]
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.empty_cache()
    room = torch.cuda.memory_reserved() + 600 * 2**20
    torch.cuda.set_per_process_memory_fraction(room / total)
    torch.cuda.reset_peak_memory_stats()
    try:
        found = dict(generator.generate(prompts, GenerationConfig(max_new_tokens=20)))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert len(found) == len(prompts)
    assert not [completion.error for completion in found.values() if completion.error]
    assert torch.cuda.max_memory_reserved() <= room
