"""How many tokens a text will be, before the service counts them: a rule, corrected by what it counts."""

import threading
from collections.abc import Sequence

from tenbin.types import Message

ASCII_CHARS_PER_TOKEN = 4.0
"""English prose and code; the sellers' own rule of thumb."""
OTHER_TOKENS_PER_CHAR = 1.1
"""Kana and kanji. Between 0.8 (newer tokenizers) and 1.4 (older ones)."""
TOKENS_PER_MESSAGE = 4
"""Marks around a chat message."""
TOKENS_PER_PROMPT = 3
"""Marks that open the answer."""
RULE = (
    f"one token for {ASCII_CHARS_PER_TOKEN:g} ASCII characters, {OTHER_TOKENS_PER_CHAR:g} for every other "
    f"character, {TOKENS_PER_MESSAGE} for each message and {TOKENS_PER_PROMPT} for each prompt"
)
LEAST_MEASURED = 200
"""Tokens of the rule that must have been counted before the correction counts fully."""


def ruled_text_tokens(text: str) -> float:
    """Tokens of a text alone by RULE."""
    ascii_chars = sum(1 for c in text if c.isascii())
    return ascii_chars / ASCII_CHARS_PER_TOKEN + (len(text) - ascii_chars) * OTHER_TOKENS_PER_CHAR


def ruled_tokens(messages: Sequence[Message]) -> float:
    """Tokens of a prompt by RULE.

    >>> round(ruled_tokens([Message("user", "日本の首都は")]), 1)
    13.6
    """
    texts = sum(ruled_text_tokens(message.content) for message in messages)
    return TOKENS_PER_PROMPT + TOKENS_PER_MESSAGE * len(messages) + texts


def most_tokens(messages: Sequence[Message]) -> int:
    """More tokens than a prompt can have: every token of a byte-level tokenizer holds at least one byte."""
    texts = sum(len(m.content.encode("utf-8", "surrogatepass")) for m in messages)
    # Marks are counted four times over: services put names of roles and dates in of their own.
    return texts + 4 * (TOKENS_PER_PROMPT + TOKENS_PER_MESSAGE * len(messages)) + 16


class TokenEstimate:
    """The rule times what the service counted over what the rule said; safe to use from several threads."""

    def __init__(self) -> None:
        self._ruled = 0.0
        self._counted = 0.0
        self._lock = threading.Lock()

    def learn(self, ruled: float, counted: int) -> None:
        """Take one prompt in that the service has counted."""
        with self._lock:
            self._ruled += ruled
            self._counted += counted

    @property
    def factor(self) -> float:
        """What the rule is multiplied by: 1 at first, the measured ratio once enough was counted."""
        with self._lock:
            unmeasured = max(0.0, LEAST_MEASURED - self._ruled)
            return (self._counted + unmeasured) / (self._ruled + unmeasured)

    @property
    def rule(self) -> str:
        """The rule in words, with its correction."""
        factor = self.factor
        return RULE if factor == 1.0 else f"{RULE}, times {factor:.2f} as the service has counted so far"

    def tokens(self, ruled: float) -> int:
        """Tokens that a prompt will have, from those by the rule."""
        return round(ruled * self.factor)
