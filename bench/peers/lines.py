"""What the process of another tool prints: a JSON line a work, flushed one by one, until the time is over."""

import gc
import json
import signal
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

STARTED = time.monotonic()


class TimeOver(BaseException):
    """The time limit has passed. No library may catch it as an error of its own."""


class Alarm:
    """Raises TimeOver when the limit has passed, and again, should something swallow it, until `stop`."""

    EVERY_S = 2.0

    def __init__(self, limit_s):
        self.held = False
        signal.signal(signal.SIGALRM, self._over)
        if limit_s is not None:
            left = max(0.001, limit_s - (time.monotonic() - STARTED))
            signal.setitimer(signal.ITIMER_REAL, left, self.EVERY_S)

    def _over(self, signum, frame):
        if not self.held:
            raise TimeOver

    @contextmanager
    def later(self):
        """The block is done whole; the next signal comes soon."""
        self.held = True
        try:
            yield
        finally:
            self.held = False

    def stop(self):
        """No more of it."""
        signal.setitimer(signal.ITIMER_REAL, 0)


class Lines:
    """The lines of one process: what all of them say, and what is still to be measured."""

    def __init__(self, options, *, bench, system, figures, **what):
        """`figures`: keys that are None where nothing was measured; `what`: more that all lines say."""
        self.options, self.alarm = options, Alarm(options.time_limit)
        self.who = {"bench": bench, "system": system, "variant": options.variant}
        self.figures, self.what = figures, what
        self.same = {}
        self.measured = 0
        self.left = [(model, work) for model in options.model for work in options.work]

    @property
    def over(self):
        """The reason of a work that the time limit cut short."""
        return f"the time limit of {self.options.time_limit:g} s passed"

    def come_from(self, device, packages):
        """Note where the lines of this process come from; its GPU is held to the cap."""
        from tenbin.bench_record import revision, versions

        device.cap(self.options.vram_mib)
        self.same = {
            "gpu": device.name,
            "versions": versions(*packages),
            "commit": self.options.commit or revision(),
        }

    def add(self, model, work, found, *, more=False):
        """Print a line, and add it to the file; `more`: it is not the last of this work."""
        with self.alarm.later():
            if not more:
                self.left.remove((model, work))
            self.measured += found.get("tokens_per_s") is not None
            line = {
                **self.who,
                "model": model,
                "work": work,
                **self.what,
                **found,
                "cap_mib": self.options.vram_mib,
                **self.same,
            }
            text = json.dumps(line)
            print(text, flush=True)
            if self.options.output is not None:
                self.options.output.parent.mkdir(parents=True, exist_ok=True)
                with self.options.output.open("a", encoding="utf-8") as file:
                    file.write(text + "\n")

    def nothing(self, reason):
        """What is found where nothing was measured."""
        return {**dict.fromkeys(self.figures), "reason": reason}

    def add_rest(self, reason, of_model=None):
        """Lines for what was not measured."""
        for model, work in list(self.left):
            if of_model in (None, model):
                self.add(model, work, self.nothing(reason))

    def of(self, run):
        """Call `run`; a line with the reason for each work that it does not come to. Ends the process."""
        try:
            run()
        except TimeOver:
            self.alarm.stop()
            self.add_rest(self.over)
        except Exception as error:  # such as a tool that is not installed
            self.alarm.stop()
            self.add_rest(said(error))
            raise
        sys.exit(0 if self.measured else 1)


def add_arguments(parser, variants, works):
    """Those that every peer has."""
    parser.add_argument("variant", choices=variants)
    parser.add_argument("--model", action="append", help="7b, 13b or tiny (repeatable; 7b)")
    parser.add_argument("--work", action="append", help=f"repeatable; {', '.join(works)}")
    parser.add_argument("--lengths", type=Path, help="what bench/question_lengths.py printed, for jsquad")
    parser.add_argument("--vram-mib", type=int)
    parser.add_argument(
        "--time-limit", type=float, metavar="S", help="of the whole process, imports included"
    )
    parser.add_argument("--scratch", type=Path, default=Path(tempfile.gettempdir()) / "tenbin-peers")
    parser.add_argument("--commit", help="revision to note, where the source is not in a git tree")
    parser.add_argument("--output", type=Path, metavar="FILE.jsonl", help="add the lines to this file too")


def find_source():
    """Where tenbin is not installed, its source beside this folder."""
    source = Path(__file__).parents[2] / "src"
    if str(source) not in sys.path:
        sys.path.append(str(source))


def attempt(make):
    """(what it makes, None), or (None, why not). The failed attempt's tensors are free afterwards."""
    import torch

    try:
        return make(), None
    except torch.OutOfMemoryError as error:
        reason = f"out of memory under the cap: {str(error).splitlines()[0]}"
    except Exception as error:  # a tool of others: whatever it raises is its result
        reason = said(error)
        print(reason, file=sys.stderr)
    free()
    return None, reason


def free():
    """Give back what no tensor holds any more."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def said(error):
    return f"{type(error).__name__}: {error}"[:300]


def wait(device):
    """Until the device has done all that it was given."""
    if device.kind == "cuda":
        import torch

        torch.cuda.synchronize()


def memory(device, roof):
    """What a line says of the memory, and the rate of a large matrix product in this process."""
    import torch

    from tenbin.memory import MIB

    gpu = device.kind == "cuda"
    free_bytes, total = torch.cuda.mem_get_info() if gpu else (0, 0)
    return {
        "planned_mib": None,
        "peak_mib": round(device.peak_mib()),
        "driver_mib": round((total - free_bytes) / MIB),
        "allocated_mib": round(torch.cuda.max_memory_allocated() / MIB) if gpu else None,
        "roof_tflops": float(f"{roof / 1e12:.4g}"),
    }
