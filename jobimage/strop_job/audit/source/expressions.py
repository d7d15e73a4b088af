"""Reads expressions: which value each stands for. Calls are noted as events; functions of the file are read inside."""

import ast
import builtins
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from strop_job.audit.source.events import Circumstances, Event
from strop_job.audit.source.values import UNKNOWN, Class, Function, Scope, Value, joined

STEPS = 60_000
"""Expressions read in one flow, at most: a program of many helpers inside helpers is not read for ever."""
DEPTH = 5
"""Functions read inside each other, at most."""
PATH_LENGTH = 300
TABLE = 16
"""Constants in a row that are read one by one: a longer row is of a table, not of a shape."""
SAME = frozenset({"eval", "to", "cuda", "cpu", "train", "float", "half", "double", "bfloat16", "requires_grad_"})
"""Methods of a module that return the module."""
COPIES = frozenset({"copy.deepcopy", "copy.copy"})


class TooLong(Exception):  # noqa: N818 - not an error of the program
    """The program is longer than is read."""


@dataclass
class Frame:
    """What is being read: the module, or one function."""

    scope: Scope
    function: Function | None = None
    returned: list[Value] = field(default_factory=list)
    shared: set[str] = field(default_factory=set)
    """Names that `global` and `nonlocal` make those of others too."""


@dataclass(frozen=True)
class Use:
    """A library's name where it is spelled: in an import, or anywhere else."""

    path: str
    node: ast.AST
    at: Circumstances
    imported: bool = False


