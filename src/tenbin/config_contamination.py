"""[contamination]: whether a base model knows a bank's choices in their printed order."""

from pydantic import Field

from tenbin.config_section import Section


class ContaminationConfig(Section):
    """[contamination]: of questions with three choices or more."""

    questions: int = Field(default=100, ge=1)
    """So many of them, drawn with `seed`."""
    orders: int = Field(default=5, ge=1, le=5)
    """Other orders of the choices that the printed one is compared with; three choices have five."""
    seed: int = 0
