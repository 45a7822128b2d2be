"""Asking: puts questions to a service, several at once, until every one has an answer or none can be had.

An event loop in a thread of its own does the work, so that answers are kept as they come, however slowly
the caller takes them.
"""

import asyncio
import threading
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from queue import SimpleQueue
from typing import TYPE_CHECKING

from tenbin.config_hosted import HostedSection
from tenbin.errors import CostError, ModelError, Problem, UserError
from tenbin.generate.hosted.answers import Answer, AnswerStore, Billed
from tenbin.generate.hosted.failures import Failure, wait_before
from tenbin.generate.hosted.pace import Pace, Turn
from tenbin.generate.hosted.purses import Purses
from tenbin.generate.hosted.reply import Reply
from tenbin.generate.hosted.request import HostedRequest, Service
from tenbin.generate.hosted.secret import Secret
from tenbin.generate.hosted.spending import Spending
from tenbin.generate.hosted.tokens import TokenEstimate, ruled_text_tokens
from tenbin.generate.hosted.width import Width

if TYPE_CHECKING:
    from tenbin.generate.hosted.connection import Connection

HOPELESS = 5
"""Questions one after the other without an answer: the service is at fault, not the questions."""
REFUSALS = 4
"""Refusals for going too fast are no fault of the question: so many times `attempts` are borne."""
WORTH_SAYING_S = 5.0
FIRST_TRIES = 2
"""Tries to reach a service that never answered: more would only make a wrong address take longer."""
KEPT = "what was answered is kept; the same command goes on from there"


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What all calls to a model share, over all its repeats."""

    where: str
    """Names the model in errors."""
    service: Service
    secret: Secret | None
    store: AnswerStore
    pace: Pace
    purses: Purses
    estimate: TokenEstimate

    @property
    def hosted(self) -> HostedSection:
        """The study's settings."""
        return self.service.hosted


class _StoppedError(Exception):
    """The work ends: nothing new is begun."""


