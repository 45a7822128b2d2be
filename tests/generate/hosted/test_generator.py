import json
import threading

import pytest
from tests.generate.hosted.asked import CONFIG, ask, generator, lines, questions, right
from tests.generate.hosted.fault_server import (
    Act,
    FaultServer,
    answer_body,
    answered,
    chunk,
    error,
    faults,
    ok,
    status,
    stream_head,
    streamed,
)

from tenbin.errors import StorageError
from tenbin.types import GenerationConfig, Message

FAULTS = list(faults(type("Any", (), {"prompt": "x", "streams": False, "json": {}})()))


def always(seen, number):
    return answered(seen)


def calls_of(made):
    path = made.terms.store.path
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("plain", [False, True], ids=["chat", "completions"])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_every_prompt_gets_its_answer(tmp_path, plain, stream):
    with FaultServer(always) as server:
        made = generator(server, tmp_path, stream=stream, endpoint_kind="completions" if plain else "chat")
        found = ask(made, questions(20))
    assert [c.text for c in found] == [right(i) for i in range(20)]
    assert {(c.stop_reason, c.error, c.input_tokens, c.output_tokens) for c in found} == {
        ("stop", None, 7, 3)
    }
    assert all(c.latency_s > 0 for c in found)
    assert {seen.path for seen in server.seen} == {"/v1/completions" if plain else "/v1/chat/completions"}
    assert made.model_id == "gpt-4o"


@pytest.mark.parametrize("name", FAULTS)
def test_every_fault_is_got_over(tmp_path, name):
    def script(seen, number):
        return faults(seen)[name] if number < times else answered(seen)

    times = 1 if "stall" in name else 2
    with FaultServer(script) as server:
        made = generator(server, tmp_path, timeout_s=2.0 if "stall" in name else 20.0)
        found = ask(made, questions(4))
    assert [c.text for c in found] == [right(i) for i in range(4)]
    assert set(server.asked.values()) == {times + 1}
    failed = [line for line in calls_of(made) if line["kind"] == "failed"]
    # A connection that the server is about to close may be used once more: that call fails as well.
    assert len(failed) >= 4 * times
    assert all(line["error"] and line["wait_s"] is not None for line in failed)
    usage = made.usage()
    assert (usage.num_calls, usage.num_answers, usage.num_errors) == (len(failed) + 4, 4, 0)


@pytest.mark.parametrize(
    ("name", "pieces"),
    [
        ("stall", [chunk({"choices": [{"delta": {"content": "半"}}]}), float("inf")]),
        ("cut", [chunk({"choices": [{"delta": {"content": "半"}}]})]),
        ("no end", [chunk({"choices": [{"delta": {"content": "半"}}]}), chunk("[DONE]") + b"0\r\n\r\n"]),
        ("broken piece", [chunk('{"choices": [{"delta"'), chunk("[DONE]") + b"0\r\n\r\n"]),
        ("error piece", [chunk({"error": {"message": "overloaded", "code": 500}}) + b"0\r\n\r\n"]),
        ("not a piece", [chunk({"choices": "none"}), b"0\r\n\r\n"]),
    ],
)
def test_a_stream_that_breaks_off_is_asked_again(tmp_path, name, pieces):
    def script(seen, number):
        return Act((stream_head(), *pieces), cut=True) if number == 0 else answered(seen)

    with FaultServer(script) as server:
        made = generator(server, tmp_path, stream=True, stall_timeout_s=2.0 if name == "stall" else 20.0)
        found = ask(made, questions(3))
    assert [c.text for c in found] == [right(i) for i in range(3)]
    assert set(server.asked.values()) == {2}


def test_the_first_piece_of_a_stream_may_take_longer_than_a_stall(tmp_path):
    def script(seen, number):
        first, *rest = answered(seen).pieces
        return Act((0.3, first, 2.0, *rest), whole=True)

    with FaultServer(script) as server:
        made = generator(server, tmp_path, stream=True, stall_timeout_s=1.5)
        assert ask(made, questions(1))[0].text == right(0)


