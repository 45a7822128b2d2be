import pytest

from tenbin.config_hosted import Money
from tenbin.errors import ConfigError
from tenbin.generate.hosted.prices import read_prices, shipped_prices

OWN = """
[yen]
per_dollar = 160
date = 2026-01-05
source = "our bank"
checked = true

[[price]]
model = "m"
input = 2.0
cached_input = 0.5
output = 8.0
date = 2026-01-05
source = "our contract"
checked = true
"""


def own(tmp_path, text=OWN):
    path = tmp_path / "prices.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_what_answers_cost(tmp_path):
    prices = read_prices(own(tmp_path))
    price = prices.find("m")
    assert price.usd(1_000_000, 0, 0) == 2.0
    assert price.usd(1_000_000, 250_000, 125_000) == pytest.approx(0.75 * 2 + 0.25 * 0.5 + 0.125 * 8)
    assert price.most_usd(1000, 10) == price.usd(1000, 0, 10)
    cost = prices.cost(0.5)
    assert (cost.usd, cost.yen) == (0.5, 80.0)
    assert str(cost) == "$0.5000 (80.0 yen)"
    assert prices.usd(Money(320, "JPY")) == 2.0
    assert prices.usd(Money(3, "USD")) == 3.0


def test_a_cache_that_costs_more_than_reading_counts_as_the_dearest(tmp_path):
    price = read_prices(own(tmp_path, OWN.replace("cached_input = 0.5", "cached_input = 3.0"))).find("m")
    assert price.most_usd(1000, 0) == price.usd(1000, 1000, 0)


def test_a_model_without_a_price_has_none(tmp_path):
    assert read_prices(own(tmp_path)).find("other") is None
    assert read_prices(own(tmp_path, OWN.replace("cached_input = 0.5\n", ""))).find("m").usd(
        1_000_000, 1_000_000, 0
    ) == pytest.approx(2.0)


def test_the_note_says_who_checked(tmp_path):
    prices = read_prices(own(tmp_path))
    assert prices.note(prices.find("m")) == (
        "m: $2 in, $8 out per million tokens (our contract, 2026-01-05); "
        "160 yen a dollar (our bank, 2026-01-05)"
    )
    for changed in (OWN.replace("checked = true", "checked = false", 1), shipped_prices()):
        prices = read_prices(own(tmp_path, changed))
        assert "an example nobody checked" in prices.note(prices.file.price[0])


def test_every_shipped_price_is_marked_as_an_example():
    prices = read_prices()
    assert len(prices.file.price) >= 4
    assert not any(price.checked for price in prices.file.price)
    assert not prices.file.yen.checked


def test_every_mistake_of_a_price_file_is_named(tmp_path):
    text = OWN.replace("output = 8.0", "outputs = 8.0").replace("per_dollar = 160", 'per_dollar = "160"')
    with pytest.raises(ConfigError) as caught:
        read_prices(own(tmp_path, text))
    assert {p.where for p in caught.value.problems} == {
        "prices.toml: price[0].output",
        "prices.toml: price[0].outputs",
        "prices.toml: yen.per_dollar",
    }
    assert "did you mean `output`?" in str(caught.value)


def test_a_date_in_quotes_is_a_date(tmp_path):
    text = OWN.replace("date = 2026-01-05", 'date = "2026-01-05"')
    assert read_prices(own(tmp_path, text)).file == read_prices(own(tmp_path)).file
    with pytest.raises(ConfigError, match=r"yen\.date"):
        read_prices(own(tmp_path, text.replace("2026-01-05", "2026-13-05", 1)))


def test_two_prices_no_file_and_no_toml_are_errors(tmp_path):
    with pytest.raises(ConfigError, match="m: two prices"):
        read_prices(own(tmp_path, OWN + OWN[OWN.index("[[price]]") :]))
    with pytest.raises(ConfigError, match="not TOML"):
        read_prices(own(tmp_path, "yen = "))
    with pytest.raises(ConfigError, match="No such file"):
        read_prices(tmp_path / "none.toml")


def test_the_command_prints_the_file_that_is_read(tmp_path):
    from typer.testing import CliRunner

    from tenbin.cli import app

    result = CliRunner().invoke(app, ["prices"])
    assert result.exit_code == 0
    assert read_prices(own(tmp_path, result.stdout)).file == read_prices().file
