"""Judges the answers of a study: prompts, strict verdicts, and one grade a judgement for the store."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tenbin.grading.items import Item
from tenbin.grading.store import AnswerKey, Grade, now
from tenbin.judge.prompt import VERSION, JudgePrompt, grading_prompt
from tenbin.judge.verdict import read_grade
from tenbin.types import Completion, GenerationConfig, Generator

BY_JUDGE, BY_PEOPLE = "judge", "people"


@dataclass(frozen=True, slots=True, kw_only=True)
class Judging:
    """How a judge is asked."""

    grader: str
    """Name in the store: `gpt-4o`."""
    scale: tuple[float, ...]
    """Allowed grades, from low to high."""
    repeats: int
    max_new_tokens: int
    seed: int
    chat: bool

    @property
    def source(self) -> str:
        """The settings in a line: grades of other settings are made anew."""
        scale = "/".join(f"{grade:g}" for grade in self.scale)
        return (
            f"{VERSION} scale={scale} seed={self.seed} chat={self.chat} max_new_tokens={self.max_new_tokens}"
        )


def items_to_judge(items: Sequence[Item], *, calibrate: bool) -> tuple[Item, ...]:
    """The answers whose questions say `grade = judge`; to calibrate also those that people grade."""
    wanted = (BY_JUDGE, BY_PEOPLE) if calibrate else (BY_JUDGE,)
    return tuple(item for item in items if item.fields["grade"] in wanted)


def judge_items(
    items: Sequence[Item],
    judge: Generator,
    how: Judging,
    *,
    given: Sequence[Grade] = (),
    keep: Callable[[Grade], None],
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Ask for every grade that is not there yet.

    A completion that is no verdict becomes a grade without a value: counted, asked no second time (a greedy
    judge would say the same). A call that failed becomes one, too, and is made again the next time.

    Args:
        given: the store as it is.
        keep: called with every new grade as soon as it is there.
    """
    asked = to_judge(items, how, given)
    total = how.repeats * len(items)
    num_done = total - len(asked)
    config = GenerationConfig(max_new_tokens=how.max_new_tokens)
    for index, completion in judge.generate([prompt.messages for _, _, prompt in asked], config):
        item, repeat, prompt = asked[index]
        keep(make_grade(item, repeat, prompt, completion, how))
        num_done += 1
        on_progress(num_done, total)


def to_judge(
    items: Sequence[Item], how: Judging, given: Sequence[Grade] = ()
) -> list[tuple[Item, int, JudgePrompt]]:
    """(answer, number of the repeat, prompt) of every judgement that is not in the store yet."""
    done = _done(given, how)
    return [
        (item, repeat, _prompt(item, how, repeat))
        for repeat in range(how.repeats)
        for item in items
        if (item.key, repeat) not in done
    ]


def make_grade(item: Item, repeat: int, prompt: JudgePrompt, completion: Completion, how: Judging) -> Grade:
    """One judgement as the store keeps it."""
    details: dict[str, str | int | None] = {
        "completion": completion.text,
        "code": prompt.code,
        "stop_reason": completion.stop_reason,
        "input_tokens": completion.input_tokens,
        "output_tokens": completion.output_tokens,
    }
    if completion.error is not None:
        value, reason = None, f"the judge gave no completion: {completion.error}"
        details["error"] = completion.error
    else:
        verdict = read_grade(completion.text, prompt.code, how.scale)
        value = verdict.value if isinstance(verdict.value, float) else None
        reason = verdict.reason if value is not None else f"unparsed: {verdict.reason}"
    return Grade(
        question=item.question,
        version=item.version,
        answer=item.answer,
        extracted=item.extracted,
        grade=value,
        scale=how.scale,
        kind="judge",
        grader=how.grader,
        reason=reason,
        time=now(),
        repeat=repeat,
        source=how.source,
        details=details,
    )


def _prompt(item: Item, how: Judging, repeat: int) -> JudgePrompt:
    shown: Mapping[str, str] = {
        name: item.fields.get(name, "") for name in ("question", "context", "choices", "marking_note")
    }
    return grading_prompt(shown, item.references, item.answer, how.scale, seed=how.seed, repeat=repeat)


def _done(given: Sequence[Grade], how: Judging) -> set[tuple[AnswerKey, int]]:
    """Judgements of this judge under these settings that need not be asked for again."""
    latest: dict[tuple[AnswerKey, int], Grade] = {}
    for grade in given:
        if grade.kind == "judge" and grade.grader == how.grader:
            latest[grade.key, grade.repeat] = grade
    return {
        key
        for key, grade in latest.items()
        if grade.source == how.source and grade.details.get("error") is None
    }