def test_a_stream_that_drips_for_ever_ends_with_the_time_of_the_call(tmp_path):
    drop = chunk({"choices": [{"delta": {"content": "."}}]})

    def script(seen, number):
        drips = [piece for _ in range(4000) for piece in (drop, 0.02)]
        return Act((stream_head(), *drips), cut=True) if number == 0 else answered(seen)

    with FaultServer(script) as server:
        made = generator(server, tmp_path, stream=True, timeout_s=2.0)
        assert ask(made, questions(1))[0].text == right(0)
    assert "no answer within 2 s" in lines(tmp_path)[1]


def test_the_content_filter_is_a_third_state_both_ways_and_is_kept(tmp_path):
    inner = {"code": "ResponsibleAIPolicyViolation", "content_filter_result": {"hate": {"filtered": True}}}

    def script(seen, number):
        if seen.prompt == "問0":
            return error(400, "filtered by our policy", "content_filter", innererror=inner)
        if seen.prompt == "問1":
            return status(200, answer_body("途中", finish="content_filter"))
        return answered(seen)

    with FaultServer(script) as server:
        for _ in range(2):
            made = generator(server, tmp_path)
            first, second, third = ask(made, questions(3))
            assert (first.text, first.stop_reason) == ("", "content_filter")
            assert "content_filter" in first.error
            assert (second.text, second.stop_reason) == ("途中", "content_filter")
            assert second.error
            assert third.error is None
            assert made.usage().num_filtered == 2
    assert sum(server.asked.values()) == 3


def test_a_filtered_stream(tmp_path):
    with FaultServer(lambda seen, number: streamed("途中", finish="content_filter")) as server:
        (found,) = ask(generator(server, tmp_path, stream=True), questions(1))
    assert (found.stop_reason, found.text) == ("content_filter", "途中")


def test_a_question_that_cannot_be_asked_is_an_error_and_the_others_go_on(tmp_path):
    def script(seen, number):
        long = seen.prompt in {f"問{n}" for n in range(2, 12)}
        return error(400, "too long", "context_length_exceeded") if long else answered(seen)

    with FaultServer(script) as server:
        made = generator(server, tmp_path)
        found = ask(made, questions(20))
        assert [c.stop_reason for c in found] == ["stop"] * 2 + ["error"] * 10 + ["stop"] * 8
        assert found[2].error == "HTTP 400 context_length_exceeded: too long"
        assert (found[2].text, found[2].output_tokens) == ("", 0)
        assert set(server.asked.values()) == {1}
        assert made.usage().num_errors == 10
        ask(generator(server, tmp_path), questions(20))  # errors are asked again, answers are not
        assert sum(server.asked.values()) == 30


def test_a_question_that_fails_every_time_is_an_error_after_all_attempts(tmp_path):
    def script(seen, number):
        return error(500, "oops") if seen.prompt == "問1" else answered(seen)

    with FaultServer(script) as server:
        found = ask(generator(server, tmp_path, attempts=3), questions(3))
    assert [c.stop_reason for c in found] == ["stop", "error", "stop"]
    assert found[1].error == "HTTP 500: oops"
    assert server.asked["問1"] == 3
    assert json.loads([x for x in lines(tmp_path) if '"failed"' in x][-1])["wait_s"] is None


def test_answers_are_kept_and_asked_for_once(tmp_path):
    with FaultServer(always) as server:
        first = generator(server, tmp_path)
        before = ask(first, questions(10))
        again = generator(server, tmp_path)
        assert ask(again, questions(10)) == before
        assert sum(server.asked.values()) == 10
        assert (again.usage().num_calls, again.usage().num_cached) == (0, 10)
        assert again.usage().cost == first.usage().cost
        ask(again, questions(12))
        assert sum(server.asked.values()) == 12
        ask(again, questions(10), GenerationConfig(max_new_tokens=9))
        assert sum(server.asked.values()) == 22


def test_equal_prompts_are_asked_once_and_every_index_gets_the_answer(tmp_path):
    prompts = [*questions(2), *questions(2), *questions(2)]
    with FaultServer(always) as server:
        made = generator(server, tmp_path)
        assert [c.text for c in ask(made, prompts)] == [right(0), right(1)] * 3
    assert sum(server.asked.values()) == 2
    assert made.usage().input_tokens == 14