class Asking:
    """One round of questions. `outcomes` gives every question's outcome as it comes, and lines for the user,
    then None."""

    def __init__(self, terms: Terms, questions: Sequence[HostedRequest]) -> None:
        self.outcomes: SimpleQueue[tuple[HostedRequest, Answer | Failure] | str | None] = SimpleQueue()
        self.error: UserError | None = None
        """Why it ended early."""
        self.bug: str | None = None
        """Traceback of a mistake of ours, without keys."""
        self.num_calls = 0
        self._terms = terms
        self._questions = iter(questions)
        self._width = Width(min(terms.hosted.concurrency, len(questions)))
        self._answered = False
        self._hopeless = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._work_in_thread, name="tenbin-hosted", daemon=True)

    @property
    def in_flight(self) -> int:
        """Calls that were sent and have no outcome yet."""
        return self._width.sent

    def start(self) -> None:
        """Begin; returns once the loop runs."""
        self._thread.start()
        self._ready.wait()

    def stop(self) -> None:
        """Begin nothing new, and wait for the calls in flight: they are paid for, and are kept."""
        self._signal(lambda: self._stop.set())
        self._thread.join()

    def abandon(self) -> None:
        """Leave the calls in flight."""
        self._signal(lambda: [task.cancel() for task in self._tasks])
        self._thread.join()

    def _signal(self, action: Callable[[], object]) -> None:
        with suppress(RuntimeError):  # the loop has ended already
            if self._loop is not None:
                self._loop.call_soon_threadsafe(action)

    def _work_in_thread(self) -> None:
        try:
            asyncio.run(self._run())
        except UserError as error:
            self.error = error
        except asyncio.CancelledError:
            pass
        except BaseException:
            text = traceback.format_exc()
            self.bug = self._terms.secret.strike(text) if self._terms.secret else text
        finally:
            self._ready.set()
            self.outcomes.put(None)

    async def _run(self) -> None:
        from tenbin.generate.hosted.connection import Connection  # loads openai: half a second

        self._stop, self._settled = asyncio.Event(), asyncio.Event()
        self._line = asyncio.Lock()
        self._loop = asyncio.get_running_loop()
        async with Connection(self._terms.service, self._terms.secret) as connection:
            self._tasks = [asyncio.create_task(self._work(connection)) for _ in range(self._width.most)]
            self._ready.set()
            ends = await asyncio.gather(*self._tasks, return_exceptions=True)
        errors = [end for end in ends if isinstance(end, BaseException)]
        for error in sorted(errors, key=lambda e: isinstance(e, UserError | asyncio.CancelledError)):
            raise error

    async def _work(self, connection: "Connection") -> None:
        try:
            while not self._stop.is_set():
                question = next(self._questions, None)
                if question is None:
                    return
                self.outcomes.put((question, await self._ask(connection, question)))
        except _StoppedError:
            return
        except BaseException:
            self._stop.set()
            raise

    async def _ask(self, connection: "Connection", question: HostedRequest) -> Answer | Failure:
        """Call until there is an answer, the question turns out to have none, or the attempts are used up."""
        terms, attempt, refusals = self._terms, 0, 0
        while True:
            attempt += 1
            outcome, latency_s, turn, reserved = await self._call(connection, question, attempt)
            if isinstance(outcome, Failure) and outcome.remedy != "filtered":
                refusals += outcome.too_fast
                wait_s = self._wait_s(outcome, attempt, refusals, question.key)
                billed = question.most if outcome.billed else None
                terms.store.failed(question.key, attempt, error=outcome.error, billed=billed, wait_s=wait_s)
                self._settle(reserved, reserved if outcome.billed else 0.0)
                if wait_s is None:
                    return self._given_up(outcome, attempt)
                await self._sleep(wait_s)
                continue
            answer = self._answer(question, outcome, latency_s, attempt)
            terms.store.answer(question.key, answer)
            self._settle(reserved, terms.purses.usd(answer))
            terms.pace.correct(turn, answer.input_tokens + answer.output_tokens)
            self._answered, self._hopeless = True, 0
            return answer

    async def _call(
        self, connection: "Connection", question: HostedRequest, attempt: int
    ) -> tuple[Reply | Failure, float, Turn, float]:
        """Wait for room, money and a turn, then call once: outcome, seconds, turn, dollars set aside."""
        terms = self._terms
        reserved, mark = await self._reserve(question.most)
        refused = False
        try:
            tokens = terms.estimate.tokens(question.ruled_tokens) + question.most.output_tokens
            async with self._line:
                while (due_s := terms.pace.due_s(tokens)) > 0:
                    await self._sleep(min(due_s, 1.0))  # a pause or a smaller count may come meanwhile
                turn = terms.pace.take(tokens)
            terms.store.call(question.key, attempt, question.most)
            self.num_calls += 1
            outcome, latency_s = await connection.call(question)
            refused = isinstance(outcome, Failure) and outcome.too_fast
            return outcome, latency_s, turn, reserved
        except (_StoppedError, UserError):
            self._settle(reserved, 0.0)  # it was not sent
            raise
        finally:
            self._width.back(mark, refused=refused)
            self._settled.set()

    async def _reserve(self, most: Billed) -> tuple[float, int]:
        """Wait for room, and set the most a call may cost aside; waits for money while calls that are on
        their way may turn out cheaper."""
        purses = self._terms.purses
        usd = purses.most_usd(most)
        while True:
            if self._width.has_room:
                full = purses.reserve(usd)
                if full is None:
                    return usd, self._width.send()
                if self._width.sent == 0:
                    raise self._too_dear(usd, full)
            self._settled.clear()
            await self._until(self._settled)

    def _too_dear(self, usd: float, purse: Spending) -> CostError:
        found = f"the next call may cost ${usd:.4f}; ${purse.spent_usd:.4f} of {purse.limit} are spent"
        remedy = f"raise max_cost; {KEPT}"
        return CostError(Problem(where=self._terms.where, field="max_cost", found=found, remedy=remedy))

    def _settle(self, reserved: float, paid: float) -> None:
        self._terms.purses.settle(reserved, paid)
        self._settled.set()

    def _wait_s(self, failure: Failure, attempt: int, refusals: int, key: str) -> float | None:
        """Seconds until the next attempt; None = there is none."""
        hosted = self._terms.hosted
        most = hosted.attempts
        if failure.unreachable and not self._answered:
            most = min(FIRST_TRIES, most)
        if failure.remedy != "again" or attempt - refusals >= most or refusals >= REFUSALS * most:
            return None
        if failure.wait_s is not None and failure.wait_s > hosted.longest_wait_s:
            return None
        wait_s = wait_before(attempt, failure.wait_s, hosted.first_wait_s, key)
        if failure.wait_s is not None:
            self._terms.pace.pause(failure.wait_s)
            if failure.wait_s >= WORTH_SAYING_S:
                self.outcomes.put(f"{self._terms.where}: the service asks to wait {failure.wait_s:.0f} s")
        return wait_s

    def _given_up(self, failure: Failure, attempt: int) -> Failure:
        """The question's outcome; raises where the error concerns every call."""
        where, wait_s = self._terms.where, failure.wait_s
        if wait_s is not None and wait_s > self._terms.hosted.longest_wait_s:
            found = f"the service asks to wait {wait_s:.0f} s ({failure.error})"
            remedy = f"run again later, or raise hosted.longest_wait_s; {KEPT}"
            raise ModelError(Problem(where=where, found=found, remedy=remedy))
        if failure.remedy == "every call":
            remedy = f"{failure.advice}; {KEPT}" if failure.advice else KEPT
            raise ModelError(Problem(where=where, found=failure.error, remedy=remedy))
        if failure.unreachable:
            found = f"{failure.error}, {attempt} times"
            raise ModelError(
                Problem(where=where, found=found, remedy=f"start it or correct the address; {KEPT}")
            )
        self._hopeless += 0 if failure.too_long else 1
        if self._hopeless >= HOPELESS:
            found = f"{HOPELESS} questions one after the other got no answer; the last: {failure.error}"
            raise ModelError(Problem(where=where, found=found, remedy=f"see what the service says; {KEPT}"))
        return failure

    def _answer(
        self, question: HostedRequest, outcome: Reply | Failure, latency_s: float, attempt: int
    ) -> Answer:
        estimate = self._terms.estimate
        if isinstance(outcome, Failure):
            outcome = Reply(text="", stop_reason="content_filter", error=outcome.error, output_tokens=0)
        if outcome.input_tokens is not None:
            estimate.learn(question.ruled_tokens, outcome.input_tokens)
        guessed_in = estimate.tokens(question.ruled_tokens)
        guessed_out = estimate.tokens(ruled_text_tokens(outcome.text))
        return Answer(
            text=outcome.text,
            stop_reason=outcome.stop_reason,
            error=outcome.error,
            input_tokens=guessed_in if outcome.input_tokens is None else outcome.input_tokens,
            cached_input_tokens=outcome.cached_input_tokens,
            output_tokens=guessed_out if outcome.output_tokens is None else outcome.output_tokens,
            counted=outcome.input_tokens is not None and outcome.output_tokens is not None,
            latency_s=round(latency_s, 4),
            attempts=attempt,
            model=outcome.model,
        )

    async def _sleep(self, seconds: float) -> None:
        """Wait; raises where the work ends meanwhile."""
        try:
            await asyncio.wait_for(self._stop.wait(), seconds)
        except TimeoutError:
            return
        raise _StoppedError

    async def _until(self, event: asyncio.Event) -> None:
        """Wait for an event; raises where the work ends first."""
        waiting = [asyncio.ensure_future(event.wait()), asyncio.ensure_future(self._stop.wait())]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting:
                task.cancel()
        if self._stop.is_set():
            raise _StoppedError
