"""Prices: what a million tokens of each model cost, from a file that users edit, and what answers cost."""

import datetime
import tomllib
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from pydantic import Field, ValidationError

from tenbin.config_hosted import Money
from tenbin.config_problems import config_problems
from tenbin.config_section import Section
from tenbin.errors import ConfigError, Problem

MILLION = 1_000_000


class Price(Section):
    """[[price]]: one model, in US dollars per million tokens."""

    model: str = Field(min_length=1)
    input: float = Field(ge=0, allow_inf_nan=False)
    cached_input: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    """Prompt tokens that the service had read before; as `input` without it."""
    output: float = Field(ge=0, allow_inf_nan=False)
    date: datetime.date = Field(strict=False)
    """When it was read; a TOML date or the same in quotes."""
    source: str
    """Where it was read."""
    checked: bool
    """Whether a person compared it with the seller's list; false = an example."""

    def usd(self, input_tokens: int, cached_input_tokens: int, output_tokens: int) -> float:
        """Dollars: (uncached * input + cached * cached_input + output * output) / 1,000,000."""
        cached = self.input if self.cached_input is None else self.cached_input
        fresh = input_tokens - cached_input_tokens
        return (fresh * self.input + cached_input_tokens * cached + output_tokens * self.output) / MILLION

    def most_usd(self, input_tokens: int, output_tokens: int) -> float:
        """Dollars of a call at its dearest: nothing of the prompt is cached, or caching costs more."""
        return max(self.usd(input_tokens, cached, output_tokens) for cached in (0, input_tokens))


class Yen(Section):
    """[yen]: the rate of exchange."""

    per_dollar: float = Field(gt=0, allow_inf_nan=False)
    date: datetime.date = Field(strict=False)
    source: str
    checked: bool


class PriceFile(Section):
    """A whole price file."""

    yen: Yen
    price: list[Price] = Field(default=[])


@dataclass(frozen=True, slots=True)
class Cost:
    """What calls cost."""

    usd: float
    yen: float

    def __str__(self) -> str:
        return f"${self.usd:,.4f} ({self.yen:,.1f} yen)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """A price file that was read."""

    where: str
    """Names the file in messages."""
    file: PriceFile

    def find(self, model: str) -> Price | None:
        """The price of this model; None where the file has none."""
        return next((price for price in self.file.price if price.model == model), None)

    def cost(self, usd: float) -> Cost:
        """Dollars, and what they are in yen."""
        return Cost(usd, usd * self.file.yen.per_dollar)

    def usd(self, money: Money) -> float:
        """A sum in dollars."""
        return money.amount if money.currency == "USD" else money.amount / self.file.yen.per_dollar

    def note(self, price: Price) -> str:
        """Where the price and the rate come from, in one sentence, and whether anybody checked them."""
        yen = self.file.yen
        said = (
            f"{price.model}: ${price.input:g} in, ${price.output:g} out per million tokens "
            f"({price.source}, {price.date}); {yen.per_dollar:g} yen a dollar ({yen.source}, {yen.date})"
        )
        unchecked = not (price.checked and yen.checked)
        return f"{said}; an example nobody checked: see {self.where}" if unchecked else said


def shipped_prices() -> str:
    """The text of the price file that tenbin ships, for users to copy."""
    return files(__package__).joinpath("prices.toml").read_text(encoding="utf-8")


def read_prices(path: Path | None = None) -> Prices:
    """Read a price file; tenbin's own without a path.

    Raises:
        ConfigError: naming every key that is wrong.
    """
    where = path.name if path else "tenbin's prices.toml"
    try:
        text = path.read_text(encoding="utf-8-sig") if path else shipped_prices()
        raw = tomllib.loads(text)
    except OSError as error:
        remedy = "name a price file in budget.prices, or leave the key out"
        raise ConfigError(Problem(where=str(path), found=f"{error.strerror}", remedy=remedy)) from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        remedy = "mend the line; see https://toml.io"
        raise ConfigError(Problem(where=str(path), found=f"not TOML: {error}", remedy=remedy)) from None
    try:
        file = PriceFile.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(config_problems(error, PriceFile, where)) from None
    names = [price.model for price in file.price]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        found = f"{', '.join(twice)}: two prices"
        raise ConfigError(Problem(where=f"{where}: price", found=found, remedy="keep one price a model"))
    return Prices(where=where, file=file)
