import subprocess
import sys

import pytest
from tests.generate.hosted.asked import CONFIG, QUICK, hosted_model, questions

from tenbin.config import ModelConfig
from tenbin.config_hosted import Money
from tenbin.errors import CostError, DataError, MissingExtra, ModelError
from tenbin.generate.hosted import Spending, open_hosted, plan_hosted, read_prices
from tenbin.generate.hosted import opening as opening_module
from tenbin.types import Generator

PRICES = read_prices()
NOWHERE = "http://127.0.0.1:9/v1"


def opened(model, folder, **more):
    return open_hosted(model, folder, prices=PRICES, **more)


def test_it_is_a_generator_and_opening_writes_nothing(tmp_path):
    made: Generator = opened(hosted_model(NOWHERE), tmp_path)
    assert made.model_id == "gpt-4o"
    assert not list(tmp_path.iterdir())
    assert len(made.fingerprint) == 16
    assert made.settings["address"] == NOWHERE


def test_everything_that_keeps_it_from_being_asked_is_said_at_once(tmp_path, monkeypatch):
    monkeypatch.delenv("MY_KEY", raising=False)
    model = hosted_model(NOWHERE, "unknown", api_key_env="MY_KEY", max_cost="5 USD")
    with pytest.raises(ModelError) as caught:
        opened(model, tmp_path, offline=True)
    found = [problem.found for problem in caught.value.problems]
    assert len(found) == 3
    assert "--offline forbids it" in found[0]
    assert "MY_KEY is not set" in found[1]
    assert "has no price for unknown" in found[2]
    assert {problem.where for problem in caught.value.problems} == {"model unknown"}


def test_a_limit_of_the_study_needs_a_price_too(tmp_path):
    with pytest.raises(ModelError, match="max_cost cannot be kept"):
        opened(hosted_model(NOWHERE, "unknown"), tmp_path, spending=Spending(Money(1, "USD"), PRICES))
    opened(hosted_model(NOWHERE, "unknown"), tmp_path, spending=Spending(None, PRICES))
    opened(
        hosted_model(NOWHERE, "unknown", price="gpt-4o"), tmp_path, spending=Spending(Money(1, "USD"), PRICES)
    )


def test_without_a_price_there_is_no_cost_and_a_reason(tmp_path):
    usage = opened(hosted_model(NOWHERE, "unknown"), tmp_path).usage()
    assert (usage.cost, usage.lost_cost) == (None, None)
    assert usage.cost_note == "no cost: tenbin's prices.toml has no price for unknown"


def test_without_the_library_the_line_that_installs_it_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(opening_module, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r'pip install "tenbin\[hosted\]"'):
        opened(hosted_model(NOWHERE), tmp_path)


def test_entra_without_a_token_and_without_azure_identity(tmp_path, monkeypatch):
    monkeypatch.delenv("AZURE_OPENAI_AD_TOKEN", raising=False)
    fields = {"endpoint": "https://x.example", "api_version": "1", "auth": "entra"}
    model = ModelConfig.model_validate({"source": "azure:m", "hosted": fields})

    def without_azure(name):
        if name.startswith("azure"):
            raise ModuleNotFoundError(name)
        return object()

    monkeypatch.setattr(opening_module, "find_spec", without_azure)
    with pytest.raises(MissingExtra, match=r"tenbin\[azure\]"):
        opened(model, tmp_path)
    monkeypatch.setenv("AZURE_OPENAI_AD_TOKEN", "a-token-of-some-length")
    opened(model, tmp_path)


def test_a_plan_needs_no_key(tmp_path, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    model = ModelConfig.model_validate({"source": "openai:gpt-4o", "hosted": {**QUICK, "repeats": 3}})
    plan = plan_hosted(model, tmp_path, questions(10), CONFIG, prices=PRICES)
    assert (plan.num_calls, plan.num_cached, plan.output_tokens) == (30, 0, 240)
    assert plan.cost.usd == pytest.approx((plan.input_tokens * 2.5 + 240 * 10) / 1e6)
    assert "an example nobody checked" in plan.cost_note
    assert "1.1 for every other character" in plan.rule


def test_damaged_answers_are_said_when_it_is_opened(tmp_path):
    made = opened(hosted_model(NOWHERE), tmp_path)
    made.terms.store.path.parent.mkdir()
    made.terms.store.path.write_text("{}\n")
    with pytest.raises(DataError, match=r"jsonl:1: not a line that tenbin wrote"):
        opened(hosted_model(NOWHERE), tmp_path)


def test_models_of_one_name_at_two_addresses_keep_their_answers_apart(tmp_path):
    paths = {
        opened(hosted_model(f"http://127.0.0.1:{port}/v1", model), tmp_path).terms.store.path
        for port in (1, 2)
        for model in ("org/m", "org-m")
    }
    assert len(paths) == 4


def test_a_limit_that_is_spent_already_ends_before_the_first_call(tmp_path):
    made = opened(hosted_model(NOWHERE, max_cost=1e-9 * 200), tmp_path)
    with pytest.raises(CostError, match="of 2e-07 USD are spent"):
        list(made.generate(questions(1), CONFIG))


@pytest.mark.parametrize("module", ["tenbin.cli", "tenbin.generate.hosted"])
def test_nothing_heavy_is_loaded_before_it_is_needed(module):
    heavy = ("torch", "transformers", "openai", "httpx2", "keyring", "azure.identity")
    code = f"import sys, {module}; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
