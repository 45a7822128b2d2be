"""Text becomes token ids here and nowhere else; prompt and answer are encoded so that they cannot shift.

The trap: a tokenizer that reads prompt and answer as one text may join characters across the boundary,
and one that reads the answer alone may put a space mark before it (Llama-2: `▁positive`). Then training
teaches tokens that generation never meets, or a search for `### Response:` finds nothing. So the prompt is
encoded exactly as generation encodes it, and the answer is encoded as a continuation, behind a sentinel
that is cut off again. Spaces at the end of a prompt belong to the answer, as in running text.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tenbin.errors import ModelError, Problem
from tenbin.tasks.base import Task
from tenbin.types import Example, Message

SENTINELS = ("\n", "。", "x", "答")
"""Texts a continuation can follow. The first one that no token of the continuation joins is used."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """One example as token ids."""

    prompt_ids: tuple[int, ...]
    target_ids: tuple[int, ...]
    """The answer, the template's suffix and the end-of-sequence token."""
    group: str | None = None
    """Of the example: questions about one passage have the same."""

    def __len__(self) -> int:
        return len(self.prompt_ids) + len(self.target_ids)


class Encoder:
    """Turns messages and answers into token ids and back, for one tokenizer."""

    def __init__(self, tokenizer: Any, *, chat: bool = False) -> None:  # noqa: ANN401
        self.tokenizer = tokenizer
        self.chat = chat
        if tokenizer.eos_token_id is None:
            raise ModelError(
                Problem(
                    where=str(tokenizer.name_or_path),
                    found="the tokenizer has no end-of-sequence token",
                    remedy="set eos_token in tokenizer_config.json: answers could never end",
                )
            )
        if chat and not tokenizer.chat_template:
            raise ModelError(
                Problem(
                    where=str(tokenizer.name_or_path),
                    field="prompt.chat",
                    found="the tokenizer has no chat template",
                    remedy="set chat = false",
                )
            )
        self.eos_id: int = tokenizer.eos_token_id
        self._sentinel: tuple[tuple[int, ...], int] | None = None
        """Ids that answers are decoded behind, and the characters that they show."""

    def prompt(self, messages: Sequence[Message]) -> tuple[tuple[int, ...], str]:
        """Ids of a prompt, and the spaces at its end, which belong to the answer."""
        return self.prompts([messages])[0]

    def prompts(self, asked: Sequence[Sequence[Message]]) -> list[tuple[tuple[int, ...], str]]:
        """`prompt` of each: one call of the tokenizer for all of them costs less than one for each."""
        if not asked:
            return []
        if self.chat:
            texts = [
                self.tokenizer.apply_chat_template(
                    [{"role": m.role, "content": m.content} for m in messages],
                    tokenize=False,
                    add_generation_prompt=True,
                )
                for messages in asked
            ]
            return [(ids, "") for ids in self._all_ids(texts, special=False)]
        whole = ["".join(message.content for message in messages) for messages in asked]
        bare = [text.rstrip(" ") for text in whole]
        found = []
        for text, kept, ids in zip(whole, bare, self._all_ids(bare, special=True), strict=True):
            # Some tokenizers close what they read with an end-of-sequence token: a prompt stays open.
            while ids and ids[-1] == self.eos_id:
                ids = ids[:-1]
            found.append((ids, text[len(kept) :]))
        return found

    def continuation(self, text: str) -> tuple[int, ...]:
        """Ids of a text that follows another one: no space mark is added, nothing is joined.

        Raises:
            ModelError: where the tokenizer joins the text to every sentinel.
        """
        if not text:
            return ()
        for sentinel in SENTINELS:
            before = self._ids(sentinel, special=False)
            whole = self._ids(sentinel + text, special=False)
            if whole[: len(before)] == before:
                return whole[len(before) :]
        raise ModelError(
            Problem(
                where=str(self.tokenizer.name_or_path),
                found=f"cannot encode {text[:40]!r} as a continuation",
                remedy="start the answer with another character",
            )
        )

    def text(self, ids: Sequence[int]) -> str:
        """Text of generated ids, as it continues the prompt (a leading space is kept)."""
        if self._sentinel is None:
            before = self._ids(SENTINELS[0], special=False)
            self._sentinel = before, len(self.tokenizer.decode(list(before), skip_special_tokens=True))
        before, length = self._sentinel
        whole = self.tokenizer.decode([*before, *ids], skip_special_tokens=True)
        return str(whole[length:])

    def example(self, task: Task, example: Example) -> Encoded:
        """Prompt and target of one training example."""
        prompt_ids, lead = self.prompt(task.prompt(example))
        target_ids = (*self.continuation(lead + task.target(example)), self.eos_id)
        return Encoded(prompt_ids, target_ids, group=example.group)

    def fit(self, task: Task, example: Example, max_tokens: int, *, target: bool) -> tuple[Example, int]:
        """The example with the end of its longest input cut, so that it has at most `max_tokens`.

        Args:
            target: whether the target counts (training) or only the prompt (evaluation).

        Returns:
            the example and the number of characters that were cut (0 where it fits).

        Raises:
            ModelError: where even the empty input does not fit.
        """

        def num_tokens(candidate: Example) -> int:
            if target:
                return len(self.example(task, candidate))
            return len(self.prompt(task.prompt(candidate))[0])

        if num_tokens(example) <= max_tokens:
            return example, 0
        name = max(example.inputs, key=lambda field: len(example.inputs[field]))
        text = example.inputs[name]

        def cut(length: int) -> Example:
            inputs: Mapping[str, str] = {**example.inputs, name: text[:length]}
            return replace(example, inputs=inputs)

        low, high = 0, len(text)  # cut(low) fits, cut(high) does not
        if num_tokens(cut(0)) > max_tokens:
            raise ModelError(
                Problem(
                    where=example.source or example.id,
                    found=f"does not fit {max_tokens} tokens even without its {name}",
                    remedy="allow a larger max_length",
                )
            )
        while high - low > 1:
            middle = (low + high) // 2
            if num_tokens(cut(middle)) <= max_tokens:
                low = middle
            else:
                high = middle
        return cut(low), len(text) - low

    def count(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text alone, without the tokens that begin or end a sequence."""
        if not texts:
            return []
        return [len(ids) for ids in self.tokenizer(list(texts), add_special_tokens=False)["input_ids"]]

    def _ids(self, text: str, *, special: bool) -> tuple[int, ...]:
        return self._all_ids([text], special=special)[0]

    def _all_ids(self, texts: Sequence[str], *, special: bool) -> list[tuple[int, ...]]:
        return [tuple(ids) for ids in self.tokenizer(list(texts), add_special_tokens=special)["input_ids"]]
