"""What optional parts of tenbin a piece of work needs, asked before anything is read or written."""

from importlib.util import find_spec

from tenbin.errors import MissingExtra, Problem


def need_training() -> None:
    """Refuse to go on without the extra that fine-tunes and loads models.

    Raises:
        MissingExtra: with the line that installs it.
    """
    missing = [name for name in ("torch", "transformers", "safetensors") if find_spec(name) is None]
    if missing:
        raise MissingExtra(
            Problem(
                where="this command",
                found=f"{', '.join(missing)} not installed",
                remedy='pip install "tenbin[train]"',
            )
        )
