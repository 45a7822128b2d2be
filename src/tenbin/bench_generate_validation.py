"""What validating an epoch costs beside training it, both measured in one process on the same questions."""

import gc
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tenbin.bench import TrainBench
from tenbin.bench_generate import Answering, measure_generation
from tenbin.bench_generate_works import GenerateWork, generate_work
from tenbin.bench_works import QUESTIONS, Work, questions
from tenbin.memory import CPU_MICRO_BATCH, GPU_MICRO_BATCH

NAME = f"{QUESTIONS}-validation"
"""Of the work, in its line."""
HELD_OUT = 0.1
"""Of the questions, where no number of training examples is given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch:
    """What is trained and what is held out."""

    training: Work
    """Gives the rate of training; its questions are those of the file."""
    num_trained: int
    """Examples of the epoch."""
    held_out: GenerateWork

    @classmethod
    def make(
        cls,
        lengths: Path,
        *,
        vocabulary: int,
        gpu: bool,
        batch_size: int,
        num_trained: int | None = None,
        count: int | None = None,
    ) -> "Epoch":
        """The last tenth of the questions is held out; with `num_trained` (of other data) all of them are.

        Args:
            batch_size: questions of a training step.
            count: of questions; None: all of the file.

        Raises:
            DataError: the file cannot be read, or has fewer questions than `count` or than a step takes.
        """
        asked = generate_work(QUESTIONS, vocabulary=vocabulary, lengths=lengths, count=count)
        most_tokens = GPU_MICRO_BATCH if gpu else CPU_MICRO_BATCH
        training = questions(lengths, most_tokens=most_tokens, batch_size=batch_size, vocabulary=vocabulary)
        prompts = asked.prompts
        if num_trained is None:
            held = max(1, round(HELD_OUT * len(prompts)))
            num_trained = len(prompts) - held
            prompts = prompts[-held:]
        return cls(
            training=training,
            num_trained=num_trained,
            held_out=replace(asked, name=NAME, prompts=prompts),
        )


def measure_validation(built: TrainBench, epoch: Epoch, how: Answering, *, steps: int) -> dict[str, Any]:
    """The line of `measure_generation` on what is held out, with the adapter in use, and the share.

    All of it is answered once, cold: kernels that no file of this machine holds yet are compiled then. The
    validations after that are what every later epoch takes. Each lays out its cache anew, within its time.

    Returns:
        beside those figures `held_out` and `epoch_examples` (numbers of examples), `train_examples_per_s`,
        `first_validation_s`, `validation_s` (median of the later ones), `epoch_s`, and of both the share:
        `first_validation_share` and `validation_share`, seconds of validating over seconds of training.
    """
    found = measure_generation(built, epoch.held_out, replace(how, warm_up=1.0, laid_out=True))
    gc.collect()  # the cache, which training needs the room of
    rate = built.measure(epoch.training, steps=steps)["examples_per_s"]
    shares: dict[str, Any] = {
        "held_out": len(epoch.held_out.prompts),
        "epoch_examples": epoch.num_trained,
        "train_examples_per_s": rate,
        "epoch_s": round(epoch.num_trained / rate, 2),
    }
    for name, seconds in (("first_validation", found.get("warm_up_s")), ("validation", found["seconds"])):
        share = None if seconds is None else round(seconds * rate / epoch.num_trained, 4)
        shares |= {f"{name}_s": seconds, f"{name}_share": share}
    return found | shares
