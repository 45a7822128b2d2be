"""The log of an unfinished evaluation: what is kept survives every way to be cut off."""

import json

from tenbin.study.answer_log import AnswerLog
from tenbin.types import Completion, Example

EXAMPLES = [Example(id=f"q{i}", inputs={"question": "?"}) for i in range(4)]


def said(text, **more):
    return Completion(text=text, stop_reason="stop", input_tokens=3, output_tokens=2, **more)


def test_answers_are_read_back_as_they_were(tmp_path):
    path = tmp_path / "test.partial.jsonl"
    log = AnswerLog(path, EXAMPLES)
    assert log.answered == {}
    answers = {2: said("二\nと \ud83d\u2028"), 0: said("", error="no", latency_s=0.5)}
    for place, completion in answers.items():
        log.add(place, completion)
    again = AnswerLog(path, EXAMPLES)
    assert again.answered == answers
    assert again.before_s > 0
    assert again.spent_s >= again.before_s
    again.forget()
    assert not path.exists()
    again.forget()  # twice does no harm


def test_every_cut_of_the_file_loses_at_most_the_last_answer(tmp_path):
    path = tmp_path / "test.partial.jsonl"
    log = AnswerLog(path, EXAMPLES)
    for place in range(3):
        log.add(place, said(f"答え{place}"))
    whole = path.read_bytes()
    for size in range(len(whole) + 1):
        path.write_bytes(whole[:size])
        cut = AnswerLog(path, EXAMPLES)
        complete = [line for line in whole[:size].split(b"\n") if line.endswith(b"}")]
        assert list(cut.answered) == list(range(len(complete)))
        cut.add(3, said("後で"))  # on a line of its own
        assert AnswerLog(path, EXAMPLES).answered[3] == said("後で")


def test_what_is_foreign_is_answered_again(tmp_path):
    path = tmp_path / "test.partial.jsonl"
    lines = [
        json.dumps({"id": "other", "spent_s": 1.0, "text": "x"}),
        json.dumps({"id": "q1", "spent_s": 1.0, "unknown": "x"}),
        json.dumps(["q1"]),
        b"\xff\xfe".decode("latin-1"),
    ]
    path.write_text("\n".join(lines), encoding="latin-1")
    assert AnswerLog(path, EXAMPLES).answered == {}
