"""How probable a local model finds given answers: each prompt computed once, its answers as branches of it.

The prompt goes through the model once and leaves its keys and values; every answer then continues from a
copy of them. The sum over an answer's tokens of log P(token | prompt, tokens before it) is the logarithm of
the probability of the answer, in nats. Nothing is added after the answer: what is measured is that the
completion begins with it, not that it ends there.
"""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from tenbin.generate.padding import left_pad, right_pad
from tenbin.models.encode import Encoder
from tenbin.types import AnswerLikelihood, Message

MAX_LOGITS = 1 << 26
"""Most logits at once: 256 MiB in float32."""


@dataclass(frozen=True, slots=True)
class _Branch:
    """One answer of a prompt."""

    index: int
    answer_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Question:
    """One prompt with every answer that was asked about it."""

    prompt_ids: tuple[int, ...]
    branches: list[_Branch]

    @property
    def longest(self) -> int:
        """Tokens of the prompt and its longest answer."""
        return len(self.prompt_ids) + max(len(branch.answer_ids) for branch in self.branches)


def answer_likelihoods(
    model: Any,  # noqa: ANN401  (a transformers model)
    encoder: Encoder,
    pairs: Sequence[tuple[Sequence[Message], str]],
    *,
    batch_size: int,
    batch_tokens: int,
    max_positions: int | None,
) -> Iterator[tuple[int, AnswerLikelihood]]:
    """Yield (index of the pair, its likelihood), pairs with the same prompt together.

    Args:
        batch_size: most answers computed at once.
        batch_tokens: most tokens of prompts, and of prompts with answers, computed at once.
        max_positions: longest prompt with its answer; a longer one has an error and no number.
    """
    questions: dict[tuple[int, ...], _Question] = {}
    for index, (messages, answer) in enumerate(pairs):
        prompt_ids, lead = encoder.prompt(messages)
        answer_ids = encoder.continuation(lead + answer)
        error = _cannot(prompt_ids, answer_ids, max_positions)
        if error or not answer_ids:
            yield index, _result(prompt_ids, answer_ids, None if error else 0.0, error)
            continue
        question = questions.setdefault(prompt_ids, _Question(prompt_ids, []))
        question.branches.append(_Branch(index, answer_ids))
    ordered = sorted(questions.values(), key=lambda question: -question.longest)
    for batch in _batches(ordered, batch_size, batch_tokens):
        yield from _compute(model, encoder.eos_id, batch, batch_size, batch_tokens)


def _cannot(prompt: Sequence[int], answer: Sequence[int], limit: int | None) -> str | None:
    """Why the likelihood of this answer cannot be had; None where it can."""
    if not prompt:
        return "the prompt has no token: the first token of an answer has nothing to follow"
    if limit is not None and len(prompt) + len(answer) > limit:
        return f"prompt ({len(prompt)} tokens) and answer ({len(answer)}) pass the model's {limit} positions"
    return None


def _result(
    prompt: Sequence[int], answer: Sequence[int], nats: float | None, error: str | None = None
) -> AnswerLikelihood:
    return AnswerLikelihood(nats=nats, num_tokens=len(answer), prompt_tokens=len(prompt), error=error)


def _batches(questions: Sequence[_Question], batch_size: int, batch_tokens: int) -> Iterator[list[_Question]]:
    """Questions, longest first, so many together that neither their answers nor their tokens are too many."""
    batch: list[_Question] = []
    for question in questions:
        num_branches = sum(len(q.branches) for q in batch) + len(question.branches)
        if batch and (num_branches > batch_size or num_branches * batch[0].longest > batch_tokens):
            yield batch
            batch = []
        batch.append(question)
    if batch:
        yield batch


@torch.inference_mode()
def _compute(
    model: Any,  # noqa: ANN401
    pad: int,
    questions: Sequence[_Question],
    batch_size: int,
    batch_tokens: int,
) -> Iterator[tuple[int, AnswerLikelihood]]:
    device = next(model.parameters()).device
    ids, mask = left_pad([question.prompt_ids for question in questions], pad, device)
    cache = DynamicCache(config=model.config)
    positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
    hidden = _hidden(model, ids, mask, positions, cache)[:, -1:]  # (Q, 1, D)
    rows = [(row, branch) for row, question in enumerate(questions) for branch in question.branches]
    rows.sort(key=lambda item: len(item[1].answer_ids))
    longest = max(question.longest for question in questions)
    size = max(1, min(batch_size, batch_tokens // longest))
    for start in range(0, len(rows), size):
        chosen = rows[start : start + size]
        which = torch.tensor([row for row, _ in chosen], device=device)
        answers, kept = right_pad([branch.answer_ids for _, branch in chosen], pad, device)  # (B, A)
        states = hidden[which]
        if answers.shape[1] > 1:  # the last token of an answer is only predicted, never read
            after = positions[which, -1:] + 1 + torch.arange(answers.shape[1] - 1, device=device)
            whole = torch.cat([mask[which], kept[:, :-1]], dim=1)
            following = _hidden(model, answers[:, :-1], whole, after, _branch_cache(cache, which))
            states = torch.cat([states, following], dim=1)  # (B, A, D)
        sums = _log_probabilities(model, states, answers, kept)
        for (row, branch), nats in zip(chosen, sums, strict=True):
            yield branch.index, _result(questions[row].prompt_ids, branch.answer_ids, nats)


def _hidden(
    model: Any,  # noqa: ANN401
    ids: Tensor,
    mask: Tensor,
    positions: Tensor,
    cache: DynamicCache,
) -> Tensor:
    """ids (B, T) -> the last hidden states (B, T, D); their keys and values go into the cache."""
    out: Tensor = model.base_model(
        input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True
    ).last_hidden_state
    return out


def _branch_cache(cache: DynamicCache, which: Tensor) -> DynamicCache:
    """A cache with row `which[i]` of this one as its row i; this one stays as it is."""
    branch = copy.copy(cache)
    branch.layers = [copy.copy(layer) for layer in cache.layers]  # tensors are replaced, never written to
    branch.batch_select_indices(which)
    return branch


def _log_probabilities(
    model: Any,  # noqa: ANN401
    hidden: Tensor,  # (B, A, D)
    targets: Tensor,  # (B, A)
    mask: Tensor,  # (B, A)
) -> list[float]:
    """Σ over A of log softmax(head(hidden))[target] where the mask is 1, in nats: B numbers."""
    head: Any = model.get_output_embeddings()
    cap = getattr(model.config, "final_logit_softcapping", None)
    rows, columns = mask.nonzero(as_tuple=True)
    states, wanted = hidden[rows, columns], targets[rows, columns]
    precise = torch.float64 if hidden.dtype == torch.float64 else torch.float32
    sums = torch.zeros(len(hidden), dtype=torch.float64, device=hidden.device)
    step = max(1, MAX_LOGITS // head.weight.shape[0])
    for start in range(0, len(states), step):
        part = slice(start, start + step)
        logits = head(states[part]).to(precise)  # (P, V)
        if cap is not None:
            logits = cap * torch.tanh(logits / cap)
        found = logits.gather(1, wanted[part, None])[:, 0] - logits.logsumexp(dim=1)
        sums.index_add_(0, rows[part], found.double())
    values: list[float] = sums.tolist()
    return values
