"""From PHIL to dataclasses: beyond a program's first lines nothing knows of PHIL."""

from __future__ import annotations

from dataclasses import MISSING, fields, is_dataclass
from typing import Any, TypeVar, get_type_hints

Parameters = TypeVar("Parameters")


def read_parameters(kind: type[Parameters], scope: Any) -> Parameters:
    """A dataclass filled from the parameters of the same names in a PHIL extract.

    A field whose type is a dataclass is filled from the scope of that name. A field
    with a default may be missing in the scope.
    """
    hints = get_type_hints(kind)
    values = {}
    for field in fields(kind):  # type: ignore[arg-type]
        if field.default is not MISSING and not hasattr(scope, field.name):
            continue
        value = getattr(scope, field.name)
        hint: Any = hints[field.name]
        is_scope = is_dataclass(hint)
        values[field.name] = read_parameters(hint, value) if is_scope else value
    return kind(**values)
