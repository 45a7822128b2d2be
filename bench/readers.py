"""Reading 151,657 rows of JSON Lines: tenbin (read, validate, fingerprint) against pandas (read).

    python bench/readers.py ../shared/data/economy-watchers/current-train.jsonl.gz --pandas PYTHON

pandas is no dependency of tenbin: PYTHON is that of any environment that has it (`pip install pandas`).
Each reading is a process of its own, in turn, `--times` times; one JSON line each, then one with the medians.
Seconds are those of the reading alone, without starting Python and importing; the peak is of the process.
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

PREPARE = {
    "pandas": "import pandas",
    "tenbin": """
from pathlib import Path
from tenbin.config import DataConfig
from tenbin.data import Dataset, read_examples
config = DataConfig(train="x", columns={"text": "追加説明及び具体的状況の説明", "category": "景気の現状判断"})
""",
}
READ = {
    "pandas": "rows = len(pandas.read_json(path, lines=True))",
    "tenbin": """
result = read_examples(Path(path), input_fields=("text",), target_field="category", config=config)
assert not result.errors
dataset = Dataset.of("train", result.examples)
rows = len(dataset)
""",
}
MEASURE = """
import json, resource, sys, time
path = sys.argv[1]
{prepare}
begin, begin_cpu = time.perf_counter(), time.process_time()
{read}
seconds, cpu = time.perf_counter() - begin, time.process_time() - begin_cpu
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(json.dumps({{"seconds": seconds, "cpu_s": cpu, "peak_bytes": peak, "rows": rows}}))
"""


def measure(name: str, python: str, path: Path) -> dict[str, object]:
    """One reading in a process of its own."""
    program = MEASURE.format(prepare=PREPARE[name], read=READ[name])
    done = subprocess.run([python, "-c", program, str(path)], capture_output=True, text=True, check=True)
    return {"reader": name, **json.loads(done.stdout)}


def main() -> None:
    """Measure both in turn and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("path", type=Path)
    parser.add_argument("--pandas", required=True, help="Python of an environment with pandas")
    parser.add_argument("--times", type=int, default=5)
    args = parser.parse_args()
    lines: dict[str, list[dict[str, object]]] = {"pandas": [], "tenbin": []}
    for _ in range(args.times):
        for name, python in (("pandas", args.pandas), ("tenbin", sys.executable)):
            line = measure(name, python, args.path)
            lines[name].append(line)
            print(json.dumps(line), flush=True)
    medians = {
        name: {
            key: statistics.median(float(str(line[key])) for line in found)
            for key in ("seconds", "cpu_s", "peak_bytes")
        }
        for name, found in lines.items()
    }
    ratios = {key: round(medians["tenbin"][key] / medians["pandas"][key], 3) for key in medians["tenbin"]}
    print(json.dumps({"medians": medians, "tenbin / pandas": ratios}))


if __name__ == "__main__":
    main()
