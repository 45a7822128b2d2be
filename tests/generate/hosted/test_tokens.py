import pytest

from tenbin.generate.hosted.tokens import TokenEstimate, most_tokens, ruled_tokens
from tenbin.types import Message


def prompt(text):
    return [Message("user", text)]


def test_the_rule():
    assert ruled_tokens(prompt("x" * 400)) == pytest.approx(100 + 7)
    assert ruled_tokens(prompt("日本" * 50)) == pytest.approx(110 + 7)
    assert ruled_tokens([Message("system", ""), Message("user", "")]) == 11


def test_no_tokenizer_at_hand_makes_more_tokens_than_the_most(encoder):
    for text in ("東京の天気は？", "a b c d e f", "①②③🙂🙂", "　　\n\n\t", "\u0300" * 50, "𠮷野家"):
        assert len(encoder.prompt(prompt(text))[0]) <= most_tokens(prompt(text))


def pytest_generate_tests(metafunc):
    from tests.real_parts import encoders

    if "encoder" in metafunc.fixturenames:
        metafunc.parametrize("encoder", encoders())


def test_the_rule_is_corrected_by_what_the_service_counts():
    estimate = TokenEstimate()
    assert estimate.tokens(100.0) == 100
    assert "as the service" not in estimate.rule
    estimate.learn(100.0, 60)
    assert estimate.factor == pytest.approx((60 + 100) / 200)  # half of what a whole correction needs
    for _ in range(9):
        estimate.learn(100.0, 60)
    assert estimate.factor == pytest.approx(0.6)
    assert estimate.tokens(1000.0) == 600
    assert "times 0.60" in estimate.rule
