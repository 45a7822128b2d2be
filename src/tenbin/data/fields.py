"""Which columns the fields of an example come from."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tenbin.config import DataConfig
from tenbin.types import Example

Check = Callable[[Example], Sequence[tuple[str, str, str]]]
"""What else is wrong with an example: (field, what is found, remedy) of each mistake."""

HUB = "hf:"
"""What the name of a data set of the Hugging Face hub begins with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fields:
    """Which fields an example is made of, and the column each comes from."""

    inputs: tuple[tuple[str, str, bool], ...]
    """(Field, column, whether it must have text)."""
    target: str
    target_column: str
    target_required: bool
    id_column: str | None
    """None = rows are numbered; "id" is used only where the file has it."""
    group_column: str | None
    """Column asked for by the study."""
    group_field: str | None
    """Without such a column: the input whose equal texts make a group, or a column used if present."""
    marking: tuple[tuple[str, str], ...] = ()
    """(Field, column) of what no prompt shows: how a question is marked. A file need not have them."""
    check: Check | None = None

    @property
    def columns(self) -> frozenset[str]:
        """Every column that may be looked at."""
        named = {column for _, column, _ in self.inputs} | {self.target_column}
        named |= {column for _, column in self.marking}
        named |= {name for name in (self.id_column, self.group_column, self.group_field) if name}
        return frozenset(named)

    def column_of(self, field: str) -> str:
        """The column of a field; that of the references for names that are no field."""
        known = {name: column for name, column, _ in self.inputs} | dict(self.marking)
        return known.get(field, self.target_column)

    @property
    def required(self) -> dict[str, str]:
        """Column -> field, of those that a file must have."""
        needed = {column: name for name, column, required in self.inputs if required}
        if self.target_required:
            needed[self.target_column] = self.target
        return needed


def plan_fields(
    config: DataConfig,
    *,
    input_fields: Sequence[str],
    target_field: str,
    optional_fields: Sequence[str] = (),
    target_required: bool = True,
    group_field: str | None = None,
    marking_fields: Sequence[str] = (),
    check: Check | None = None,
) -> Fields:
    """The fields of a study's examples under its column mapping."""
    columns = config.columns
    names = dict.fromkeys((*input_fields, *optional_fields))
    if group_field is not None and group_field not in names:
        group_field = columns.get(group_field, group_field)
    return Fields(
        inputs=tuple((name, columns.get(name, name), name not in optional_fields) for name in names),
        target=target_field,
        target_column=columns.get(target_field, target_field),
        target_required=target_required,
        id_column=columns.get("id", "id") or None,
        group_column=(config.split.group_by if config.split else None) or columns.get("group"),
        group_field=group_field,
        marking=tuple((name, columns.get(name, name)) for name in marking_fields if name not in names),
        check=check,
    )
