"""Later: a generator that is opened when it is first asked, and says before it what the calls may cost."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from tenbin.generate.hosted import HostedGenerator
from tenbin.study.screen import Screen
from tenbin.types import Completion, GenerationConfig, Generator, Message


class Later:
    """Opens nothing where nothing is asked: what is all done needs no weights, no key and no network."""

    def __init__(self, model_id: str, open_it: Callable[[], Generator], screen: Screen) -> None:
        self._model_id = model_id
        self._open = open_it
        self._screen = screen
        self._opened: Generator | None = None

    @property
    def model_id(self) -> str:
        """Name for tables."""
        return self._model_id

    def generate(
        self, prompts: Sequence[Sequence[Message]], config: GenerationConfig
    ) -> Iterator[tuple[int, Completion]]:
        """As the generator that is opened now, if it is not open yet.

        Raises:
            UserError: what keeps it from being opened.
        """
        if not prompts:
            return
        self._opened = self._opened or self._open()
        if isinstance(self._opened, HostedGenerator):
            self._screen.say(calls_line(self._opened, prompts, config))
        yield from self._opened.generate(prompts, config)


def calls_line(
    generator: HostedGenerator, prompts: Sequence[Sequence[Message]], config: GenerationConfig
) -> str:
    """`judge: 40 calls, about 12,000 prompt tokens, at most $0.0123 (1.8 yen)`."""
    plan = replace(generator, repeats=1).plan(prompts, config)  # `generate` asks once
    cost = f"at most {plan.cost}" if plan.cost is not None else f"cost unknown: {plan.cost_note}"
    cached = f" ({plan.num_cached:,} answers are there already)" if plan.num_cached else ""
    tokens = f"about {plan.input_tokens:,} prompt tokens"
    return f"{generator.model_id}: {plan.num_calls:,} calls{cached}, {tokens}, {cost}"
