"""A Griffe extension: the constructor that Equinox makes from a module's fields.

Griffe reads the source without running it, and knows only of classes that write an `__init__` or
are decorated as dataclasses.
"""

import griffe

_MODULES = {"AbstractRowSolver", "AbstractSolver", "eqx.Module"}


class FieldsAsParameters(griffe.Extension):
    """Give the classes derived from `_MODULES` an `__init__` with their fields as keywords."""

    def on_class(self, *, cls, **kwargs):
        """Add `__init__` where the class has fields."""
        if not _MODULES & {str(base) for base in cls.bases} or "__init__" in cls.members:
            return
        parameters = [
            griffe.Parameter(
                name,
                annotation=field.annotation,
                default=_default(field.value),
                kind=griffe.ParameterKind.positional_or_keyword,
            )
            for name, field in cls.members.items()
            if field.is_attribute and field.annotation is not None
            if "instance-attribute" in field.labels  # which a ClassVar lacks
        ]
        if parameters and "eqx.AbstractVar" not in str([p.annotation for p in parameters]):
            init = griffe.Function("__init__", parameters=griffe.Parameters(*parameters))
            init.docstring = griffe.Docstring("", parent=init)
            cls.set_member("__init__", init)


def _default(value):
    """Return a field's default; `eqx.field(...)` names it."""
    if not isinstance(value, griffe.ExprCall):
        return value
    named = {a.name: a.value for a in value.arguments if isinstance(a, griffe.ExprKeyword)}
    return named.get("default") if "field" in str(value.function) else value
