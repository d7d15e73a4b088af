"""What a program does, in order: its calls and the attributes it sets, each with what is known of the circumstances."""

import ast
from dataclasses import dataclass, field

from strop_job.audit.source.values import Value


@dataclass(frozen=True)
class Circumstances:
    """What stands around a statement."""

    managers: tuple[Value, ...] = ()
    """Context managers that are open, the innermost last."""
    tests: tuple[ast.expr, ...] = ()
    """Conditions of the `if` statements around it, in this function and in those that called it."""
    tried: bool = False
    """Inside a `try` about what a library may lack, or one of its handlers."""
    depth: int = 0
    """How many functions of this file are being read inside each other."""


@dataclass(eq=False)
class Event:
    """One call, or one attribute set (`name` ends in ` =`)."""

    name: str
    """Path of what is called: `torch.onnx.export`; `.backward` for a method of something unknown; `()` for a call of
    a value itself."""
    node: ast.expr | ast.stmt
    at: Circumstances
    receiver: Value | None = None
    args: tuple[Value, ...] = ()
    keywords: dict[str, Value] = field(default_factory=dict)
    open_ended: bool = False
    """Called with *args or **kwargs that are not known."""
    result: Value = field(default_factory=Value)
    dropped: bool = False
    """The result is not used."""

    @property
    def method(self) -> str:
        """The last part of the name."""
        return self.name.rpartition(".")[2]

    def argument(self, index: int, *keywords: str) -> Value | None:
        """An argument by position or by any of its keywords."""
        for keyword in keywords:
            if keyword in self.keywords:
                return self.keywords[keyword]
        return self.args[index] if 0 <= index < len(self.args) else None

    def given(self) -> tuple[Value, ...]:
        """Everything it is given, without the receiver."""
        return (*self.args, *self.keywords.values())

    def touches(self, value: Value) -> bool:
        """Whether it may see the value: as receiver, as argument, or inside one of them."""
        seen = (self.receiver, *self.given()) if self.receiver is not None else self.given()
        return any(value in part.reach() for part in seen if part is not None)


@dataclass
class Flow:
    """One way through the program: from a module's first line or a function's, with the functions it calls."""

    events: list[Event]
    root: str
    """Name of the function it starts in; empty for the module."""
    returned: list[Value]
    test: bool
    """Starts in a test."""
    made_before: int = 0
    """Events of the `__init__` before: between them and the others, callers that are not known did as they liked."""

    @property
    def is_program(self) -> bool:
        """Starts where a program starts, so that what comes after its end is known: nothing."""
        return self.root == ""
