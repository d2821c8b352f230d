"""Click options out of a table of options."""

from __future__ import annotations

import click
from click.core import ParameterSource

from nano_init.cli.click_command import PrecisionName
from nano_init.plan.allocator import ALLOCATOR_CHOICES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from nano_init.run.option_row import OptionRow

__all__ = ["given_values", "with_options"]


def with_options(
    rows: Sequence[OptionRow],
    extras: Mapping[str, Mapping[str, Any]],
    types: Mapping[str, Any],
) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Return a decorator that gives a click callback the options of a table.

    Args:
        rows: the table.
        extras: what only click knows of an option, by its field.
        types: click's types by the names that stand in the table.
    """
    known = {"precision": PrecisionName(), "allocator": click.Choice(ALLOCATOR_CHOICES), **types}

    def decorate(command: Callable[..., int]) -> Callable[..., int]:
        for row in reversed(rows):
            settings: dict[str, Any] = {
                "help": row.help,
                # click takes a False that is given for an option whose value may be left out.
                **({"is_flag": True} if row.kind == "flag" else {}),
                "multiple": row.kind == "list",
                "metavar": row.metavar,
                "type": _type(row, known),
                **extras.get(row.field, {}),
            }
            command = click.option(*row.names, row.parameter, **settings)(command)
        return command

    return decorate


def given_values(rows: Sequence[OptionRow], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values from the command line or the environment, by their fields.

    Args:
        rows: the table.
        values: the arguments with which click has called the command.
    """
    source = click.get_current_context().get_parameter_source
    return {
        row.field: values[row.parameter]
        for row in rows
        if row.parameter in values and source(row.parameter) is not ParameterSource.DEFAULT
    }


def _type(row: OptionRow, known: Mapping[str, Any]) -> Any:
    if isinstance(row.type, str):
        return known[row.type]
    # A job's numbers are read, and refused, when the request is made.
    if row.type is None or row.field.startswith("job."):
        return None
    least, most = row.type
    if isinstance(least, int):
        return click.IntRange(least, int(most))
    return click.FloatRange(least, most)
