"""Usage and CallPlan: what hosted answers took, and what those still to be asked will take at most."""

from dataclasses import dataclass, field

from tenbin.generate.hosted.answers import Answer
from tenbin.generate.hosted.prices import Cost


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What a generator's answers took, over all its repeats."""

    num_calls: int
    """Calls that this process sent, with those that failed."""
    num_answers: int
    """Answers that this process asked for and got."""
    num_cached: int
    """Answers that were there already."""
    num_errors: int
    """Questions without an answer; the next run asks them again."""
    num_unanswerable: int
    """Questions to which no answer can be had: the model spent its tokens before it said anything, or the
    prompt cannot be sent. They are not asked again."""
    num_filtered: int
    """Answers that the service's content filter kept back."""
    num_lost: int
    """Calls that may have been billed without giving an answer: cut, timed out, or in flight when a process
    died. Of all processes."""
    num_estimated: int
    """Answers whose tokens the service did not count."""
    input_tokens: int
    cached_input_tokens: int
    output_tokens: int
    cost: Cost | None
    """Of all answers, also of those that were there already: what they cost when they were asked for."""
    lost_cost: Cost | None
    """Of the lost calls, at most."""
    cost_note: str
    """Where the prices come from, or why there is no cost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallPlan:
    """What is still to be asked, before anything is sent."""

    num_prompts: int
    repeats: int
    num_calls: int
    """Calls to be made, if none fails."""
    num_cached: int
    """Answers that are there already."""
    input_tokens: int
    output_tokens: int
    """At most."""
    cost: Cost | None
    """At most, if no call fails."""
    cost_note: str
    """Where the prices come from, or why there is no cost."""
    rule: str
    """How the tokens of the prompts were estimated."""


@dataclass(slots=True)
class Tally:
    """Counts what a generator yields, over all its repeats."""

    num_calls: int = 0
    num_answers: int = 0
    num_cached: int = 0
    num_errors: int = 0
    num_unanswerable: int = 0
    num_filtered: int = 0
    num_estimated: int = 0
    input_tokens: int = 0
    cached_input_tokens: int = 0
    output_tokens: int = 0
    usd: float = 0.0
    seen: set[str] = field(default_factory=set)
    """Answers counted: one that serves several examples was paid for once."""

    def take(self, key: str, answer: Answer, usd: float, *, cached: bool) -> None:
        """Count one answer, the first time it is met."""
        if key in self.seen:
            return
        self.seen.add(key)
        self.num_cached += cached
        self.num_answers += not cached
        self.num_filtered += answer.stop_reason == "content_filter"
        self.num_unanswerable += answer.stop_reason == "error"
        self.num_estimated += not answer.counted
        self.input_tokens += answer.input_tokens
        self.cached_input_tokens += answer.cached_input_tokens
        self.output_tokens += answer.output_tokens
        self.usd += usd