class Expressions:
    """The state of one reading, and the reading of expressions; calls are read in `Calls`."""

    def __init__(self, uses: dict[int, Use]) -> None:
        self.events: list[Event] = []
        self.uses = uses
        self.frames: list[Frame] = []
        self.at = Circumstances()
        self.steps = 0

    @property
    def frame(self) -> Frame:
        """What is being read now."""
        return self.frames[-1]

    def run(self, body: Sequence[ast.stmt]) -> bool:
        """Read statements; whether they end by leaving (return, raise, continue, break)."""
        raise NotImplementedError

    @contextmanager
    def within(self, **changes: object) -> Iterator[None]:
        """Read under other circumstances."""
        former, self.at = self.at, replace(self.at, **changes)  # type: ignore[arg-type]
        try:
            yield
        finally:
            self.at = former

    def value(self, node: ast.expr | None) -> Value:
        """What an expression stands for."""
        if node is None:
            return Value(const=None)
        self.steps += 1
        if self.steps > STEPS:
            raise TooLong
        reader: Callable[[ast.expr], Value] | None = getattr(self, f"_{type(node).__name__.lower()}", None)
        return reader(node) if reader is not None else self._derived(node)

    def _derived(self, node: ast.AST) -> Value:
        """Whatever is computed from the parts."""
        return Value(parents=[self.value(child) for child in ast.iter_child_nodes(node) if isinstance(child, ast.expr)])

    def _constant(self, node: ast.Constant) -> Value:
        return Value(const=node.value)

    def _name(self, node: ast.Name) -> Value:
        found = self.frame.scope.find(node.id)
        if found is None:
            return Value(path=node.id if hasattr(builtins, node.id) else "")
        if found.imported_as == node.id:
            self._used(found.path, node)
        return found

    def _used(self, path: str, node: ast.AST) -> None:
        if "." in path and "(" not in path:
            self.uses.setdefault(id(node), Use(path, node, self.at))

    def _attribute(self, node: ast.Attribute) -> Value:
        found = self.member(self.value(node.value), node.attr)
        self._used(found.path, node)
        return found

    def member(self, base: Value, name: str) -> Value:
        """An attribute of a value: what was set, a method of this file, or something derived that stays the same."""
        if base.options and not base.path:
            return joined([self.member(option, name) for option in base.options])
        if name in base.attrs:
            return base.attrs[name]
        kind = base.made_by or base.owner
        if kind is not None and name in kind.methods:
            return Value(function=bound(kind, kind.methods[name], base))
        made = Value(path=longer(base.path, f".{name}"), parents=[] if base.made_by else [base])
        if base.made_by is not None or (not base.path and not base.options):
            made.parameter = base.parameter
            base.parts[name] = base.parts.get(name, made)
            return base.parts[name]
        return made

    def _subscript(self, node: ast.Subscript) -> Value:
        base, index = self.value(node.value), self.value(node.slice)
        if base.keys is not None and isinstance(index.const, str) and index.const in base.keys:
            return base.keys[index.const]
        if (
            base.items is not None
            and isinstance(index.const, int)
            and -len(base.items) <= index.const < len(base.items)
        ):
            return base.items[index.const]
        if index.const is not UNKNOWN:
            return base.parts.setdefault(f"[{index.const!r}]", Value(parents=[base], parameter=base.parameter))
        return Value(parents=[base, index])

    def _sequence(self, node: ast.List | ast.Tuple | ast.Set) -> Value:
        if len(node.elts) > TABLE and all(isinstance(part, ast.Constant | ast.UnaryOp) for part in node.elts):
            return Value()
        found = [self.value(element) for element in node.elts]
        if any(isinstance(element, ast.Starred) for element in node.elts):
            return Value(parents=found)
        return Value(items=found)

    _list = _tuple = _set = _sequence

    def _dict(self, node: ast.Dict) -> Value:
        keys = [self.value(key) if key is not None else Value() for key in node.keys]
        values = [self.value(value) for value in node.values]
        if all(isinstance(key.const, str) for key in keys):
            return Value(keys={str(key.const): value for key, value in zip(keys, values, strict=True)})
        return Value(parents=[*keys, *values])

    def _ifexp(self, node: ast.IfExp) -> Value:
        self.value(node.test)
        with self.within(tests=(*self.at.tests, node.test)):
            return joined([self.value(node.body), self.value(node.orelse)])

    def _boolop(self, node: ast.BoolOp) -> Value:
        return joined([self.value(part) for part in node.values])

    def _namedexpr(self, node: ast.NamedExpr) -> Value:
        found = self.value(node.value)
        self.frame.scope.names[node.target.id] = found
        return found

    def _lambda(self, node: ast.Lambda) -> Value:
        return Value(function=Function(node, self.frame.scope))

    def _await(self, node: ast.Await) -> Value:
        return self.value(node.value)

    def _starred(self, node: ast.Starred) -> Value:
        return self.value(node.value)

    def _comprehension(self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp) -> Value:
        for generator in node.generators:
            self.bind(generator.target, Value(parents=[self.value(generator.iter)]))
            for test in generator.ifs:
                self.value(test)
        parts = [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]
        return Value(parents=[self.value(part) for part in parts if part is not None])

    _listcomp = _setcomp = _generatorexp = _dictcomp = _comprehension

    def bind(self, target: ast.expr, value: Value) -> None:
        """Give a value to a name, an attribute, an element, or several."""
        match target:
            case ast.Name(id=name):
                self.frame.scope.names[name] = value
                if self.frame.function is None or name in self.frame.shared:
                    _keep(value, name)
            case ast.Tuple(elts=parts) | ast.List(elts=parts):
                self._bind_each(parts, value)
            case ast.Starred(value=inner):
                self.bind(inner, Value(parents=[value]))
            case ast.Attribute(value=inner, attr=name):
                self._assign(self.value(inner), name, value, target)
            case ast.Subscript(value=inner, slice=index):
                base, key = self.value(inner), self.value(index)
                base.parents.append(value)
                for name in base.kept:
                    _keep(value, name)
                if key.const is not UNKNOWN:
                    base.parts[f"[{key.const!r}]"] = value
                    if base.keys is not None and isinstance(key.const, str):
                        base.keys[key.const] = value
                elif base.keys is not None:
                    base.parents += base.keys.values()
                    base.keys = None

    def _bind_each(self, parts: list[ast.expr], value: Value) -> None:
        known = value.items is not None and len(value.items) == len(parts)
        for index, part in enumerate(parts):
            self.bind(part, value.items[index] if known and value.items else Value(parents=[value]))

    def _assign(self, base: Value, name: str, value: Value, node: ast.expr) -> None:
        if base.path:
            event = Event(f"{base.path}.{name} =", node, self.at, receiver=base, args=(value,))
            self.events.append(event)
        _keep(value, name)
        former = base.attrs.get(name)
        base.attrs[name] = joined([former, value]) if former is not None and self.at.tests else value


def _keep(value: Value, name: str) -> None:
    for choice in value.choices():
        choice.kept.add(name)


def bound(kind: Class, node: ast.FunctionDef | ast.AsyncFunctionDef, receiver: Value) -> Function:
    """A method as it is reached through an instance or through its class."""
    names = {decorator.id for decorator in node.decorator_list if isinstance(decorator, ast.Name)}
    if "classmethod" in names:
        return Function(node, kind.scope, Value(owner=kind))
    unbound = receiver.owner is not None
    return Function(node, kind.scope, receiver, static="staticmethod" in names or unbound)


def longer(path: str, more: str) -> str:
    """A path with one more part; not known if the path is not, or if it grows beyond use."""
    return path + more if path and len(path) < PATH_LENGTH else ""
