"""LocalGenerator: greedy answers and likelihoods of given ones, by a model in memory with its adapter."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache

import torch

from tenbin.decoder.decoder import Decoder
from tenbin.decoder.shortage import is_shortage
from tenbin.errors import ModelError, Problem
from tenbin.generate import local_likelihood
from tenbin.generate.batching import Answer, BatchGenerator, Request, most_shared
from tenbin.generate.room import cache_tokens_here
from tenbin.generate.schedule import slots_needed
from tenbin.generate.stopping import first_stop
from tenbin.memory_reading import CPU_PASS_TOKENS, GPU_PASS_TOKENS, MOST_ROWS
from tenbin.models.encode import Encoder
from tenbin.models.lora import lora_layers
from tenbin.types import AnswerLikelihood, Completion, GenerationConfig, Message

PART = "\N{REPLACEMENT CHARACTER}"
"""What a token shows that holds a part of a character."""


class LocalGenerator:
    """Decodes greedily with a base model and whichever adapter is active on it, many prompts at once."""

    def __init__(
        self,
        model: torch.nn.Module,
        encoder: Encoder,
        *,
        model_id: str,
        batch_size: int | None = None,
        batch_tokens: int | None = None,
        max_positions: int | None = None,
        decoder: Decoder | None = None,
        cache_tokens: int | None = None,
    ) -> None:
        """Take the model apart, where that was not done yet.

        Args:
            batch_size: most answers written at once; None: 512.
            batch_tokens: most prompt and answer tokens held at once, though one prompt always has room;
                None: what the memory allows.
            max_positions: longest prompt with its answer; a longer one has an error and no text.
            decoder: of this model, where there is one: its frozen weights may be in fewer bits.
            cache_tokens: what the plan says the memory allows; None: found out.

        Raises:
            ModelError: the model has a feature that tenbin does not compute.
        """
        self.model = model
        self.encoder = encoder
        self._model_id = model_id
        self.batch_size = batch_size
        self.batch_tokens = batch_tokens
        self.max_positions = max_positions
        self.decoder = Decoder(model) if decoder is None else decoder
        self.notes: list[str] = []
        """What was done with less memory than asked for, so far."""
        self._planned = cache_tokens
        listed = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
        others = listed if isinstance(listed, list) else [listed]
        self.end_ids = {encoder.eos_id, *(i for i in others if i is not None)}
        """Tokens that end an answer: the tokenizer's, and those of the model's generation config."""

    @property
    def model_id(self) -> str:
        """Name for tables."""
        return self._model_id

    def generate(
        self, prompts: Sequence[Sequence[Message]], config: GenerationConfig
    ) -> Iterator[tuple[int, Completion]]:
        """Decode every prompt; one longer than the model or the memory allows is an error, never cut."""
        assert config.temperature == 0, "only greedy decoding"
        adapter = self._adapter()
        requests, lengths = [], {}
        for index, (ids, _) in enumerate(self.encoder.prompts(prompts)):
            if self.max_positions is not None and len(ids) + config.max_new_tokens > self.max_positions:
                yield index, _too_long(len(ids), config.max_new_tokens, self.max_positions)
            else:
                requests.append(Request(index, ids, config.max_new_tokens, adapter))
                lengths[index] = len(ids)
        if not requests:
            return
        batch = self._batch(requests)
        try:
            for answer in batch.run(requests, self._stopped(config.stop)):
                yield answer.index, self._completion(answer, lengths[answer.index], config)
        finally:
            self.notes += batch.notes
            del batch
            if self._gpu:  # what comes next should not settle in the cache's place
                torch.cuda.empty_cache()

    def loglikelihood(self, pairs: Iterable[tuple[Sequence[Message], str]]) -> Iterator[float]:
        """Natural logarithm of the probability of each answer after its prompt, in nats, in order.

        Raises:
            ModelError: prompts that do not fit with their answers, all of them, before anything is given.
        """
        asked = list(pairs)
        found = dict(self.answer_likelihoods(asked))
        problems = [
            Problem(where=f"pair {index}", found=error, remedy="leave it out, or use a model with more room")
            for index in range(len(asked))
            if (error := found[index].error)
        ]
        if problems:
            raise ModelError(problems)
        for index in range(len(asked)):
            nats = found[index].nats
            assert nats is not None, f"pair {index} has neither a likelihood nor an error"
            yield nats

    def answer_likelihoods(
        self, pairs: Sequence[tuple[Sequence[Message], str]]
    ) -> Iterator[tuple[int, AnswerLikelihood]]:
        """Yield (index of the pair, likelihood of its answer) as they finish; prompts are computed once.

        An answer that does not fit the model has an error and no number. See `local_likelihood`.
        """
        usual = GPU_PASS_TOKENS if self._gpu else CPU_PASS_TOKENS
        return local_likelihood.answer_likelihoods(
            self.decoder,
            self._adapter(),
            self.encoder,
            pairs,
            most_answers=self.batch_size or MOST_ROWS,
            most_tokens=min(usual, self.batch_tokens or usual),
            max_positions=self.max_positions,
        )

    @property
    def _gpu(self) -> bool:
        return self.decoder.device.type == "cuda"

    def _adapter(self) -> str | None:
        """The model's active adapter, in use by the decoder with its weights as they are now."""
        active = {layer.active for _, layer in lora_layers(self.model)} - {None}
        assert len(active) <= 1, "one adapter is active at a time"
        if not active:
            if self.decoder.names:
                self.decoder.use(())
            return None
        (name,) = active
        if self.decoder.holds((str(name),)):
            self.decoder.refresh()
        else:
            self.decoder.use((str(name),))
        return str(name)

    def _batch(self, requests: Sequence[Request]) -> BatchGenerator:
        """With a cache as large as these requests need and the limits and the memory allow."""
        rooms = [len(request.ids) + request.max_new_tokens for request in requests]
        wanted = slots_needed(requests, most_shared(self.decoder))
        if self.batch_tokens is not None:
            wanted = min(wanted, max(self.batch_tokens, *rooms))
        pass_tokens = GPU_PASS_TOKENS if self._gpu else CPU_PASS_TOKENS
        most = cache_tokens_here(self.decoder, max(rooms), pass_tokens, planned=self._planned)
        num_tokens = min(wanted, most)
        while True:
            try:
                return BatchGenerator(
                    self.decoder,
                    cache_tokens=num_tokens,
                    end_ids=self.end_ids,
                    most_tokens=pass_tokens,
                    most_rows=self.batch_size or MOST_ROWS,
                )
            except RuntimeError as error:
                if num_tokens == 1 or not is_shortage(error):
                    raise
            num_tokens -= max(1, num_tokens // 4)
            self.notes.append(f"a cache of {num_tokens} tokens")
            torch.cuda.empty_cache()

    def _stopped(self, stop: Sequence[str]) -> Callable[[Sequence[int]], bool] | None:
        """Whether an answer's tokens hold a stop text; None: nothing stops but the end tokens."""
        if not stop:
            return None
        last = {text[-1] for text in stop}

        @cache
        def may_end(token: int) -> bool:
            """Whether the token can bring the last character of a stop text, or some bytes of it."""
            text = self.encoder.text([token])
            return PART in text or not last.isdisjoint(text) or " " in last

        def stopped(ids: Sequence[int]) -> bool:
            return may_end(ids[-1]) and first_stop(self.encoder.text(ids), stop) is not None

        return stopped

    def _completion(self, answer: Answer, num_tokens: int, config: GenerationConfig) -> Completion:
        text = self.encoder.text(answer.new_ids) if answer.new_ids else ""
        end = first_stop(text, config.stop)
        return Completion(
            text=text if end is None else text[:end],
            stop_reason=answer.reason,
            input_tokens=num_tokens,
            output_tokens=len(answer.new_ids),
            latency_s=answer.seconds,
            error=answer.error,
        )


def _too_long(num_tokens: int, num_new: int, limit: int) -> Completion:
    return Completion(
        text="",
        stop_reason="error",
        input_tokens=num_tokens,
        output_tokens=0,
        error=f"prompt ({num_tokens} tokens) and answer ({num_new}) pass the model's {limit} positions",
    )
