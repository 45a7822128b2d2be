import json
import random
import time
from itertools import pairwise

import pytest
from tests.generate.hosted.asked import CONFIG, ask, generator, hosted_model, lines, questions, right
from tests.generate.hosted.fault_server import Act, FaultServer, answered, error, faults, ok, status

from tenbin.config_hosted import Money
from tenbin.errors import CostError, ModelError
from tenbin.generate.hosted import Spending, open_hosted, read_prices
from tenbin.types import GenerationConfig, Message

PRICES = read_prices()
PRICE = PRICES.find("gpt-4o")


def always(seen, number):
    return answered(seen)


@pytest.mark.parametrize(
    ("act", "said", "advice"),
    [
        (error(401, "Incorrect API key", "invalid_api_key"), "HTTP 401 invalid_api_key", "check it"),
        (error(403, "no"), "HTTP 403", "the right to use"),
        (error(404, "no such model", "model_not_found"), "HTTP 404 model_not_found", "no such model"),
        (error(404, "none", "DeploymentNotFound"), "HTTP 404 DeploymentNotFound", "deployment"),
        (error(429, "You exceeded", "insufficient_quota"), "insufficient_quota", "no money left"),
        (error(400, "temperature", "unsupported_value"), "unsupported_value", "hosted.temperature"),
        (status(308, b"", [("Location", "http://127.0.0.1:9/")]), "HTTP 308", "redirect"),
    ],
    ids=["key", "right", "model", "deployment", "quota", "parameter", "redirect"],
)
def test_an_error_of_every_call_ends_the_run_after_one_call(tmp_path, act, said, advice):
    with FaultServer(lambda seen, number: act) as server:
        with pytest.raises(ModelError) as caught:
            ask(generator(server, tmp_path), questions(50))
        assert sum(server.asked.values()) == 1
    (problem,) = caught.value.problems
    assert problem.where == "model gpt-4o"
    assert said in problem.found
    assert advice in problem.remedy
    assert "what was answered is kept" in problem.remedy


def test_an_error_of_every_call_in_the_middle_keeps_what_was_answered(tmp_path):
    def script(seen, number):
        return error(401, "revoked") if sum(server.given.values()) >= 10 else answered(seen)

    with FaultServer(script) as server:
        found = {}
        iterator = generator(server, tmp_path).generate(questions(50), CONFIG)
        with pytest.raises(ModelError, match="HTTP 401"):
            found.update((index, completion.text) for index, completion in iterator)
        assert found
        assert found == {index: right(index) for index in found}
        kept = sum('"answer"' in line for line in lines(tmp_path))
        assert kept == len(found) == sum(server.given.values())
        server.script = always
        assert len(ask(generator(server, tmp_path), questions(50))) == 50
        assert sum(server.given.values()) == 50


def test_an_unknown_host_ends_the_run(tmp_path, monkeypatch):
    import socket

    def unknown(*args, **kwargs):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(ModelError, match=r"no host of that name: http://nowhere\.invalid/v1"):
        ask(generator("http://nowhere.invalid/v1", tmp_path), questions(3))


def test_a_server_that_is_not_there_ends_the_run_soon(tmp_path):
    with FaultServer(always) as server:
        port = server.port
    with pytest.raises(ModelError, match=f"no connection to http://127.0.0.1:{port}/v1, 2 times"):
        ask(generator(f"http://127.0.0.1:{port}/v1", tmp_path), questions(9))


def test_a_service_that_answers_nothing_any_more_ends_the_run(tmp_path):
    def script(seen, number):
        return answered(seen) if seen.prompt in ("問0", "問1") else error(500, "down")

    with FaultServer(script) as server:
        with pytest.raises(ModelError, match="5 questions one after the other got no answer") as caught:
            ask(generator(server, tmp_path, attempts=2, concurrency=1), questions(100))
        assert "HTTP 500: down" in str(caught.value)
        assert sum(server.asked.values()) == 2 + 5 * 2


def test_a_wait_that_is_too_long_ends_the_run_and_says_how_long(tmp_path):
    act = error(429, "tomorrow", headers=[("Retry-After", "7200")])
    with FaultServer(lambda seen, number: act) as server:
        with pytest.raises(ModelError, match="asks to wait 7200 s") as caught:
            ask(generator(server, tmp_path), questions(3))
        assert sum(server.asked.values()) == 1
    assert "longest_wait_s" in str(caught.value)


def test_everybody_waits_as_long_as_the_service_asks(tmp_path):
    def script(seen, number):
        if sum(server.asked.values()) == 3:
            return error(429, "slow down", headers=[("retry-after-ms", "700")])
        return Act((0.01, *answered(seen).pieces), whole=True)

    with FaultServer(script) as server:
        ask(generator(server, tmp_path, concurrency=2), questions(12))
    log = [json.loads(line) for line in lines(tmp_path)]
    (place,) = (n for n, line in enumerate(log) if line["kind"] == "failed")
    later = [line["time"] for line in log[place:] if line["kind"] == "call"]
    assert len(later) >= 9
    assert min(later) >= log[place]["time"] + 0.69


