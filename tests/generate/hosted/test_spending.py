import threading

from tenbin.config_hosted import Money
from tenbin.generate.hosted.prices import read_prices
from tenbin.generate.hosted.purses import Purses
from tenbin.generate.hosted.spending import Spending

PRICES = read_prices()


def test_a_purse_is_never_opened_further_than_its_limit():
    purse = Spending(Money(1.0, "USD"), PRICES)
    assert purse.reserve(0.6)
    assert not purse.reserve(0.6)
    purse.settle("a", 0.6, 0.1)
    assert purse.reserve(0.6)
    assert purse.spent_usd == 0.1


def test_a_limit_in_yen():
    purse = Spending(Money(150, "JPY"), PRICES)
    assert purse.limit_usd == 150 / PRICES.file.yen.per_dollar
    assert not purse.reserve(purse.limit_usd * 1.01)
    assert purse.reserve(purse.limit_usd)


def test_without_a_limit_it_only_counts():
    purse = Spending(None, PRICES)
    assert purse.reserve(1e9)
    purse.settle("a", 1e9, 5.0)
    assert purse.spent_usd == 5.0


def test_what_earlier_processes_spent_counts_once():
    purse = Spending(Money(1.0, "USD"), PRICES)
    purse.begin("a", 0.4)
    purse.begin("b", 0.5)
    purse.begin("a", 0.4)
    assert purse.spent_usd == 0.9
    assert not purse.reserve(0.2)


def test_many_threads_do_not_pass_the_limit():
    purse, taken = Spending(Money(1.0, "USD"), PRICES), []

    def spend():
        for _ in range(300):
            if purse.reserve(0.01):
                taken.append(0.01)
                purse.settle("a", 0.01, 0.01)

    threads = [threading.Thread(target=spend) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) in (99, 100)  # sums of floats
    assert purse.spent_usd <= 1.0


def test_a_call_must_fit_every_purse_and_one_that_does_not_leaves_the_others_closed():
    wide, narrow = Spending(Money(10, "USD"), PRICES), Spending(Money(1, "USD"), PRICES)
    purses = Purses(account="a", price=None, spendings=[wide, narrow])
    assert purses.reserve(2.0) is narrow
    assert wide.reserve(10.0)
