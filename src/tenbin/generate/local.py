"""LocalGenerator: greedy decoding and likelihoods with a model in memory: KV cache, early stop."""

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import DynamicCache

from tenbin.errors import ModelError, Problem
from tenbin.generate import local_likelihood
from tenbin.generate.padding import left_pad
from tenbin.generate.stopping import first_stop
from tenbin.models.encode import Encoder
from tenbin.types import AnswerLikelihood, Completion, GenerationConfig, Message


@dataclass(slots=True)
class _Row:
    """One prompt while it is being decoded."""

    index: int
    prompt_ids: tuple[int, ...]
    new_ids: list[int] = field(default_factory=list)


class LocalGenerator:
    """Decodes greedily with a base model and whichever adapter is active on it.

    Prompts are sorted by length and padded on the left; a row leaves the batch as soon as it ends, so
    that the others do not wait for it.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        encoder: Encoder,
        *,
        model_id: str,
        batch_size: int,
        batch_tokens: int,
        max_positions: int | None = None,
    ) -> None:
        self.model = model
        self.encoder = encoder
        self._model_id = model_id
        self.batch_size = batch_size
        self.batch_tokens = batch_tokens
        self.max_positions = max_positions
        self.config: Any = model.config
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
        rows = []
        for index, messages in enumerate(prompts):
            ids, _ = self.encoder.prompt(messages)
            if self.max_positions is not None and len(ids) + config.max_new_tokens > self.max_positions:
                yield index, _too_long(len(ids), config.max_new_tokens, self.max_positions)
            else:
                rows.append(_Row(index, ids))
        rows.sort(key=lambda row: (-len(row.prompt_ids), row.index))
        for batch in self._batches(rows):
            try:
                yield from self._decode(batch, config)
            except torch.OutOfMemoryError:
                if len(batch) > 1:  # the plan's sizes do not hold: that is no property of one prompt
                    raise
                yield batch[0].index, _no_memory(len(batch[0].prompt_ids))

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
        return local_likelihood.answer_likelihoods(
            self.model,
            self.encoder,
            pairs,
            batch_size=self.batch_size,
            batch_tokens=self.batch_tokens,
            max_positions=self.max_positions,
        )

    def _batches(self, rows: Sequence[_Row]) -> Iterator[list[_Row]]:
        start = 0
        while start < len(rows):
            longest = len(rows[start].prompt_ids)
            count = max(1, min(self.batch_size, self.batch_tokens // max(1, longest)))
            yield list(rows[start : start + count])
            start += count

    @torch.inference_mode()
    def _decode(self, rows: list[_Row], config: GenerationConfig) -> Iterator[tuple[int, Completion]]:
        started = time.perf_counter()
        device = next(self.model.parameters()).device
        ids, mask = left_pad([row.prompt_ids for row in rows], self.encoder.eos_id, device)
        cache = DynamicCache(config=self.config)
        positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
        while rows:
            following = self._next_ids(ids, mask, positions, cache)
            kept = []
            for i, (row, token) in enumerate(zip(rows, following, strict=True)):
                if token not in self.end_ids:
                    row.new_ids.append(token)
                ended = self._ended(row, token, config)
                if ended is None:
                    kept.append(i)
                else:
                    yield row.index, self._completion(row, ended, config, time.perf_counter() - started)
            if not kept:
                return
            if len(kept) < len(rows):
                choice = torch.tensor(kept, device=device)
                cache.batch_select_indices(choice)
                mask, positions = mask[choice], positions[choice]
                rows = [rows[i] for i in kept]
            ids = torch.tensor([[row.new_ids[-1]] for row in rows], device=device)
            mask = torch.cat([mask, mask.new_ones(len(rows), 1)], dim=1)
            positions = positions[:, -1:] + 1

    def _next_ids(self, ids: Tensor, mask: Tensor, positions: Tensor, cache: DynamicCache) -> list[int]:
        """ids (B, T) -> the most likely next token of each row. Only the last position meets the head."""
        decoder: Any = self.model.base_model
        hidden = decoder(
            input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True
        ).last_hidden_state[:, -1]  # (B, D)
        head: Any = self.model.get_output_embeddings()  # type: ignore[operator]
        found: list[int] = head(hidden).argmax(dim=-1).tolist()
        return found

    def _ended(self, row: _Row, token: int, config: GenerationConfig) -> Literal["stop", "length"] | None:
        if token in self.end_ids:
            return "stop"
        if config.stop and first_stop(self.encoder.text(row.new_ids), config.stop) is not None:
            return "stop"
        return "length" if len(row.new_ids) >= config.max_new_tokens else None

    def _completion(
        self, row: _Row, reason: Literal["stop", "length"], config: GenerationConfig, seconds: float
    ) -> Completion:
        text = self.encoder.text(row.new_ids)
        end = first_stop(text, config.stop)
        return Completion(
            text=text if end is None else text[:end],
            stop_reason=reason,
            input_tokens=len(row.prompt_ids),
            output_tokens=len(row.new_ids),
            latency_s=seconds,
        )


def _no_memory(num_tokens: int) -> Completion:
    return Completion(
        text="",
        stop_reason="error",
        input_tokens=num_tokens,
        output_tokens=0,
        error=f"prompt ({num_tokens} tokens) needs more memory than there is, or than the cap allows",
    )


def _too_long(num_tokens: int, num_new: int, limit: int) -> Completion:
    return Completion(
        text="",
        stop_reason="error",
        input_tokens=num_tokens,
        output_tokens=0,
        error=f"prompt ({num_tokens} tokens) and answer ({num_new}) pass the model's {limit} positions",
    )