def test_the_pace_of_requests_is_kept(tmp_path):
    with FaultServer(always) as server:
        ask(generator(server, tmp_path, requests_per_minute=600), questions(11))
    times = [line["time"] for line in map(json.loads, lines(tmp_path)) if line["kind"] == "call"]
    assert len(times) == 11
    assert min(b - a for a, b in pairwise(times)) >= 0.095


def test_the_tokens_of_a_minute_are_kept_and_corrected(tmp_path):
    with FaultServer(lambda seen, number: ok("x", usage=(9, 1))) as server:
        made = generator(server, tmp_path, tokens_per_minute=60)
        ask(made, questions(3))
        pace = made.terms.pace
        assert sum(turn.tokens for turn in pace._turns) == 30
        assert pace.due_s(30) == 0.0
        assert pace.due_s(31) > 30.0


def costs(answers):
    return sum(PRICE.usd(a.input_tokens, a.cached_input_tokens, a.output_tokens) for a in answers)


def paid_server(output=8):
    """Answers that take all the tokens they may."""
    return FaultServer(lambda seen, number: Act((0.01, *ok("x" * 8, usage=(20, output)).pieces), whole=True))


@pytest.mark.parametrize("concurrency", [1, 8, 50])
def test_the_limit_is_never_passed_however_many_calls_are_in_flight(tmp_path, concurrency):
    one = PRICE.usd(20, 0, 8)
    with paid_server() as server:
        made = generator(server, tmp_path, max_cost=one * 10.5, concurrency=concurrency)
        with pytest.raises(CostError) as caught:
            ask(made, questions(100))
        given = sum(server.given.values())
        assert sum(server.asked.values()) == given
    assert 8 <= given <= 10  # the last ones could have cost more than they would have
    assert costs(made.terms.store.answers.values()) <= one * 10.5
    assert "max_cost" in str(caught.value)
    assert "what was answered is kept" in str(caught.value)


def test_the_limit_holds_while_calls_fail_and_cost_what_nobody_knows_before(tmp_path):
    """Answers of 1 to 8 tokens; a third of the calls fails, some of them perhaps billed."""

    def script(seen, number):
        chance = random.Random(f"{seen.prompt}:{number}")
        if chance.random() < 0.33:
            acts = faults(seen)
            return acts[chance.choice([name for name in acts if "stall" not in name])]
        return ok(f"答え: {seen.prompt}", usage=(20, chance.randint(1, 8)))

    limit = 60 * PRICE.usd(20, 0, 8)
    with FaultServer(script) as server:
        made = generator(server, tmp_path, max_cost=limit, concurrency=16)
        with pytest.raises(CostError):
            ask(made, questions(200))
        store, (purse,) = made.terms.store, made.terms.purses.spendings
        lost = sum(PRICE.most_usd(b.input_tokens, b.output_tokens) for b in store.lost)
        assert store.lost
        assert costs(store.answers.values()) + lost == pytest.approx(purse.spent_usd)
        assert limit * 0.9 < purse.spent_usd <= limit
        assert len(store.answers) == sum(server.given.values())
        again = generator(server, tmp_path, max_cost=limit)
        assert again.terms.purses.spendings[0].spent_usd == pytest.approx(purse.spent_usd)


def test_more_money_goes_on_where_it_stopped(tmp_path):
    one = PRICE.usd(20, 0, 8)
    with paid_server() as server:
        with pytest.raises(CostError):
            ask(generator(server, tmp_path, max_cost=one * 5.5), questions(12))
        assert len(ask(generator(server, tmp_path, max_cost=one * 40), questions(12))) == 12
        assert sum(server.asked.values()) == 12


def test_what_was_spent_before_counts(tmp_path):
    one = PRICE.usd(20, 0, 8)
    with paid_server() as server:
        ask(generator(server, tmp_path), questions(10))
        with pytest.raises(CostError):
            ask(generator(server, tmp_path, max_cost=one * 10.2), questions(11))
        assert sum(server.asked.values()) == 10


def test_calls_that_may_have_been_billed_count_against_the_limit(tmp_path):
    def script(seen, number):
        return Act((), cut=True) if number < 3 else answered(seen)

    with FaultServer(script) as server:
        made = generator(server, tmp_path, concurrency=1)
        ask(made, questions(1))
        usage = made.usage()
        most = PRICE.most_usd(
            *(getattr(made.terms.store.lost[0], k) for k in ("input_tokens", "output_tokens"))
        )
        assert usage.num_lost == 3
        assert usage.lost_cost.usd == pytest.approx(3 * most)
        again = generator(server, tmp_path, max_cost=usage.cost.usd + usage.lost_cost.usd + most * 0.9)
        with pytest.raises(CostError):
            ask(again, questions(2))
        assert sum(server.asked.values()) == 4


