"""HostedGenerator: answers of a model that others run, each asked for once and kept in the study folder."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from tenbin.errors import ModelError, Problem
from tenbin.generate.hosted.answers import Answer
from tenbin.generate.hosted.asking import Asking, Terms
from tenbin.generate.hosted.failures import Failure
from tenbin.generate.hosted.prices import Prices
from tenbin.generate.hosted.request import HostedRequest, make_request
from tenbin.generate.hosted.usage import CallPlan, Tally, Usage
from tenbin.generate.stopping import first_stop
from tenbin.types import Completion, GenerationConfig, JsonValue, Message


@dataclass(frozen=True, slots=True, kw_only=True)
class HostedGenerator:
    """A `tenbin.types.Generator` over one hosted model; `open_hosted` makes it."""

    model_id: str
    terms: Terms
    prices: Prices
    say: Callable[[str], None]
    repeats: int = 1
    """Answers asked for each question: `repeat(0)` ... `repeat(repeats - 1)`."""
    number: int = 0
    """Which of them this generator gives."""
    tally: Tally

    @property
    def fingerprint(self) -> str:
        """Names service, model and parameters."""
        return self.terms.service.fingerprint

    @property
    def settings(self) -> Mapping[str, JsonValue]:
        """Everything that shapes the answers besides prompt and task; holds no key."""
        return self.terms.service.settings

    def repeat(self, number: int) -> "HostedGenerator":
        """The generator of another repeat: the same service, budget and store, other answers."""
        assert 0 <= number < self.repeats, f"there are repeats 0 to {self.repeats - 1}"
        return replace(self, number=number)

    def generate(
        self, prompts: Sequence[Sequence[Message]], config: GenerationConfig
    ) -> Iterator[tuple[int, Completion]]:
        """Yield (index, completion) of every prompt: those that are kept first, then as they come.

        An answer is on the disk before it is yielded; closing the iterator or Ctrl-C waits for the calls in
        flight, whose answers are kept too (a second Ctrl-C leaves them).

        Raises:
            ModelError: an error that concerns every call: key, model, address, quota, or a service that
                answers nothing any more. What was answered is kept.
            CostError: the next call could pass max_cost.
            StorageError: the answers cannot be written, or another process writes them.
            DataError: the kept answers are damaged.
        """
        wanted: dict[str, list[int]] = {}
        requests: dict[str, HostedRequest] = {}
        for index, messages in enumerate(prompts):
            unsendable = _unsendable(messages)
            if unsendable is not None:
                self.tally.num_unanswerable += 1
                yield index, unsendable
                continue
            request = make_request(self.terms.service, messages, config, self.number)
            requests[request.key] = request
            wanted.setdefault(request.key, []).append(index)
        store = self.terms.store
        with store.writing():
            self.terms.purses.begin(store)
            kept = [key for key in wanted if key in store.answers]
            for key in kept:
                yield from self._completions(requests[key], store.answers[key], wanted[key], cached=True)
            missing = [request for key, request in requests.items() if key not in store.answers]
            for request, outcome in self._ask(missing):
                yield from self._completions(request, outcome, wanted[request.key], cached=False)

    def _ask(self, questions: Sequence[HostedRequest]) -> Iterator[tuple[HostedRequest, Answer | Failure]]:
        if not questions:
            return
        asking = Asking(self.terms, questions)
        asking.start()
        try:
            while (item := asking.outcomes.get()) is not None:
                if isinstance(item, str):
                    self.say(item)
                else:
                    yield item
        finally:
            try:
                if asking.in_flight:
                    self.say(f"{self.model_id}: waiting for {asking.in_flight} calls in flight")
                asking.stop()
            except KeyboardInterrupt:
                asking.abandon()
                raise
            finally:
                self.tally.num_calls += asking.num_calls
        if asking.bug is not None:
            raise RuntimeError(f"a mistake of tenbin in a hosted call:\n{asking.bug}")
        if asking.error is not None:
            raise asking.error

    def _completions(
        self, request: HostedRequest, outcome: Answer | Failure, indices: Sequence[int], *, cached: bool
    ) -> Iterator[tuple[int, Completion]]:
        """The completion of every prompt that is this request."""
        if isinstance(outcome, Failure):
            self.tally.num_errors += len(indices)
            completion = _no_answer(outcome.error)
        else:
            self.tally.take(request.key, outcome, self.terms.purses.usd(outcome), cached=cached)
            end = first_stop(outcome.text, request.stop)
            completion = Completion(
                text=outcome.text[:end],
                stop_reason="stop" if end is not None and outcome.error is None else outcome.stop_reason,
                input_tokens=outcome.input_tokens,
                output_tokens=outcome.output_tokens,
                latency_s=outcome.latency_s,
                error=outcome.error,
            )
        for index in indices:
            yield index, completion

    def plan(self, prompts: Sequence[Sequence[Message]], config: GenerationConfig) -> CallPlan:
        """What is still to be asked, for all repeats; sends nothing."""
        terms = self.terms
        requests = {
            request.key: request
            for messages in prompts
            for number in range(self.repeats)
            if _unsendable(messages) is None
            for request in [make_request(terms.service, messages, config, number)]
        }
        missing = [request for key, request in requests.items() if key not in terms.store.answers]
        input_tokens = sum(terms.estimate.tokens(r.ruled_tokens) for r in missing)
        output_tokens = sum(r.most.output_tokens for r in missing)
        price = terms.purses.price
        return CallPlan(
            num_prompts=len(prompts),
            repeats=self.repeats,
            num_calls=len(missing),
            num_cached=len(requests) - len(missing),
            input_tokens=input_tokens,
            output_tokens=output_tokens,
            cost=self.prices.cost(price.most_usd(input_tokens, output_tokens)) if price else None,
            cost_note=self._cost_note(),
            rule=terms.estimate.rule,
        )

    def usage(self) -> Usage:
        """What the answers took that this generator and its repeats have yielded."""
        tally, price, lost = self.tally, self.terms.purses.price, self.terms.store.lost
        lost_usd = sum(self.terms.purses.most_usd(billed) for billed in lost)
        return Usage(
            num_calls=tally.num_calls,
            num_answers=tally.num_answers,
            num_cached=tally.num_cached,
            num_errors=tally.num_errors,
            num_unanswerable=tally.num_unanswerable,
            num_filtered=tally.num_filtered,
            num_lost=len(lost),
            num_estimated=tally.num_estimated,
            input_tokens=tally.input_tokens,
            cached_input_tokens=tally.cached_input_tokens,
            output_tokens=tally.output_tokens,
            cost=self.prices.cost(tally.usd) if price else None,
            lost_cost=self.prices.cost(lost_usd) if price else None,
            cost_note=self._cost_note(),
        )

    def _cost_note(self) -> str:
        price = self.terms.purses.price
        if price is not None:
            return self.prices.note(price)
        name = self.terms.hosted.price or self.terms.service.source.model
        return f"no cost: {self.prices.where} has no price for {name}"


def _unsendable(messages: Sequence[Message]) -> Completion | None:
    """The completion of a prompt that cannot be sent as UTF-8."""
    try:
        for message in messages:
            message.content.encode()
    except UnicodeEncodeError as error:
        return _no_answer(f"the prompt holds half a character (a lone surrogate) at {error.start}: not sent")
    return None


def _no_answer(error: str) -> Completion:
    return Completion(text="", stop_reason="error", input_tokens=0, output_tokens=0, error=error)


def no_price(where: str, name: str, prices: Prices) -> ModelError:
    """That a limit cannot be kept without a price."""
    found = f"max_cost cannot be kept: {prices.where} has no price for {name}"
    remedy = "add a [[price]] to your price file (budget.prices), or name one in hosted.price"
    return ModelError(Problem(where=where, field="max_cost", found=found, remedy=remedy))
