"""Turn data sets whose files are no tables into JSON Lines that tenbin reads.

    python examples/prepare.py ../shared/data examples/prepared

livedoor-news (a tar of text files), JMMLU (a tar of 53 tables) and NIILC (XML) become one .jsonl.gz each;
JCommonsenseQA and MGSM become question banks: choices stand in one column, numbers are graded as numbers.
Nothing is downloaded, and what is written is for your own use: see the licence in each study file.
"""

import argparse
import csv
import gzip
import io
import json
import tarfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path

Row = dict[str, str | list[str]]


def livedoor(archive: Path) -> Iterator[Row]:
    """Articles: line 1 is the address, 2 the date, 3 the title, the rest the text."""
    with tarfile.open(archive) as tar:
        for member in tar:
            path = Path(member.name)
            is_article = path.name.startswith(f"{path.parent.name}-")
            stream = tar.extractfile(member) if is_article else None
            if stream is None:
                continue
            lines = stream.read().decode("utf-8-sig").splitlines()
            text = "\n".join(lines[3:]).strip()
            yield {"id": path.stem, "category": path.parent.name, "title": lines[2].strip(), "text": text}


def jmmlu(archive: Path) -> Iterator[Row]:
    """Questions: question, four choices, letter of the answer; the subject is the file's name."""
    with tarfile.open(archive) as tar:
        for member in tar:
            subject = Path(member.name).stem
            stream = tar.extractfile(member) if member.name.endswith(".csv") else None
            if stream is None:
                continue
            table = csv.reader(io.StringIO(stream.read().decode("utf-8-sig"), newline=""))
            for number, (question, *choices, answer) in enumerate(table, start=1):
                # One a line: the "\n" of some formulas became a line end in the source.
                texts = [" ".join(choice.split("\n")) for choice in choices]
                listed = [f"{letter}. {text}" for letter, text in zip("ABCD", texts, strict=True)]
                name = f"{subject}-{number}"
                yield {
                    "id": name,
                    "subject": subject,
                    "question": question,
                    "choices": listed,
                    "answer": answer,
                }


def niilc(document: Path) -> Iterator[Row]:
    """Questions with one or more answers; one without any would be left out (the file has none)."""
    with gzip.open(document) as stream:
        for question in ElementTree.parse(stream).iter("question"):
            answers = [text for answer in question.iter("answer") if (text := (answer.text or "").strip())]
            if answers:
                text = (question.findtext("text") or "").strip()
                yield {"id": question.get("id", ""), "question": text, "reference": answers}


def jcommonsenseqa(file: Path) -> Iterator[Row]:
    """Questions with their five choices in one column; the reference is the right choice's text."""
    with gzip.open(file, "rt", encoding="utf-8") as stream:
        for line in stream:
            row = json.loads(line)
            choices = [row[f"choice{number}"] for number in range(5)]
            yield {
                "id": str(row["q_id"]),
                "question": row["question"],
                "choices": choices,
                "reference": choices[row["label"]],
            }


def mgsm(file: Path) -> Iterator[Row]:
    """Questions whose answer is a whole number: 「１２個」 and 「12」 are the same answer."""
    with gzip.open(file, "rt", encoding="utf-8") as stream:
        for number, line in enumerate(stream, start=1):
            question, reference = line.rstrip("\n").split("\t")
            yield {"id": str(number), "question": question, "reference": reference, "grade": "number"}


def write_all(data: Path, out: Path) -> None:
    """Write the five files to `out`."""
    out.mkdir(parents=True, exist_ok=True)
    sources = {
        "livedoor-news": livedoor(data / "livedoor-news" / "livedoor-news-text.tar.gz"),
        "jmmlu": jmmlu(data / "jmmlu" / "jmmlu.tar.gz"),
        "niilc": niilc(data / "niilc" / "NIILC-ECQA2015_dev.xml.gz"),
        "jcommonsenseqa-bank": jcommonsenseqa(data / "jcommonsenseqa" / "valid-v1.3.json.gz"),
        "mgsm-ja-bank": mgsm(data / "mgsm-ja" / "mgsm_ja.tsv.gz"),
    }
    for name, rows in sources.items():
        path = out / f"{name}.jsonl.gz"
        count = 0
        with gzip.open(path, "wt", encoding="utf-8", compresslevel=3) as stream:
            for row in rows:
                stream.write(json.dumps(row, ensure_ascii=False) + "\n")
                count += 1
        print(f"{path}: {count:,} rows")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of the data sets")
    parser.add_argument("out", type=Path, help="folder to write to")
    args = parser.parse_args()
    write_all(args.data, args.out)


if __name__ == "__main__":
    main()
