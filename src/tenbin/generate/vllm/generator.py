"""VllmGenerator: answers of a model that vLLM serves, each asked for once and kept in the study folder."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from tenbin.errors import ModelError
from tenbin.generate.hosted import CallPlan, HostedGenerator
from tenbin.generate.vllm.server import VllmServer
from tenbin.types import Completion, GenerationConfig, Message


@dataclass(frozen=True, slots=True)
class VllmGenerator:
    """A `tenbin.types.Generator`; starts the server when there is something to ask."""

    asked: HostedGenerator
    """From `served`; does not know yet where the server is."""
    server: VllmServer

    @property
    def model_id(self) -> str:
        """Name for tables."""
        return self.asked.model_id

    def __enter__(self) -> "VllmGenerator":
        return self

    def __exit__(self, *error: object) -> None:
        self.server.close()

    def plan(self, prompts: Sequence[Sequence[Message]], config: GenerationConfig) -> CallPlan:
        """What is still to be asked; starts nothing."""
        return self.asked.plan(prompts, config)

    def generate(
        self, prompts: Sequence[Sequence[Message]], config: GenerationConfig
    ) -> Iterator[tuple[int, Completion]]:
        """Yield (index, completion) of every prompt; see `HostedGenerator.generate`.

        Raises:
            ModelError: the server does not start, or ended while asked: with the last lines of its log.
            StorageError: the answers cannot be written, or another process writes them.
            DataError: the kept answers are damaged.
        """
        asked = self.asked
        if self.plan(prompts, config).num_calls:
            reached = self.server.reach()
            service = replace(asked.terms.service, at=reached.address)
            asked = replace(asked, terms=replace(asked.terms, service=service, secret=reached.key))
        try:
            yield from asked.generate(prompts, config)
        except ModelError:
            if (ended := self.server.fallen()) is not None:
                raise ModelError(ended) from None
            raise
