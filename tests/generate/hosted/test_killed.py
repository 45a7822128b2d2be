"""Killed again and again, every question has its answer in the end, and none is paid for twice."""

import os
import signal

import pytest
from bench.hosted_faults import run
from tests.generate.hosted.asked import ask, generator, lines, questions, right
from tests.generate.hosted.fault_server import Act, FaultServer, answered


def test_killed_and_resumed_every_answer_is_there_once():
    found = run(400, 3, concurrency=16)
    assert (found.answered, found.missing, found.wrong, found.twice_in_store) == (400, 0, 0, 0)
    assert found.paid_twice_after_receipt == 0
    assert found.in_flight_at_kills <= 3 * 16
    assert found.paid_twice <= found.in_flight_at_kills + found.timed_out
    assert found.failed > 60  # the server did fail
    assert found.is_right


@pytest.fixture
def ctrl_c():
    """Presses Ctrl-C, from whichever thread; the main thread takes it wherever it is."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield lambda: os.kill(os.getpid(), signal.SIGINT)
    signal.signal(signal.SIGINT, before)


def stopped(generator):
    """Whether Ctrl-C ended the asking of forty questions."""
    try:
        ask(generator, questions(40))
    except KeyboardInterrupt:
        return True
    return False


def test_ctrl_c_keeps_what_is_in_flight_and_the_next_run_goes_on(tmp_path, ctrl_c):
    said = []

    def script(seen, number):
        if sum(server.asked.values()) == 8:
            ctrl_c()
        return Act((0.3, *answered(seen).pieces), whole=True)

    with FaultServer(script) as server:
        assert stopped(generator(server, tmp_path, concurrency=4, say=said.append))
        kept = sum('"answer"' in line for line in lines(tmp_path))
        assert kept == sum(server.asked.values()) == sum(server.given.values()) < 40
        (line,) = said
        assert line.startswith("gpt-4o: waiting for ")
        server.script = lambda seen, number: answered(seen)
        found = ask(generator(server, tmp_path), questions(40))
        assert [c.text for c in found] == [right(i) for i in range(40)]
        assert sum(server.asked.values()) == 40


def test_a_second_ctrl_c_leaves_the_calls_in_flight(tmp_path, ctrl_c):
    def script(seen, number):
        if sum(server.asked.values()) == 3:
            ctrl_c()
        return answered(seen) if sum(server.asked.values()) == 1 else Act((float("inf"),))

    with FaultServer(script) as server:
        # The second one comes while the first one says that it waits.
        assert stopped(generator(server, tmp_path, concurrency=2, timeout_s=600.0, say=lambda line: ctrl_c()))
        made = generator(server, tmp_path)
        assert len(made.terms.store.lost) == 2
        server.script = lambda seen, number: answered(seen)
        assert len(ask(made, questions(40))) == 40
