"""BatchGenerator: answers requests greedily with a decoder, many at once over one cache."""

from collections import deque
from collections.abc import Collection, Iterator, Sequence

import torch

from tenbin.decoder.decoder import Decoder
from tenbin.decoder.reader import Following, Reader
from tenbin.decoder.shortage import is_shortage
from tenbin.decoder.slots import Slots
from tenbin.errors import ModelError, Problem
from tenbin.generate.schedule import Answer, Request, Schedule, Step, Stopped

__all__ = ["Answer", "BatchGenerator", "Request"]


class BatchGenerator:
    """Greedy decoding: prompts are admitted as others end, and what they begin with alike is read once.

    Neither the order of the requests nor what is read beside them changes an answer, up to rounding.
    """

    def __init__(
        self,
        decoder: Decoder,
        *,
        cache_tokens: int,
        end_ids: Collection[int],
        most_tokens: int = 8192,
        most_rows: int = 512,
        graphs: bool = True,
    ) -> None:
        """Lay out the cache.

        Args:
            cache_tokens: prompt and answer tokens that are held at once.
            end_ids: tokens that end an answer.
            most_tokens: of one pass; long prompts are read in pieces.
            most_rows: answers written at once.
            graphs: CUDA graphs for passes that only write, where there is a GPU.

        Raises:
            OutOfMemoryError: the device has no room for the cache.
        """
        assert cache_tokens > 0, "a cache has room for a token"
        assert most_tokens > 0, "a pass reads a token"
        assert most_rows > 0, "an answer is written at a time"
        self.decoder = decoder
        self.reader = Reader(decoder, cache_tokens, graphs=graphs)
        self.end_ids = frozenset(end_ids)
        self.most_tokens = most_tokens
        """Less than at first where the device turns out to have less memory."""
        self._fitted = 1
        """Most tokens of a pass so far."""
        self.most_rows = most_rows
        self.under_way = 2 if decoder.device.type == "cuda" else 1
        """Passes that are begun before the tokens of the first are known, where prompts fill them."""
        self.notes: list[str] = []
        """What was done with less memory than asked for."""
        self._most_shared = most_shared(decoder)

    @property
    def cache_tokens(self) -> int:
        """Prompt and answer tokens that are held at once."""
        return self.reader.cache.num_slots

    def run(self, requests: Sequence[Request], stopped: Stopped | None = None) -> Iterator[Answer]:
        """Answer every request; yields answers as they finish.

        What can never fit the cache, or the device's memory, is an answer with an error; nothing is cut.

        Args:
            stopped: tells of an answer's tokens so far whether it ends there; None: only `end_ids` end it.

        Raises:
            ModelError: requests name adapters that the model does not hold.
        """
        self._use(requests)
        able = []
        for request in requests:
            assert request.max_new_tokens > 0, "an answer has a token"
            error = _cannot(request, self.cache_tokens)
            if error is None:
                able.append(request)
            else:
                yield Answer(request.index, (), "error", 0.0, error)
        schedule = Schedule(
            able, Slots(self.cache_tokens), most_rows=self.most_rows, most_shared=self._most_shared
        )
        under_way: deque[tuple[list[Step], Following]] = deque()
        done: list[Answer] = []
        while True:
            # The GPU has the next pass waiting while the tokens of this one are taken note of.
            while len(under_way) < self.under_way:
                failed, launched = self._launch(schedule, ahead=bool(under_way))
                done += failed
                if launched is None:
                    break
                under_way.append(launched)
            yield from done
            if not under_way:
                return
            steps, following = under_way.popleft()
            done = schedule.settle(steps, following.ids(), self.end_ids, stopped)

    def _launch(
        self, schedule: Schedule, *, ahead: bool
    ) -> tuple[list[Answer], tuple[list[Step], Following] | None]:
        """Begin the next pass, with less at once where memory is short: (answers given up, the pass).

        Args:
            ahead: others are under way: only a pass with many tokens of prompts is worth it.
        """
        failed: list[Answer] = []
        while steps := schedule.next(self.most_tokens, self.most_tokens // 4 if ahead else 0):
            num_tokens = sum(len(piece.ids) for _, piece in steps)
            try:
                following = self.reader.read([piece for _, piece in steps])
            except RuntimeError as error:
                if not is_shortage(error):
                    raise  # else out of the handler, whose traceback holds the tensors of the failed pass
            else:
                self._fitted = max(self._fitted, num_tokens)
                schedule.begin(steps)
                return failed, (steps, following)
            if self.decoder.device.type == "cuda":
                torch.cuda.empty_cache()
            if num_tokens > 1:
                self.most_tokens = num_tokens // 2
                self.notes.append(f"at most {self.most_tokens} tokens at once")
            else:
                failed += schedule.fail(steps[0][0], _no_memory(steps[0]))
                self.most_tokens = self._fitted
        return failed, None

    def _use(self, requests: Sequence[Request]) -> None:
        """Let the adapters take part that the requests name, where they do not yet."""
        named = sorted({request.adapter for request in requests if request.adapter is not None})
        if not self.decoder.holds(named):
            self.decoder.use(named)
        held = {
            name
            for block in self.decoder.blocks
            for group in block.groups
            for low in group.lows
            for name in low.names
        }
        problems = [
            Problem(
                where=f"adapter {name!r}",
                found="the model holds no adapter of that name",
                remedy="add or read it first",
            )
            for name in named
            if name not in held
        ]
        if problems:
            raise ModelError(problems)


def most_shared(decoder: Decoder) -> int | None:
    """Tokens of the longest prompt and answer that may share a beginning: no window may cut it. None: any."""
    return min((block.window for block in decoder.blocks if block.window is not None), default=None)


def _cannot(request: Request, cache_tokens: int) -> str | None:
    """Why a request can never be answered; None where it can."""
    length, new = len(request.ids), request.max_new_tokens
    if not length:
        return "the prompt has no token: the first token of an answer has nothing to follow"
    if length + new > cache_tokens:
        room = f"the {cache_tokens} tokens there is room for"
        return f"prompt ({length} tokens) and answer ({new}) need more than {room}"
    return None


def _no_memory(step: Step) -> str:
    place, piece = step
    length = piece.position - piece.before + len(place.node.ids)
    return f"prompt ({length} tokens) needs more memory than there is, or than the cap allows"
