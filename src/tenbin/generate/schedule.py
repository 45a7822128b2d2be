"""Schedule: which tokens of which prompts and answers the next pass reads, and where in the cache they go.

A prompt is admitted when the cache has room for the rest of it and all of its answer, and leaves as soon as
it is answered. What several share stays until the last of them is answered. Each pass takes the newest token
of every answer, and fills up with prompts, long ones in pieces.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from tenbin.decoder.reading import Piece, Region
from tenbin.decoder.slots import Slots
from tenbin.generate.prompt_tree import Node, plant

WORTH_A_PASS = 16
"""While answers are written, prompts wait until they are one so-many-th of a pass or of the cache."""


@dataclass(frozen=True, slots=True)
class Request:
    """One prompt to be answered."""

    index: int
    """The asker's own number."""
    ids: tuple[int, ...]
    max_new_tokens: int
    adapter: str | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a request."""

    index: int
    new_ids: tuple[int, ...]
    """Without the token that ended it."""
    reason: Literal["stop", "length", "error"]
    seconds: float
    """Since its prompt was begun."""
    error: str | None = None


@dataclass(slots=True, eq=False)
class Place:
    """One node of the tree while it is, or will be, in the cache."""

    number: int
    node: Node
    parent: "Place | None"
    request: Request | None
    """None: several go on from here."""
    adapter: str | None
    children: int = 0
    """Not yet answered."""
    start: int | None = None
    """First slot; None: not in the cache."""
    done: int = 0
    """Tokens read."""
    new_ids: list[int] = field(default_factory=list)
    begun: float = 0.0
    shared: tuple[Region, ...] = ()

    @property
    def room(self) -> int:
        """Slots it takes."""
        return len(self.node.ids) + (self.request.max_new_tokens if self.request else 0)

    @property
    def left(self) -> int:
        """Known tokens that are not read yet."""
        return len(self.node.ids) + len(self.new_ids) - self.done

    def piece(self, most: int) -> Piece:
        """The next tokens, at most so many."""
        assert self.start is not None
        ids = self.node.ids[self.done : self.done + most] if not self.new_ids else self.new_ids[-1:]
        whole = self.request is not None and len(ids) == self.left
        return Piece(ids, self.start, self.done, self.shared, self.adapter, whole)


Step = tuple[Place, Piece]
Stopped = Callable[[Sequence[int]], bool]
"""New ids of an answer -> whether it ends here."""


class Schedule:
    """The requests of one run, waiting, in the cache, and answered."""

    def __init__(
        self, requests: Sequence[Request], slots: Slots, *, most_rows: int, most_shared: int | None
    ) -> None:
        """`most_shared`: tokens of the longest prompt and answer that may share a beginning; None = any."""
        self._slots = slots
        self._most_rows = most_rows
        self._waiting = [place for group in _by_adapter(requests) for place in _places(group, most_shared)]
        for number, place in enumerate(self._waiting):
            place.number = number
        self._waiting.reverse()  # the next one is the last
        self._waiting_tokens = sum(place.room for place in self._waiting)
        self._waiting_rows = sum(place.request is not None for place in self._waiting)
        self._work: list[Place] = []
        """In the cache with something left to read, by number."""
        self._rows = 0

    def next(self, most_tokens: int, least_prompts: int = 0) -> list[Step]:
        """What the next pass reads: the newest token of every answer, then prompts.

        Args:
            most_tokens: of the pass.
            least_prompts: tokens of prompts that it should have at least, or it is put off.

        Returns:
            in the tree's order; [] when nothing can be read: all is answered, or waits for what is under way.
        """
        chosen = [place for place in self._work if place.new_ids and place.left][:most_tokens]
        steps = [(place, place.piece(1)) for place in chosen]
        budget = most_tokens - len(steps)
        waiting = sum(place.left for place in self._work if not place.new_ids)
        if waiting < budget and self._worth_a_pass(most_tokens):
            self._admit(budget - waiting)
        spent = 0
        for place in self._work:
            if spent == budget:
                break
            if not place.new_ids and place.left:
                piece = place.piece(budget - spent)
                steps.append((place, piece))
                spent += len(piece.ids)
        return sorted(steps, key=lambda step: step[0].number) if spent >= least_prompts else []

    def begin(self, steps: Sequence[Step]) -> None:
        """Take note of a pass that is under way: what comes after it may count on it."""
        for place, piece in steps:
            place.done += len(piece.ids)
        self._work = [place for place in self._work if place.request or place.left]

    def settle(
        self, steps: Sequence[Step], tokens: Sequence[int], end_ids: frozenset[int], stopped: Stopped | None
    ) -> list[Answer]:
        """Take note of the tokens that a pass predicts, which has begun; the answers that end."""
        answers, following = [], iter(tokens)
        for place, piece in steps:
            if piece.predicts:
                token = next(following)
                reason = _reason(place, token, end_ids, stopped)
                if reason is not None:
                    answers.append(self._answer(place, reason))
        self._work = [place for place in self._work if place.start is not None]
        return answers

    def fail(self, place: Place, error: str) -> list[Answer]:
        """Give up on a place and all that goes on from it."""
        lost = [p for p in (*self._work, *self._waiting) if p is place or _is_behind(p, place)]
        answers = []
        for p in sorted(lost, key=lambda p: -p.number):
            if p in self._waiting:
                self._waiting.remove(p)
                self._waiting_tokens -= p.room
                self._waiting_rows -= p.request is not None
            if p.request is not None:
                answers.append(self._answer(p, "error", error))
        self._work = [p for p in self._work if p.start is not None]
        return answers

    def _worth_a_pass(self, most_tokens: int) -> bool:
        """Whether prompts should join the pass: it is better to read a few at once than one by one."""
        if self._rows == 0:
            return True
        tokens = min(self._waiting_tokens, most_tokens // WORTH_A_PASS, self._slots.total // WORTH_A_PASS)
        rows = min(self._waiting_rows, self._most_rows // WORTH_A_PASS)
        return self._slots.free >= tokens and self._most_rows - self._rows >= rows

    def _admit(self, budget: int) -> None:
        """Take prompts in, in order, until the pass is full or something has no room."""
        while self._waiting and budget > 0 and self._rows < self._most_rows:
            chain = self._next_chain()
            if not self._take(chain):
                if self._rows:
                    return
                # Only beginnings that the next prompt shares are left: they stand in each other's way.
                self._evict()
                chain = self._next_chain()
                taken = self._take(chain)
                assert taken, "a request that can never fit is refused before"
            for place in chain:
                budget -= place.left
            self._rows += 1

    def _next_chain(self) -> list[Place]:
        """The next prompt behind all that has to be read for it, from the beginning on."""
        leaf = next(place for place in reversed(self._waiting) if place.request is not None)
        chain, place = [leaf], leaf.parent
        while place is not None and place.start is None:
            chain.append(place)
            place = place.parent
        return chain[::-1]

    def _take(self, chain: Sequence[Place]) -> bool:
        """Give every place of a chain its slots, or none."""
        starts: list[int] = []
        for place in chain:
            start = self._slots.take(place.room)
            if start is None:
                for given, held in zip(starts, chain, strict=False):
                    self._slots.give_back(given, held.room)
                return False
            starts.append(start)
        now = time.perf_counter()
        for place, start in zip(chain, starts, strict=True):
            assert self._waiting.pop() is place
            self._waiting_tokens -= place.room
            self._waiting_rows -= place.request is not None
            place.start, place.done, place.begun = start, 0, now
            place.shared = () if place.parent is None else (*place.parent.shared, _region(place.parent))
            self._work.append(place)
        return True

    def _evict(self) -> None:
        """Take the shared beginnings of the next prompt out again; they will be read anew."""
        place = self._next_chain()[0].parent
        while place is not None:
            self._free(place)
            self._waiting.append(place)
            self._waiting_tokens += place.room
            if place in self._work:
                self._work.remove(place)
            place = place.parent

    def _answer(
        self, place: Place, reason: Literal["stop", "length", "error"], error: str | None = None
    ) -> Answer:
        """The end of a request: its slots are free, and those that nobody else needs."""
        assert place.request is not None
        seconds = time.perf_counter() - place.begun if place.begun else 0.0
        ids = () if error else tuple(place.new_ids)
        answer = Answer(place.request.index, ids, reason, seconds, error)
        if place.start is not None:
            self._rows -= 1
            self._free(place)
        above = place.parent
        while above is not None:
            above.children -= 1
            if above.children:
                break
            if above.start is not None:
                self._free(above)
            above = above.parent
        return answer

    def _free(self, place: Place) -> None:
        assert place.start is not None
        self._slots.give_back(place.start, place.room)
        place.start = None


def _reason(
    place: Place, token: int, end_ids: frozenset[int], stopped: Stopped | None
) -> Literal["stop", "length"] | None:
    """Take one predicted token; why the answer ends with it, or None."""
    assert place.request is not None
    if token in end_ids:
        return "stop"
    place.new_ids.append(token)
    if stopped is not None and stopped(place.new_ids):
        return "stop"
    return "length" if len(place.new_ids) >= place.request.max_new_tokens else None


def slots_needed(requests: Sequence[Request], most_shared: int | None) -> int:
    """Slots that hold all prompts and answers at once, what several begin with held once; see `Schedule`."""
    return sum(place.room for group in _by_adapter(requests) for place in _places(group, most_shared))


def _by_adapter(requests: Sequence[Request]) -> Iterator[list[Request]]:
    """The requests of each adapter, those of none first: each has keys and values of its own."""
    for name in sorted(
        {request.adapter for request in requests}, key=lambda name: (name is not None, name or "")
    ):
        yield [request for request in requests if request.adapter == name]


def _places(requests: Sequence[Request], most_shared: int | None) -> list[Place]:
    """The tree of the requests of one adapter, depth first."""
    may_share = [most_shared is None or len(r.ids) + r.max_new_tokens <= most_shared for r in requests]
    places: list[Place] = []
    for node in plant([request.ids for request in requests], may_share):
        parent = None if node.parent is None else places[node.parent]
        if parent is not None:
            parent.children += 1
        request = None if node.prompt is None else requests[node.prompt]
        places.append(Place(len(places), node, parent, request, requests[0].adapter))
    return places


def _region(place: Place) -> Region:
    assert place.start is not None
    return place.start, place.start + place.room


def _is_behind(place: Place, other: Place) -> bool:
    above = place.parent
    while above is not None:
        if above is other:
            return True
        above = above.parent
    return False
