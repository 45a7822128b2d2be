"""How probable a local model finds given answers: each prompt computed once, its answers as branches of it.

A prompt is laid down once, all but its last token as the prefix that its answers share, each behind that last
token; many such go through the model as one pack, without a cache. The sum over an answer's tokens of
log P(token | prompt, tokens before it) is the logarithm of the probability of the answer, in nats. Nothing is
added after the answer: what is measured is that the completion begins with it, not that it ends there.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from tenbin.decoder.decoder import Decoder
from tenbin.decoder.layout import Layout
from tenbin.decoder.linear import Routing
from tenbin.decoder.pack import PackedBatch, join
from tenbin.decoder.shortage import is_shortage
from tenbin.models.encode import Encoder
from tenbin.types import AnswerLikelihood, Message


@dataclass(frozen=True, slots=True)
class _Branch:
    """One answer of a prompt."""

    index: int
    answer_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Question:
    """One prompt with some of the answers that were asked about it."""

    prompt_ids: tuple[int, ...]
    branches: tuple[_Branch, ...]

    @property
    def num_tokens(self) -> int:
        """Laid down for it, where the prompt is shared."""
        return len(self.prompt_ids) + sum(len(branch.answer_ids) for branch in self.branches)

    def halves(self) -> "list[_Question]":
        """The same in two."""
        middle = len(self.branches) // 2
        return [_Question(self.prompt_ids, part) for part in (self.branches[:middle], self.branches[middle:])]


def answer_likelihoods(
    decoder: Decoder,
    adapter: str | None,
    encoder: Encoder,
    pairs: Sequence[tuple[Sequence[Message], str]],
    *,
    most_answers: int,
    most_tokens: int,
    max_positions: int | None,
) -> Iterator[tuple[int, AnswerLikelihood]]:
    """Yield (index of the pair, its likelihood), pairs with the same prompt together.

    Args:
        adapter: in use by the decoder; None: the model as it is.
        most_answers: computed at once.
        most_tokens: computed at once, though one prompt with one answer always is.
        max_positions: longest prompt with its answer; a longer one has an error and no number.
    """
    prompts: dict[tuple[int, ...], list[_Branch]] = {}
    for index, (messages, answer) in enumerate(pairs):
        prompt_ids, lead = encoder.prompt(messages)
        answer_ids = encoder.continuation(lead + answer)
        error = _cannot(prompt_ids, answer_ids, max_positions)
        if error or not answer_ids:
            yield index, _result(prompt_ids, answer_ids, None if error else 0.0, error)
        else:
            prompts.setdefault(prompt_ids, []).append(_Branch(index, answer_ids))
    waiting = [
        part
        for prompt_ids, branches in sorted(prompts.items(), key=lambda item: -len(item[0]))
        for part in _parts(prompt_ids, branches, most_answers, most_tokens)
    ]
    waiting.reverse()
    while waiting:
        chosen = _take(waiting, most_answers, most_tokens)
        try:
            found = _compute(decoder, adapter, chosen)
        except RuntimeError as raised:
            if not is_shortage(raised):
                raise
            found = None
        if found is not None:
            yield from found
        elif len(chosen) > 1:
            most_tokens = sum(question.num_tokens for question in chosen) // 2
            waiting += reversed(chosen)
        elif len(chosen[0].branches) > 1:
            waiting += chosen[0].halves()
        else:
            prompt_ids, (branch,) = chosen[0].prompt_ids, chosen[0].branches
            error = f"prompt ({len(prompt_ids)} tokens) and answer need more memory than there is"
            yield branch.index, _result(prompt_ids, branch.answer_ids, None, error)


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


def _parts(
    prompt_ids: tuple[int, ...], branches: Sequence[_Branch], most_answers: int, most_tokens: int
) -> list[_Question]:
    """The answers of one prompt, so many together that neither they nor their tokens are too many."""
    parts: list[list[_Branch]] = []
    room = 0
    for branch in branches:
        if not parts or len(parts[-1]) == most_answers or len(branch.answer_ids) > room:
            parts.append([])
            room = most_tokens - len(prompt_ids)
        parts[-1].append(branch)
        room -= len(branch.answer_ids)
    return [_Question(prompt_ids, tuple(part)) for part in parts]


def _take(waiting: list[_Question], most_answers: int, most_tokens: int) -> list[_Question]:
    """The next questions that make one pack, taken from the end."""
    chosen = [waiting.pop()]
    answers, tokens = len(chosen[0].branches), chosen[0].num_tokens
    while waiting:
        answers += len(waiting[-1].branches)
        tokens += waiting[-1].num_tokens
        if answers > most_answers or tokens > most_tokens:
            break
        chosen.append(waiting.pop())
    return chosen


def _compute(
    decoder: Decoder, adapter: str | None, questions: Sequence[_Question]
) -> list[tuple[int, AnswerLikelihood]]:
    """One pack."""
    windows = [block.window for block in decoder.blocks if block.window is not None]
    batch, _ = join([_laid_down(question, min(windows, default=None)) for question in questions])
    span = (0, batch.num_tokens)
    routing = Routing((), ()) if adapter is None else Routing((adapter,), (span,))
    losses = decoder.losses(batch.to(decoder.device), routing).double().cpu()
    asked = [(question, branch) for question in questions for branch in question.branches]
    parts = torch.split(losses, [len(branch.answer_ids) for _, branch in asked])
    return [
        (branch.index, _result(question.prompt_ids, branch.answer_ids, -float(part.sum())))
        for (question, branch), part in zip(asked, parts, strict=True)
    ]


def _laid_down(question: _Question, window: int | None) -> PackedBatch:
    """The tokens of a question, every answer's but its last, which is only predicted, never read."""
    prompt, branches = question.prompt_ids, question.branches
    longest = len(prompt) + max(len(branch.answer_ids) for branch in branches) - 1
    share = len(branches) > 1 and len(prompt) > 1 and (window is None or longest <= window)
    ids = list(prompt[:-1]) if share else []
    offsets = [0, len(ids)] if share else [0]
    predicts: list[int] = []
    labels: list[int] = []
    for branch in branches:
        ids += (*(prompt[-1:] if share else prompt), *branch.answer_ids[:-1])
        offsets.append(len(ids))
        predicts += range(len(ids) - len(branch.answer_ids), len(ids))
        labels += branch.answer_ids
    layout = Layout(tuple(offsets), (len(branches),) if share else ())
    return PackedBatch.of(ids, layout, predicts, labels)
