"""What a name of a program may stand for, as far as reading the program can tell."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field

CHOICES = 32
"""What a name may be, at most; beyond that it is not known."""
UNKNOWN = object()
"""A constant that is not known."""


@dataclass(eq=False)
class Value:
    """One object of the program. Two names for it share one Value; what is not known of it stays empty."""

    path: str = ""
    """Where it comes from, with calls as `()`: `torch.export.export`, `tensorrt.Builder().create_network()`."""
    const: object = UNKNOWN
    """Its constant, where it is written down."""
    parents: "list[Value]" = field(default_factory=list)
    """What it was made from, and what was put into it."""
    options: "tuple[Value, ...]" = ()
    """Where branches meet: what it may be."""
    attrs: "dict[str, Value]" = field(default_factory=dict)
    parts: "dict[str, Value]" = field(default_factory=dict)
    """Attributes and elements that were read and of which nothing is known: the same each time."""
    preset: "tuple[tuple[Value, ...], dict[str, Value]]" = field(default_factory=lambda: ((), {}))
    """Arguments that functools.partial has given already."""
    items: "list[Value] | None" = None
    """The elements of a list or tuple that is written down."""
    keys: "dict[str, Value] | None" = None
    """The entries of a mapping that is written down, if every key is."""
    function: "Function | None" = None
    """The function of this file that it is."""
    owner: "Class | None" = None
    """The class of this file that it is."""
    made_by: "Class | None" = None
    """The class of this file that it is an instance of."""
    words: frozenset[str] = frozenset()
    """Names of the keywords that made it."""
    parameter: bool = False
    """Given by a caller that is not known."""
    imported_as: str = ""
    """The name that an import gives it."""
    alias_of: "Value | None" = None
    """What it is a copy of."""
    kept: "set[str]" = field(default_factory=set)
    """Attributes and names of the module that it was stored in: other functions reach it there."""

    def reach(self) -> "set[Value]":
        """Everything it was made from, holds or may be, itself included."""
        seen: set[Value] = set()
        waiting = [self]
        while waiting:
            value = waiting.pop()
            if value not in seen:
                seen.add(value)
                waiting += [*value.parents, *value.options, *value.attrs.values(), *(value.items or ())]
                waiting += (value.keys or {}).values()
        return seen

    def choices(self) -> "list[Value]":
        """What it may be; itself where there is no doubt. Copies count as what they are copies of."""
        if self.options:
            return [choice for option in self.options for choice in option.choices()]
        return [self]

    def originals(self) -> Iterator["Value"]:
        """Itself and what it is a copy of."""
        value: Value | None = self
        while value is not None:
            yield value
            value = value.alias_of


@dataclass(eq=False)
class Function:
    """A function of this file, with the names around it."""

    node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
    scope: "Scope"
    receiver: Value | None = None
    """`self`, where it is a bound method."""
    static: bool = False

    @property
    def name(self) -> str:
        """Its name; empty for a lambda."""
        return "" if isinstance(self.node, ast.Lambda) else self.node.name


@dataclass(eq=False)
class Class:
    """A class of this file."""

    node: ast.ClassDef
    scope: "Scope"
    bases: tuple[str, ...]
    """Paths of its bases, where they are known; of a base in this file, that one's bases too."""
    methods: dict[str, ast.FunctionDef | ast.AsyncFunctionDef]


@dataclass
class Scope:
    """The names of a module or a function, and of what is around it."""

    names: dict[str, Value] = field(default_factory=dict)
    outer: "Scope | None" = None

    def find(self, name: str) -> Value | None:
        """What the name stands for here; None for a built-in or a name never seen."""
        scope: Scope | None = self
        while scope is not None:
            if name in scope.names:
                return scope.names[name]
            scope = scope.outer
        return None


def joined(values: "list[Value]") -> Value:
    """What a name stands for where branches meet."""
    distinct = list(dict.fromkeys(choice for value in dict.fromkeys(values) for choice in value.choices()))
    if len(distinct) == 1:
        return distinct[0]
    if len(distinct) > CHOICES:
        return Value(parents=distinct)
    paths = {value.path for value in distinct}
    return Value(path=paths.pop() if len(paths) == 1 else "", options=tuple(distinct))
