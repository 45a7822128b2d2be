import json

import pytest
from tests.generate.hosted.fault_server import answer_body

from tenbin.generate.hosted.reply import MalformedReply, read_reply, read_stream


def read(body):
    return read_reply(json.dumps(body).encode())


def test_a_whole_answer():
    reply = read(answer_body("東京", usage=(12, 3), cached=5))
    assert (reply.text, reply.stop_reason, reply.error) == ("東京", "stop", None)
    assert (reply.input_tokens, reply.cached_input_tokens, reply.output_tokens) == (12, 5, 3)
    assert reply.model == "served"


def test_plain_completions_and_their_limit():
    reply = read(answer_body("東京都", plain=True, finish="length"))
    assert (reply.text, reply.stop_reason) == ("東京都", "length")


def test_an_empty_answer_is_an_answer_and_a_missing_one_is_none():
    reply = read(answer_body("", usage=(3, 0)))
    assert (reply.text, reply.stop_reason, reply.error, reply.output_tokens) == ("", "stop", None, 0)
    with pytest.raises(MalformedReply, match="content is null"):
        read(answer_body(None))


def test_tokens_that_were_not_counted_are_not_zero():
    reply = read(answer_body("はい", usage=None))
    assert (reply.input_tokens, reply.output_tokens) == (None, None)


@pytest.mark.parametrize(
    "usage", [{}, {"prompt_tokens": -1, "completion_tokens": 2}, {"prompt_tokens": 3}, "3", [1], {"a": None}]
)
def test_tokens_counted_in_some_other_way_are_not_counted_and_the_answer_stands(usage):
    reply = read({**answer_body("はい"), "usage": usage, "model": 5})
    assert (reply.text, reply.input_tokens, reply.output_tokens, reply.model) == ("はい", None, None, None)


def test_what_the_content_filter_left():
    reply = read(answer_body("途中まで", finish="content_filter"))
    assert (reply.text, reply.stop_reason) == ("途中まで", "content_filter")
    assert "content filter" in reply.error


def test_thoughts_that_used_the_limit_up_are_an_error_with_a_remedy():
    reply = read(answer_body(None, finish="length", usage=(5, 64)))
    assert reply.stop_reason == "error"
    assert "64 tokens" in reply.error
    assert "reasoning_tokens" in reply.error


def test_a_refusal_is_what_the_model_said():
    body = answer_body(None)
    body["choices"][0]["message"]["refusal"] = "お答えできません"
    assert read(body).text == "お答えできません"


def test_other_endings_are_errors():
    reply = read(answer_body(None, finish="tool_calls"))
    assert reply.stop_reason == "error"
    assert "'tool_calls'" in reply.error


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "not whole JSON"),
        (b"ok", "not whole JSON"),
        (b'{"choices": [', "not whole JSON"),
        (b"[]", "the body"),
        (b"{}", "choices"),
        (b'{"choices": []}', "empty"),
        (b'{"choices": [{"message": {"content": 5}, "finish_reason": "stop"}]}', "content"),
        (b'{"choices": [{"message": {"content": "x"}}]}', "finish_reason"),
        (b'{"choices": [{"text": "\xff", "finish_reason": "stop"}]}', "not whole JSON"),
    ],
    ids=range(9),
)
def test_what_is_not_whole_is_no_answer(content, why):
    with pytest.raises(MalformedReply, match=why):
        read_reply(content)


def test_a_stream_is_put_together():
    pieces = [
        {"choices": [], "prompt_filter_results": []},
        {"choices": [{"delta": {"role": "assistant"}, "finish_reason": None}]},
        {"choices": [{"delta": {"content": "東"}}]},
        {"choices": [{"delta": {"content": "京"}}]},
        {"choices": [{"delta": {}, "finish_reason": "stop"}]},
        {"choices": [], "usage": {"prompt_tokens": 4, "completion_tokens": 2}},
    ]
    reply = read_stream(pieces)
    assert (reply.text, reply.stop_reason, reply.input_tokens, reply.output_tokens) == ("東京", "stop", 4, 2)
    with pytest.raises(MalformedReply, match="cut off after 4 pieces"):
        read_stream(pieces[:4])


def test_values_never_stand_in_the_reason():
    with pytest.raises(MalformedReply) as caught:
        read_reply(b'{"choices": [{"message": {"content": ["secret"]}, "finish_reason": "stop"}]}')
    assert "secret" not in str(caught.value)
