from datetime import UTC, datetime

import pytest

from tenbin.generate.hosted.failures import retry_after_s, status_failure, wait_before

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def failure(status, body=None, headers=None):
    return status_failure(status, body, headers or {}, NOW)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after-ms": "250"}, 0.25),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after-ms": "soon", "retry-after": "9"}, 9.0),
        ({"retry-after": "Fri, 02 Jan 2026 03:05:05 GMT"}, 60.0),
        ({"retry-after": "Fri, 02 Jan 2026 03:00:00 GMT"}, 0.0),
        ({"retry-after": "Friday, 02-Jan-26 03:05:05 GMT"}, 60.0),
        ({"retry-after": "later"}, None),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({}, None),
    ],
)
def test_what_the_service_asks_to_wait(headers, seconds):
    assert retry_after_s(headers, NOW) == seconds


@pytest.mark.parametrize(
    ("status", "body", "remedy"),
    [
        (429, {"error": {"code": "rate_limit_exceeded"}}, "again"),
        (429, {"error": {"code": "insufficient_quota", "message": "no money"}}, "every call"),
        (500, "oops", "again"),
        (502, "<html>", "again"),
        (503, {}, "again"),
        (529, {}, "again"),
        (408, {}, "again"),
        (409, {}, "again"),
        (401, {"error": {"code": "invalid_api_key"}}, "every call"),
        (403, {"error": {"message": "no"}}, "every call"),
        (404, {"error": {"code": "model_not_found"}}, "every call"),
        (404, {"error": {"code": "DeploymentNotFound"}}, "every call"),
        (308, "", "every call"),
        (400, {"error": {"code": "unsupported_value"}}, "every call"),
        (400, {"error": {"code": "content_filter"}}, "filtered"),
        (400, {"code": "content_filter"}, "filtered"),
        (400, {"error": {"code": None, "innererror": {"code": "ResponsibleAIPolicyViolation"}}}, "filtered"),
        (400, {"error": {"code": "content_policy_violation"}}, "filtered"),
        (400, {"error": {"code": "invalid_prompt"}}, "filtered"),
        (400, {"error": {"code": "context_length_exceeded"}}, "question"),
        (400, {"error": "some text"}, "question"),
        (400, [1, 2], "question"),
        (422, None, "question"),
        (413, {"error": {"message": None, "code": 413}}, "question"),
    ],
)
def test_what_is_done_about_a_status(status, body, remedy):
    found = failure(status, body)
    assert found.remedy == remedy
    assert found.status == status
    assert found.error.startswith(f"HTTP {status}")
    assert bool(found.advice) == (remedy == "every call")


def test_too_long_prompts_are_known_by_code_and_by_words():
    assert failure(400, {"error": {"code": "context_length_exceeded"}}).too_long
    assert failure(400, {"error": {"type": "exceed_context_size_error"}}).too_long
    assert failure(400, {"error": {"message": "This model's maximum context length is 4096"}}).too_long
    assert not failure(400, {"error": {"message": "bad temperature"}}).too_long


def test_only_what_may_have_been_answered_counts_as_billed():
    assert [s for s in (408, 409, 429, 500, 502, 503, 504) if failure(s, {}).billed] == [408, 502, 504]


def test_waits_double_up_to_a_minute_and_are_the_same_for_the_same_call():
    for attempt in range(1, 40):
        full = min(60.0, 2.0 ** (attempt - 1))
        waits = [wait_before(attempt, None, 1.0, f"call {n}") for n in range(200)]
        assert full / 2 <= min(waits) < max(waits) <= full
        assert waits == [wait_before(attempt, None, 1.0, f"call {n}") for n in range(200)]
        assert max(waits) - min(waits) > full / 3  # they come back apart


def test_the_service_is_never_called_before_it_asked():
    waits = [wait_before(1, 20.0, 1.0, str(n)) for n in range(100)]
    assert 20.0 <= min(waits) < max(waits) <= 22.0


def test_long_messages_are_one_line():
    error = failure(400, {"error": {"message": "a\nb" + "x" * 5000}}).error
    assert "\n" not in error
    assert len(error) < 400
    assert error.endswith("...")