def test_repeats_are_answers_of_their_own(tmp_path):
    def script(seen, number):
        return ok(f"{number}回目")

    with FaultServer(script) as server:
        made = generator(server, tmp_path, repeats=3, concurrency=1)
        texts = [[c.text for c in ask(made.repeat(n), questions(2))] for n in range(3)]
        assert texts == [["0回目"] * 2, ["1回目"] * 2, ["2回目"] * 2]
        assert [c.text for c in ask(made, questions(2))] == texts[0]
        assert sum(server.asked.values()) == 6
        assert made.usage().num_answers == 6
        with pytest.raises(AssertionError):
            made.repeat(3)


def test_stop_texts_are_cut_as_locally(tmp_path):
    with FaultServer(lambda seen, number: ok("\n東京\n大阪", finish="length")) as server:
        (found,) = ask(
            generator(server, tmp_path), questions(1), GenerationConfig(max_new_tokens=8, stop=("\n",))
        )
    assert (found.text, found.stop_reason) == ("\n東京", "stop")
    assert "stop" not in server.seen[0].json


def test_tokens_that_the_service_does_not_count_are_estimated_and_said(tmp_path):
    with FaultServer(lambda seen, number: ok("はい", usage=None)) as server:
        made = generator(server, tmp_path)
        (found,) = ask(made, questions(1))
    assert found.input_tokens == 8  # 7 for the marks, 1.1 + 0.25 for the text
    assert found.output_tokens == 2
    assert made.usage().num_estimated == 1


def test_half_a_character_is_an_error_of_its_own(tmp_path):
    with FaultServer(always) as server:
        made = generator(server, tmp_path)
        found = ask(made, [[Message("user", "問\ud800")], *questions(1)])
    assert found[0].stop_reason == "error"
    assert "lone surrogate" in found[0].error
    assert found[1].text == right(0)
    assert made.usage().num_unanswerable == 1


def test_no_more_calls_at_once_than_allowed(tmp_path):
    def script(seen, number):
        return Act((0.05, *answered(seen).pieces), whole=True)

    with FaultServer(script) as server:
        ask(generator(server, tmp_path, concurrency=3), questions(30))
        assert server.most_at_once == 3


def test_the_first_call_goes_alone(tmp_path):
    begun = threading.Event()

    def script(seen, number):
        begun.set()
        return Act((0.3, *answered(seen).pieces), whole=True)

    with FaultServer(script) as server:
        found = generator(server, tmp_path, concurrency=8).generate(questions(8), CONFIG)
        next(found)
        assert server.most_at_once == 1
        assert len(list(found)) == 7


def test_answers_are_kept_while_the_caller_takes_its_time(tmp_path):
    with FaultServer(always) as server:
        found = generator(server, tmp_path).generate(questions(30), CONFIG)
        next(found)
        for _ in range(3000):
            if sum('"answer"' in line for line in lines(tmp_path)) == 30:
                break
            threading.Event().wait(0.01)
        assert sum('"answer"' in line for line in lines(tmp_path)) == 30
        assert len(list(found)) == 29


def test_closing_early_keeps_what_was_in_flight(tmp_path):
    said = []

    def script(seen, number):
        return Act((0.05, *answered(seen).pieces), whole=True)

    with FaultServer(script) as server:
        found = generator(server, tmp_path, concurrency=4, say=said.append).generate(questions(200), CONFIG)
        next(found)
        next(found)
        found.close()
        asked = sum(server.asked.values())
        assert asked < 20
        assert sum('"answer"' in line for line in lines(tmp_path)) == asked == sum(server.given.values())


def test_two_at_once_in_one_folder_are_refused(tmp_path):
    with FaultServer(always) as server:
        first = generator(server, tmp_path).generate(questions(3), CONFIG)
        next(first)
        with pytest.raises(StorageError, match="being written already"):
            next(generator(server, tmp_path).generate(questions(3), CONFIG))
        assert len(list(first)) == 2


def test_no_prompts_no_calls(tmp_path):
    made = generator("http://127.0.0.1:9/v1", tmp_path)
    assert ask(made, []) == []