def test_one_purse_for_all_models_of_a_study(tmp_path):
    one = PRICE.usd(20, 0, 8)
    purse = Spending(Money(one * 12.5, "USD"), PRICES)
    with paid_server() as server:
        models = [hosted_model(server, "gpt-4o", price="gpt-4o"), hosted_model(server, "b", price="gpt-4o")]
        first, second = (open_hosted(m, tmp_path, prices=PRICES, spending=purse) for m in models)
        ask(first, questions(8))
        with pytest.raises(CostError):
            ask(second, questions(8))
        assert 10 <= sum(server.given.values()) <= 12
        assert purse.spent_usd <= one * 12.5
        # a new process knows what was spent once every model is open
        fresh = Spending(None, PRICES)
        for model in models:
            open_hosted(model, tmp_path, prices=PRICES, spending=fresh)
        assert fresh.spent_usd == pytest.approx(purse.spent_usd)


def test_a_plan_before_the_first_call_is_never_below_what_it_costs(tmp_path):
    config = GenerationConfig(max_new_tokens=8)
    prompts = [[Message("user", "東京の天気を教えてください。" * n)] for n in range(1, 21)]
    with FaultServer(lambda seen, number: ok("x", usage=(len(seen.prompt) + 5, 8))) as server:
        made = generator(server, tmp_path, repeats=2)
        plan = made.plan(prompts, config)
        assert (plan.num_calls, plan.num_cached, plan.num_prompts, plan.repeats) == (40, 0, 20, 2)
        assert plan.output_tokens == 320
        for number in range(2):
            ask(made.repeat(number), prompts, config)
        assert made.usage().cost.usd <= plan.cost.usd <= made.usage().cost.usd * 1.3
        after = made.plan(prompts, config)
        assert (after.num_calls, after.num_cached, after.cost.usd) == (0, 40, 0.0)
        more = made.plan([[Message("user", "大" * 1000)]], config)
        assert more.input_tokens == pytest.approx(2 * 1005, rel=0.03)  # corrected by what was counted
        assert "as the service has counted" in more.rule


def test_a_mistake_of_ours_ends_the_run_with_a_traceback(tmp_path, monkeypatch):
    from tenbin.generate.hosted import asking

    def broken(self, *args):
        raise ZeroDivisionError("mine")

    monkeypatch.setattr(asking.Asking, "_answer", broken)
    with FaultServer(always) as server, pytest.raises(RuntimeError, match="ZeroDivisionError: mine"):
        ask(generator(server, tmp_path), questions(3))


def test_the_log_says_what_was_tried(tmp_path):
    def script(seen, number):
        return (
            error(429, "slow", "rate_limit_exceeded", [("Retry-After", "0.01")])
            if number < 2
            else answered(seen)
        )

    with FaultServer(script) as server:
        ask(generator(server, tmp_path), questions(1))
    log = [json.loads(line) for line in lines(tmp_path)]
    assert [line["kind"] for line in log] == ["call", "failed", "call", "failed", "call", "answer"]
    assert [line["attempt"] for line in log] == [1, 1, 2, 2, 3, 3]
    assert log[1]["error"] == "HTTP 429 rate_limit_exceeded: slow"
    assert 0.01 <= log[1]["wait_s"] <= 0.011
    assert not log[1]["billed"]
    assert log[-1]["attempts"] == 3


def test_a_quota_far_below_the_concurrency_loses_no_question(tmp_path):
    """The service takes two calls in a tenth of a second and refuses the rest."""
    taken = []

    def script(seen, number):
        now = time.monotonic()
        if sum(now - t < 0.1 for t in taken) >= 2:
            return error(429, "slow down", "rate_limit_exceeded", [("retry-after-ms", "100")])
        taken.append(now)
        return answered(seen)

    with FaultServer(script) as server:
        made = generator(server, tmp_path, concurrency=32)
        found = ask(made, questions(60))
    assert [c.text for c in found] == [right(i) for i in range(60)]
    assert sum(server.asked.values()) < 60 * 3


def test_a_long_wait_is_said(tmp_path, monkeypatch):
    from tenbin.generate.hosted import asking

    said = []

    def script(seen, number):
        if sum(server.asked.values()) == 3:
            return error(429, "slow down", headers=[("retry-after-ms", "1600")])
        return answered(seen)

    monkeypatch.setattr(asking, "WORTH_SAYING_S", 1.0)
    with FaultServer(script) as server:
        ask(generator(server, tmp_path, say=said.append, concurrency=1), questions(5))
    assert said == ["model gpt-4o: the service asks to wait 2 s"]
