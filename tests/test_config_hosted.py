from pathlib import Path

import pytest

from tenbin.config import ModelConfig, parse_study
from tenbin.config_hosted import HostedSection, HostedSource, Money, hosted_source, is_hosted, parse_money
from tenbin.errors import ConfigError

KEY = "sk-canary-0123456789abcdef"
AZURE = {"endpoint": "https://x.openai.azure.com/", "api_version": "2024-10-21"}


def mistakes(*models):
    with pytest.raises(ConfigError) as caught:
        parse_study({"name": "x", "task": "reading", "data": {"train": "a.csv"}, "model": list(models)})
    assert KEY not in str(caught.value)
    return [(p.where.removeprefix("study: "), p.found) for p in caught.value.problems]


@pytest.mark.parametrize(
    ("text", "money"),
    [
        ("5 USD", Money(5, "USD")),
        ("0.5", Money(0.5, "USD")),
        (5, Money(5, "USD")),
        (2.5, Money(2.5, "USD")),
        ("5USD", Money(5, "USD")),
        ("800 JPY", Money(800, "JPY")),
        ("800円", Money(800, "JPY")),
        (" 800 yen ", Money(800, "JPY")),
    ],
)
def test_sums_of_money(text, money):
    assert parse_money(text) == money


@pytest.mark.parametrize("text", ["", "0 USD", "-1", "5 EUR", "USD", "1e9", "5 USD or so", "nan", "１０円"])
def test_other_sums_are_refused(text):
    if text == "１０円":
        assert parse_money(text) == Money(10, "JPY")  # full-width digits are digits
        return
    with pytest.raises(ValueError, match="write a sum above 0"):
        parse_money(text)


def test_sources():
    assert hosted_source("openai:gpt-4o") == HostedSource("openai", "gpt-4o")
    assert hosted_source("azure:my-deployment") == HostedSource("azure", "my-deployment")
    assert hosted_source("http://127.0.0.1:8080/v1/#org/m") == HostedSource(
        "http", "org/m", "http://127.0.0.1:8080/v1"
    )
    assert [is_hosted(s) for s in ("openai:x", "azure:x", "http://x", "https://x", "org/x", "./x.gguf")] == [
        *(True, True, True, True, False, False)
    ]


@pytest.mark.parametrize(
    ("source", "label"),
    [
        ("openai:gpt-4o", "gpt-4o"),
        ("azure:my deployment", "my-deployment"),
        ("http://127.0.0.1:8080/v1#org/gemma.gguf", "gemma"),
    ],
)
def test_labels(source, label):
    hosted = AZURE if source.startswith("azure") else None
    model = ModelConfig.model_validate({"source": source, "hosted": hosted})
    assert model.label == label
    assert model.is_hosted


@pytest.mark.parametrize(
    ("model", "found"),
    [
        ({"source": "openai:"}, "names no hosted model"),
        ({"source": "http://127.0.0.1:80/v1"}, "names no model"),
        ({"source": "http:///v1#m"}, "no http or https address"),
        ({"source": "http://127.0.0.1:port/v1#m"}, "no address that can be read"),
        ({"source": f"http://me:{KEY}@127.0.0.1/v1#m"}, "holds a name or password"),
        ({"source": f"http://127.0.0.1/v1?key={KEY}#m"}, "holds a query"),
        ({"source": "openai:x", "tokenizer": "y"}, "tokenizer: a hosted model's"),
        ({"source": "org/x", "hosted": {}}, "the model is local"),
        ({"source": "openai:x", "hosted": AZURE}, "hosted.endpoint is only for azure models"),
        ({"source": "openai:x", "hosted": {"auth": "entra"}}, "only for azure"),
        (
            {"source": "azure:x", "hosted": {**AZURE, "auth": "entra", "api_key_env": "A"}},
            "takes no api_key_env",
        ),
        ({"source": "openai:x", "hosted": {"api_key_env": "A", "keyring": "a/b"}}, "name one of the two"),
    ],
)
def test_what_does_not_fit_together_is_named(model, found):
    ((where, said),) = mistakes(model)
    assert where == "model[0]"
    assert found in said


def test_everything_that_is_missing_is_said_at_once():
    assert mistakes({"source": "azure:x"}, {"source": "azure:y", "hosted": {"endpoint": "https://a.b"}}) == [
        (
            "model[0]",
            "hosted.endpoint is missing: azure models need it; "
            "hosted.api_version is missing: azure models need it",
        ),
        ("model[1]", "hosted.api_version is missing: azure models need it"),
    ]


@pytest.mark.parametrize(
    ("hosted", "place"),
    [
        ({"api_key": KEY}, "api_key"),
        ({"api_key_env": KEY}, "api_key_env"),
        ({"keyring": KEY}, "keyring"),
        ({"extra_body": {"api_key": KEY}}, "extra_body"),
        ({"extra_body": {"Authorization": KEY}}, "extra_body"),
    ],
)
def test_a_key_written_into_the_file_is_refused_and_not_repeated(hosted, place):
    ((where, _),) = mistakes({"source": "openai:x", "hosted": hosted})
    assert where == f"model[0].hosted.{place}"


@pytest.mark.parametrize(
    ("hosted", "place"),
    [
        ({"concurency": 3}, "concurency"),
        ({"concurrency": 0}, "concurrency"),
        ({"repeats": 0}, "repeats"),
        ({"timeout_s": 0}, "timeout_s"),
        ({"temperature": 3}, "temperature"),
        ({"temperature": "none"}, "temperature"),
        ({"max_cost": "much"}, "max_cost"),
        ({"endpoint_kind": "responses"}, "endpoint_kind"),
        ({"extra_body": {"temperature": 1}}, "extra_body"),
        ({"extra_body": {"model": "other"}}, "extra_body"),
    ],
)
def test_wrong_values_are_named(hosted, place):
    ((where, _),) = mistakes({"source": "openai:x", "hosted": hosted})
    assert where == f"model[0].hosted.{place}"


def test_a_study_with_hosted_models_is_written_and_read_again():
    import tomllib

    models = [
        {"source": "openai:gpt-4o", "hosted": {"max_cost": "500 JPY", "temperature": "unset", "repeats": 3}},
        {"source": "azure:d", "hosted": {**AZURE, "extra_body": {"seed": 1}}},
    ]
    study = parse_study(
        {
            "name": "x",
            "task": "reading",
            "data": {"train": "a.csv"},
            "model": models,
            "budget": {"max_cost": 5.0, "prices": "p.toml"},
        }
    )
    assert parse_study(tomllib.loads(study.to_toml())) == study
    assert study.model[1].hosted.endpoint == "https://x.openai.azure.com"


def test_the_guide_names_every_key():
    guide = (Path(__file__).parents[1] / "docs" / "guide" / "hosted.md").read_text(encoding="utf-8")
    assert not [key for key in HostedSection.model_fields if f"`{key}`" not in guide]
