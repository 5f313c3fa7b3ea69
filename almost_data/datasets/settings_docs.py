"""The docstrings under the fields of a settings class: help texts and reference pages are made of them."""

import ast
import inspect
import textwrap
from itertools import pairwise
from typing import Any, TypeVar

T = TypeVar("T", bound=type)


class _DocWithFields:
    """The `__doc__` of a class with the docs of its fields, read when somebody asks for it."""

    def __init__(self, doc: str) -> None:
        self.doc = doc

    def __get__(self, instance: Any, owner: type) -> str:
        return "\n".join(
            [self.doc, "", *(f"{name}: {doc}" for name, doc in field_docs(owner).items() if doc)]
        )


def documented(settings: T) -> T:
    """A class whose `help` shows what stands under its fields."""
    settings.__doc__ = _DocWithFields(inspect.cleandoc(settings.__doc__ or ""))  # type: ignore[assignment]
    return settings


def field_docs(settings: type) -> dict[str, str]:
    """Field name -> the first paragraph of the docstring under it; fields of base classes too.

    >>> from almost_data.datasets.manifest import Parent
    >>> field_docs(Parent)["manifest"].split(";")[0]
    '`sha256` of its manifest'
    """
    docs: dict[str, str] = {}
    for base in reversed(settings.__mro__[:-1]):
        try:
            source = textwrap.dedent(inspect.getsource(base))
        except (OSError, TypeError):  # a class of a C extension, or made while running
            continue
        [definition] = ast.parse(source).body
        assert isinstance(definition, ast.ClassDef)
        for field, doc in pairwise(definition.body):
            match field, doc:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                    docs[name] = " ".join(inspect.cleandoc(text).partition("\n\n")[0].split())
    return docs
