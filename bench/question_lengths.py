"""Lengths in tokens of passages, questions and answers, for the work `jsquad` of `tenbin bench train`.

    python bench/question_lengths.py DATA TOKENIZER [--before 3] [--around 12] > lengths.json

DATA is a file of SQuAD's schema (JSON, also gzipped), such as JSQuAD's; TOKENIZER a folder of transformers.
A passage counts as it stands, with the tokens that a short template puts before it (--before), a question
with those around it (--around), the first answer with the one that ends it. Prints JSON: a list of
[passage tokens, [[question tokens, answer tokens], ...]]; numbers only, nothing of the texts.
"""

import argparse
import gzip
import json
from pathlib import Path

from transformers import AutoTokenizer


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("tokenizer")
    parser.add_argument("--before", type=int, default=3)
    parser.add_argument("--around", type=int, default=12)
    options = parser.parse_args()
    raw = options.data.read_bytes()
    articles = json.loads(gzip.decompress(raw) if options.data.suffix == ".gz" else raw)["data"]
    tokenizer = AutoTokenizer.from_pretrained(options.tokenizer)

    def count(text):
        return len(tokenizer(text, add_special_tokens=False)["input_ids"])

    found = []
    for article in articles:
        for paragraph in article["paragraphs"]:
            asked = [
                [count(qa["question"]) + options.around, count(qa["answers"][0]["text"]) + 1]
                for qa in paragraph["qas"]
                if qa["answers"]
            ]
            if asked:
                found.append([count(paragraph["context"]) + options.before, asked])
    print(json.dumps(found, separators=(",", ":")))


if __name__ == "__main__":
    main()
