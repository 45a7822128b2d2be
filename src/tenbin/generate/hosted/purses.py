"""Purses: the limits on money that a model's calls must keep, all at once, and what each call costs."""

from collections.abc import Sequence
from dataclasses import dataclass

from tenbin.generate.hosted.answers import Answer, AnswerStore, Billed
from tenbin.generate.hosted.prices import Price
from tenbin.generate.hosted.spending import Spending


@dataclass(frozen=True, slots=True, kw_only=True)
class Purses:
    """The model's own limit and the study's; without a price every call costs nothing that is known."""

    account: str
    """Names the model's store in each purse."""
    price: Price | None
    spendings: Sequence[Spending]

    def usd(self, answer: Answer) -> float:
        """Dollars of an answer."""
        if self.price is None:
            return 0.0
        return self.price.usd(answer.input_tokens, answer.cached_input_tokens, answer.output_tokens)

    def most_usd(self, most: Billed) -> float:
        """Dollars of a call at most."""
        return 0.0 if self.price is None else self.price.most_usd(most.input_tokens, most.output_tokens)

    def begin(self, store: AnswerStore) -> None:
        """Book what the store holds: answers, and calls that may have been billed without one."""
        usd = sum(self.usd(a) for a in store.answers.values()) + sum(self.most_usd(b) for b in store.lost)
        for spending in self.spendings:
            spending.begin(self.account, usd)

    def reserve(self, usd: float) -> Spending | None:
        """Set money aside in every purse; the first purse that is too empty, and then none is opened."""
        opened: list[Spending] = []
        for spending in self.spendings:
            if not spending.reserve(usd):
                for other in opened:
                    other.settle(self.account, usd, 0.0)
                return spending
            opened.append(spending)
        return None

    def settle(self, reserved: float, paid: float) -> None:
        """Give a reservation back and book what was paid."""
        for spending in self.spendings:
            spending.settle(self.account, reserved, paid)
