"""From rows to Examples: column and value mapping, and everything that can be wrong with a row."""

import difflib
import gc
import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing

from tenbin.data.advice import MAX_NAMED, label_notes, names_of, no_column, not_in_passage, short
from tenbin.data.cells import bad_characters, cell_text, reference_texts, storable
from tenbin.data.fields import Fields
from tenbin.data.files import MIB, Rows, Source
from tenbin.errors import DataError, Problem
from tenbin.types import Example

CATEGORY = "category"


class ExampleMaker:
    """Turns the rows of one file into examples and keeps count of every row."""

    def __init__(
        self,
        source: Source,
        rows: Rows,
        fields: Fields,
        labels: Mapping[str, str] | None,
        categories: Sequence[str] | None,
        group_required: bool,
    ) -> None:
        self._source, self._rows, self._fields = source, rows, fields
        self._is_category = is_category = fields.target == CATEGORY
        self._labels = labels if is_category else None
        self._categories = frozenset(categories) if categories is not None and is_category else None
        self.examples: list[Example] = []
        self.file_errors: list[Problem] = []
        self.row_errors: list[Problem] = []
        self.num_bad_rows = 0
        self.columns = rows.columns
        self._num_rows = 0
        self._label_values: Counter[str] = Counter()
        self._number_of_id: dict[str, int] = {}
        self._missing: dict[str, list[Problem]] = {}
        self._known: dict[str, tuple[str, ...]] = {}
        """Categories met so far as they are written, where `labels` has no say: most rows need no more."""
        self._category_references: dict[str, tuple[str, ...]] = {}
        self._stem = source.path.name.split(".")[0] or "row"
        self._input_names = frozenset(name for name, _, _ in fields.inputs)
        self._group_column = fields.group_column or rows.group_column
        self._grouped = self._group_column is not None or fields.group_field is not None
        self._group_required = group_required
        self._has_id = False

    def read(self) -> None:
        """Read to the end of the file, or to where it breaks."""
        collecting = gc.isenabled()
        gc.disable()  # rows hold no cycles, and looking for some in 150,000 takes a tenth of the time
        try:
            self._read()
        finally:
            if collecting:
                gc.enable()

    def _read(self) -> None:
        with closing(self._rows.records) as records:
            self._check_columns()
            if self.file_errors:
                return
            budget = self._source.max_bytes
            try:
                for number, values in records:
                    if self._num_rows == 0:
                        self._look_at_first(values)
                    self._num_rows += 1
                    example = self._example(number, values)
                    if example is None:
                        continue
                    self.examples.append(example)
                    budget -= sum(map(len, example.inputs.values()))
                    if budget < 0:
                        found = f"holds more than {self._source.max_bytes / MIB:,.0f} Mi characters"
                        raise self._source.error(found, "divide it into smaller files")
            except DataError as error:
                self.file_errors += error.problems
            except OSError as error:
                found = f"cannot be read to its end: {error.strerror or error}"
                self.file_errors.append(self._source.problem(found, "check the disk"))
        self._conclude()

    def _look_at_first(self, values: Mapping[str, object]) -> None:
        if self.columns is None:
            self.columns = tuple(values)
        self._has_id = self._fields.id_column is not None and (
            self._fields.id_column in values or self._fields.id_column != "id"
        )

    def _check_columns(self) -> None:
        """Report columns that the header lacks or has twice."""
        fields = self._fields
        if self.columns is None:
            return
        counts = Counter(self.columns)
        required = dict(fields.required)
        if fields.group_column and self._group_required:
            required[fields.group_column] = "group"
        if fields.id_column and fields.id_column != "id":
            required[fields.id_column] = "id"
        self.file_errors += [
            no_column(self._source, column, name, self.columns)
            for column, name in required.items()
            if column not in counts
        ]
        for column in sorted(fields.columns):
            if counts[column] > 1:
                found = f"the header has the column {column!r} {counts[column]} times"
                self.file_errors.append(self._source.problem(found, "give each column a name of its own"))
        if self._group_column not in counts:
            self._group_column = None

    def _example(self, number: int, values: Mapping[str, object]) -> Example | None:
        """The example of one row; None where it is left out or reported."""
        fields = self._fields
        problems: list[Problem] = []
        target = values.get(fields.target_column)
        references = self._known.get(target) if type(target) is str else None
        if references is None:
            references = self._references(number, values, problems)
        if references is None and not problems:
            return None  # left out by data.labels
        inputs: dict[str, str] = {}
        for name, column, required in fields.inputs:
            text = values.get(column)
            if type(text) is not str:
                text = self._text(number, values, name, column, required, problems)
            if required and (not text or text.isspace()):
                if text is not None:
                    problems.append(
                        self._problem(number, column, name, "is empty", "fill it in or remove the row")
                    )
            elif text is not None:
                inputs[name] = text
        example_id = self._id(number, values, problems)
        group = self._group(number, values, inputs, problems) if self._grouped else None
        marking = self._marking(number, values, problems) if fields.marking else {}
        if references is not None:
            if not storable(
                "".join((*inputs.values(), *marking.values(), *references, example_id, group or ""))
            ):
                texts = [*inputs.items(), *marking.items(), *((fields.target, text) for text in references)]
                texts += [("id", example_id), ("group", group or "")]
                problems += [
                    self._problem(number, fields.column_of(name), name, f"holds {wrong}", "mend or remove it")
                    for name, wrong in bad_characters(texts)
                ]
            if self._rows.extractive and not problems and (passage := inputs.get("passage")) is not None:
                problems += [
                    self._problem(number, None, fields.target, *not_in_passage(answer, passage))
                    for answer in references
                    if answer not in passage
                ]
        place = self._rows.place(number, None)
        if not problems and references is not None:
            example = Example(
                id=example_id,
                inputs=inputs,
                references=references,
                group=group,
                source=place,
                marking=marking,
            )
            wrong = fields.check(example) if fields.check else ()
            problems += [self._problem(number, fields.column_of(name), name, *rest) for name, *rest in wrong]
            if not problems:
                self._number_of_id[example_id] = number
                return example
        self.row_errors += problems
        self.num_bad_rows += 1
        return None

    def _marking(self, number: int, values: Mapping[str, object], problems: list[Problem]) -> dict[str, str]:
        texts = ((n, self._text(number, values, n, c, False, problems)) for n, c in self._fields.marking)
        return {name: text for name, text in texts if text and not text.isspace()}

    def _problem(self, number: int, column: str | None, name: str, found: str, remedy: str) -> Problem:
        return Problem(where=self._rows.place(number, column), field=name, found=found, remedy=remedy)

    def _row_without(self, number: int, values: Mapping[str, object], name: str, column: str) -> Problem:
        found, remedy = f"the row has no {column!r}", f"add it; the row has {names_of(values)}"
        problem = self._problem(number, column, name, found, remedy)
        self._missing.setdefault(column, []).append(problem)
        return problem

    def _text(
        self,
        number: int,
        values: Mapping[str, object],
        name: str,
        column: str,
        required: bool,
        problems: list[Problem],
    ) -> str | None:
        """The text of a value that is not a string; None = reported."""
        value = values.get(column)
        if value is None:
            if column in values or not required:
                return ""
            problems.append(self._row_without(number, values, name, column))
            return None
        try:
            return cell_text(value)
        except ValueError as error:
            problems.append(self._problem(number, column, name, str(error), "write it as text"))
            return None

    def _references(
        self, number: int, values: Mapping[str, object], problems: list[Problem]
    ) -> tuple[str, ...] | None:
        """The references of a row; None = reported, or (without a problem) left out by `data.labels`."""
        fields = self._fields
        name, column = fields.target, fields.target_column
        value = values.get(column)
        if self._is_category:
            text = value if type(value) is str else self._text(number, values, name, column, True, problems)
            return None if text is None else self._category(number, text.strip(), problems)
        try:
            if value is None:
                text = self._text(number, values, name, column, fields.target_required, problems)
                if text is None:
                    return None
            texts = [] if value is None else list(dict.fromkeys(reference_texts(value)))
        except ValueError as error:
            problems.append(self._problem(number, column, name, str(error), "write it as text"))
            return None
        full = [text for text in texts if text and not text.isspace()]
        if not full and not fields.target_required:
            return ()
        if not full or len(full) < len(texts):
            found = "is empty" if not full else "one of the answers is empty"
            problems.append(self._problem(number, column, name, found, "fill it in or remove the row"))
            return None
        return tuple(full)

    def _category(self, number: int, text: str, problems: list[Problem]) -> tuple[str, ...] | None:
        fields = self._fields
        if self._labels is not None:
            self._label_values[text] += 1
            if text not in self._labels:
                return None
            text = self._labels[text]
        known = self._category_references.get(text)
        if known is not None:
            return known
        found = remedy = ""
        if not text:
            if not fields.target_required:
                return ()
            found, remedy = "is empty", "fill it in or remove the row"
        elif self._categories is not None and text not in self._categories:
            near = difflib.get_close_matches(text, sorted(self._categories), n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}? " if near else ""
            found = f"{short(text)} is not a category"
            remedy = f"{hint}the categories are {', '.join(sorted(self._categories)[:MAX_NAMED])}"
        if found:
            problems.append(self._problem(number, fields.target_column, fields.target, found, remedy))
            return None
        self._category_references[text] = (text,)
        if self._labels is None:
            self._known[text] = self._category_references[text]
        return self._category_references[text]

    def _id(self, number: int, values: Mapping[str, object], problems: list[Problem]) -> str:
        column = self._fields.id_column
        if not self._has_id or column is None:
            return f"{self._stem}-{number}"
        value = values.get(column)
        text = value if type(value) is str else self._text(number, values, "id", column, True, problems)
        if text is None:
            return ""
        if not text.strip():
            problems.append(self._problem(number, column, "id", "is empty", "give every row an id, or none"))
        elif text in self._number_of_id:
            first = self._rows.place(self._number_of_id[text], None)
            remedy = 'make ids unique, or set columns = { id = "" } to number the rows instead'
            found = f"the id {short(text)} is also at {first}"
            problems.append(self._problem(number, column, "id", found, remedy))
        return text

    def _group(
        self, number: int, values: Mapping[str, object], inputs: Mapping[str, str], problems: list[Problem]
    ) -> str | None:
        column = self._group_column
        if column is None:
            return self._default_group(number, values, inputs, problems)
        if column not in values and not self._group_required:
            return self._default_group(number, values, inputs, problems)
        if column not in values:
            problems.append(self._row_without(number, values, "group", column))
            return None
        value = values.get(column)
        text = value if type(value) is str else self._text(number, values, "group", column, False, problems)
        if text and not text.isspace():
            return text
        if text is not None:
            problems.append(self._problem(number, column, "group", "is empty", "give every row its group"))
        return None

    def _default_group(
        self, number: int, values: Mapping[str, object], inputs: Mapping[str, str], problems: list[Problem]
    ) -> str | None:
        name = self._fields.group_field
        if name is None:
            return None
        if name not in self._input_names:
            value = values.get(name)
            text = value if type(value) is str else self._text(number, values, "group", name, False, problems)
            return text or None
        text = inputs.get(name, "")
        if not text or text.isspace():  # optional and empty: such rows have nothing in common
            name, text = "row", "\0".join(inputs.values())
        return f"{name} {hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:12]}"

    def _conclude(self) -> None:
        """Fields that no row has are one mistake, not one a row; a file without examples is one, too."""
        for column, problems in self._missing.items():
            if len(problems) == self._num_rows:
                gone = set(map(id, problems))
                self.row_errors = [problem for problem in self.row_errors if id(problem) not in gone]
                name = problems[0].field or column
                self.file_errors.append(no_column(self._source, column, name, self.columns or ()))
        if self.examples or self.file_errors or self.row_errors or self._rows.problems:
            return
        values = ", ".join(f"{short(v)} ({n:,})" for v, n in self._label_values.most_common(MAX_NAMED))
        if values:
            found = f"no row is left: data.labels names none of the values {values}"
            self.file_errors.append(self._source.problem(found, "name the values of the file in data.labels"))
        else:
            self.file_errors.append(self._source.problem("the file has no rows", "name a file with data"))

    def left_out(self) -> dict[str, int]:
        """Reason -> rows left out on purpose."""
        others = sum(n for value, n in self._label_values.items() if value not in (self._labels or {}))
        return {"other labels": others} if others else {}

    def notes(self) -> list[str]:
        """What a person should know of the rows that were left out."""
        name = self._source.name
        notes = [f"{name}: {number:,} {reason} left out" for reason, number in self._rows.left_out.items()]
        return notes + label_notes(name, self._label_values, self._labels)
