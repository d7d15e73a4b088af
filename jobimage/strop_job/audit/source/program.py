"""A Python file, read: every flow through it, the library names it spells, and what kind of file it is."""

import ast
from dataclasses import dataclass
from pathlib import Path

from strop_job.audit.source.events import Circumstances, Event, Flow
from strop_job.audit.source.expressions import Frame, TooLong, Use
from strop_job.audit.source.statements import Statements
from strop_job.audit.source.values import Class, Function, Scope, Value

FLOWS = 2_000
"""Functions that are read by themselves, at most."""
STEPS_IN_ALL = 3_000_000
"""Expressions read in all flows of a file together, at most: about ten seconds."""
LIBRARIES = frozenset({"torch", "torchao", "onnx", "onnxruntime", "tensorrt", "tensorrt_rtx", "openvino", "nncf",
                       "transformers", "compression"})  # fmt: skip
"""A file that spells none of these cannot have what is looked for."""
RAISES = ("assertRaises", "assertRaisesRegex", "assertWarns", "assertWarnsRegex", "raises", "warns", "deprecated_call")


Definition = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Program:
    """What reading a file gave."""

    flows: tuple[Flow, ...]
    uses: tuple[Use, ...]
    words: frozenset[str]
    """Every name, attribute, keyword and imported module that is spelled anywhere in the file."""
    package: str
    """The top-level package that the file is part of; empty for a script."""
    is_test: bool
    whole: bool
    """False if the file is longer than is read: some of its functions were left out."""
    functions: tuple[Definition, ...] = ()
    """Every function and method, an inner one after the one around it."""

    def around(self, node: ast.AST) -> Definition | None:
        """The innermost function that a node stands in; None at the top of the module."""
        line = getattr(node, "lineno", 0)
        return next((f for f in reversed(self.functions) if f.lineno <= line <= (f.end_lineno or 0)), None)


def read(tree: ast.Module, path: Path) -> Program:
    """Read a parsed file. Only the folders above `path` are looked at, for the package it belongs to."""
    package, words, test = _package(path), _words(tree), _is_test(path)
    if not words & LIBRARIES:
        return Program((), (), words, package.partition(".")[0], test, True)
    uses: dict[int, Use] = {}
    module = Statements(uses, package)
    scope = Scope()
    module.frames.append(Frame(scope))
    flows, whole = [], True
    try:
        module.run(tree.body)
        flows.append(Flow(module.events, "", [], test))
    except TooLong:
        whole = False
    roots, steps = _roots(scope), module.steps
    for read_so_far, (name, function, kind) in enumerate(roots):
        if read_so_far == FLOWS or steps > STEPS_IN_ALL:
            whole = False
            break
        reader = Statements(uses, package)
        flow = _flow(name, function, kind, reader, test)
        steps += reader.steps
        whole = whole and flow is not None
        flows += [flow] if flow is not None else []
    return Program(tuple(flows), tuple(uses.values()), words, package.partition(".")[0], test, whole, _functions(tree))


Root = tuple[str, Function, Class | None]


def _roots(scope: Scope) -> list[Root]:
    """Every function and method at the top of the file, to be read as if called by someone unknown."""
    found: list[Root] = []
    values = [choice for value in scope.names.values() for choice in value.choices()]
    for value in values:
        if value.function is not None and not isinstance(value.function.node, ast.Lambda):
            found.append((value.function.name, value.function, None))
        if value.owner is not None:
            kind = value.owner
            found += [(name, Function(node, kind.scope), kind) for name, node in kind.methods.items()]
    return found


def _flow(name: str, function: Function, kind: Class | None, reader: Statements, test: bool) -> Flow | None:
    reader.frames.append(Frame(function.scope))
    instance = Value(made_by=kind) if kind is not None else None
    before = 0
    try:
        if kind is not None and "__init__" in kind.methods and name != "__init__":
            reader.inside(Function(kind.methods["__init__"], kind.scope, instance), [], {})
            before = len(reader.events)
        result = reader.inside(Function(function.node, function.scope, instance), [], {})
    except (TooLong, RecursionError):
        return None
    tested = test or name.startswith("test") or (kind is not None and _is_test_class(kind))
    return Flow(reader.events, name, [result], tested, before)


def _is_test(path: Path) -> bool:
    name = path.name
    tests = {"test", "tests", "testing"} & set(path.parts[-5:-1])
    return bool(tests) or name.startswith("test_") or name.endswith("_test.py") or name == "conftest.py"


def _is_test_class(kind: Class) -> bool:
    return kind.node.name.startswith("Test") or any(base.endswith("TestCase") for base in kind.bases)


def _package(path: Path) -> str:
    """The dotted package of the folder that holds the file."""
    names: list[str] = []
    folder = path.absolute().parent
    while (folder / "__init__.py").is_file() and len(names) < 20:
        names.insert(0, folder.name)
        folder = folder.parent
    return ".".join(names)


def _functions(tree: ast.Module) -> tuple[Definition, ...]:
    found = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    return tuple(sorted(found, key=lambda node: node.lineno))


def _words(tree: ast.Module) -> frozenset[str]:
    found: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=word) | ast.Attribute(attr=word) | ast.arg(arg=word) | ast.keyword(arg=str(word)):
                found.add(word)
            case ast.alias(name=word):
                found.update(word.split("."))
            case ast.ImportFrom(module=str(word)):
                found.update(word.split("."))
    return frozenset(found)


def expects_failure(at: Circumstances) -> bool:
    """Whether it stands where a test expects an error or a warning."""
    return any(manager.path.removesuffix("()").endswith(RAISES) or _is_raises(manager) for manager in at.managers)


def _is_raises(manager: Value) -> bool:
    return any(part.path.removesuffix("()").endswith(RAISES) for part in manager.parents)


def made_by(flow: Flow) -> dict[Value, Event]:
    """Which call a value is the result of."""
    return {event.result: event for event in reversed(flow.events)}
