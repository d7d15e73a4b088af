"""Reads statements in order: what they bind, what they call, and under which conditions."""

import ast
from collections.abc import Sequence

from strop_job.audit.source.calls import Calls
from strop_job.audit.source.expressions import Use
from strop_job.audit.source.values import Class, Function, Value, joined

MISSING = {"ImportError", "ModuleNotFoundError", "AttributeError", "TypeError"}
SMALL = 3
"""Statements in a `try` that is about them, and not about the program as a whole."""
LEAVES = (ast.Return, ast.Raise, ast.Continue, ast.Break)


class Statements(Calls):
    """Reads a body; see `Calls` and `Expressions` for its parts."""

    def __init__(self, uses: dict[int, Use], package: str) -> None:
        super().__init__(uses)
        self.package = package

    def run(self, body: Sequence[ast.stmt]) -> bool:
        """Read statements; whether they end by leaving."""
        for statement in body:
            getattr(self, f"_{type(statement).__name__.lower()}_statement", self._other)(statement)
            if isinstance(statement, LEAVES):
                return True
        return False

    def _other(self, node: ast.stmt) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.expr):
                self.value(child)

    def _expr_statement(self, node: ast.Expr) -> None:
        before = len(self.events)
        self.value(node.value)
        called = node.value.value if isinstance(node.value, ast.Await) else node.value
        for event in self.events[before:]:
            event.dropped = event.dropped or event.node is called

    def _assign_statement(self, node: ast.Assign) -> None:
        value = self.value(node.value)
        for target in node.targets:
            self.bind(target, value)

    def _annassign_statement(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.bind(node.target, self.value(node.value))

    def _augassign_statement(self, node: ast.AugAssign) -> None:
        former = self.value(node.target)
        self.bind(node.target, Value(parents=[former, self.value(node.value)]))

    def _delete_statement(self, node: ast.Delete) -> None:
        """What is deleted is not used, and not used any more."""

    def _return_statement(self, node: ast.Return) -> None:
        self.frame.returned.append(self.value(node.value))

    def _global_statement(self, node: ast.Global | ast.Nonlocal) -> None:
        self.frame.shared.update(node.names)

    _nonlocal_statement = _global_statement

    def _if_statement(self, node: ast.If) -> None:
        self.value(node.test)
        if _is_main(node.test):
            self.run(node.body)
            return
        with self.within(tests=(*self.at.tests, node.test)):
            self._branches([node.body, node.orelse])

    def _branches(self, bodies: Sequence[Sequence[ast.stmt]]) -> None:
        """Each body starts from the same names; afterwards a name may be what any of them made it."""
        scope = self.frame.scope
        before, ends = dict(scope.names), []
        for body in bodies:
            scope.names = dict(before)
            if not self.run(body):
                ends.append(scope.names)
        merged = ends or [scope.names]
        names = dict.fromkeys(name for end in merged for name in end)
        scope.names = {name: joined([end[name] for end in merged if name in end]) for name in names}

    def _for_statement(self, node: ast.For | ast.AsyncFor) -> None:
        iterated = self.value(node.iter)
        if iterated.items != []:
            item = joined(iterated.items) if iterated.items else Value(parents=[iterated], parameter=iterated.parameter)
            self.bind(node.target, item)
            self._branches([[], node.body])
        self.run(node.orelse)

    _asyncfor_statement = _for_statement

    def _while_statement(self, node: ast.While) -> None:
        self.value(node.test)
        self._branches([[], node.body])
        self.run(node.orelse)

    def _with_statement(self, node: ast.With | ast.AsyncWith) -> None:
        managers = []
        for item in node.items:
            manager = self.value(item.context_expr)
            managers.append(manager)
            if item.optional_vars is not None:
                self.bind(item.optional_vars, manager)
        with self.within(managers=(*self.at.managers, *managers)):
            self.run(node.body)

    _asyncwith_statement = _with_statement

    def _try_statement(self, node: ast.Try) -> None:
        with self.within(tried=self.at.tried or _asks_forgiveness(node)):
            self.run(node.body)
            self._branches([[], *(handler.body for handler in node.handlers)])
        self.run(node.orelse)
        self.run(node.finalbody)

    _trystar_statement = _try_statement

    def _match_statement(self, node: ast.Match) -> None:
        subject = self.value(node.subject)
        with self.within(tests=(*self.at.tests, node.subject)):
            for case in node.cases:
                for part in ast.walk(case.pattern):
                    if isinstance(part, ast.MatchAs | ast.MatchStar) and part.name:
                        self.frame.scope.names[part.name] = Value(parents=[subject])
            self._branches([[], *(case.body for case in node.cases)])

    def _functiondef_statement(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        for decorator in node.decorator_list:
            self.value(decorator)
        self.frame.scope.names[node.name] = Value(function=Function(node, self.frame.scope))

    _asyncfunctiondef_statement = _functiondef_statement

    def _classdef_statement(self, node: ast.ClassDef) -> None:
        bases = [self.value(base) for base in node.bases]
        above = [base.owner for base in bases if base.owner is not None]
        paths = [base.path for base in bases if base.path] + [path for kind in above for path in kind.bases]
        methods = {name: method for kind in reversed(above) for name, method in kind.methods.items()}
        methods |= {s.name: s for s in node.body if isinstance(s, ast.FunctionDef | ast.AsyncFunctionDef)}
        kind = Class(node, self.frame.scope, tuple(paths), methods)
        self.frame.scope.names[node.name] = Value(owner=kind)

    def _import_statement(self, node: ast.Import) -> None:
        for alias in node.names:
            self._imported(alias.name, alias)
            name = alias.asname or alias.name.partition(".")[0]
            self.frame.scope.names[name] = Value(path=alias.name if alias.asname else name, imported_as=name)

    def _importfrom_statement(self, node: ast.ImportFrom) -> None:
        module = self._module(node)
        for alias in node.names:
            path = f"{module}.{alias.name}" if module else alias.name
            self._imported(path, alias)
            name = alias.asname or alias.name
            self.frame.scope.names[name] = Value(path=path, imported_as=name)

    def _module(self, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        parts = self.package.split(".")[: -(node.level - 1) or None] if self.package else []
        return ".".join([*parts, *([node.module] if node.module else [])]) if parts else f"~.{node.module or ''}"

    def _imported(self, path: str, node: ast.alias) -> None:
        self.uses.setdefault(id(node), Use(path, node, self.at, imported=True))


def _asks_forgiveness(node: ast.Try) -> bool:
    """Whether it tries what another release of a library may not have."""
    caught = [handler.type for handler in node.handlers]
    words = {part.id for kind in caught if kind is not None for part in ast.walk(kind) if isinstance(part, ast.Name)}
    wide = None in caught or words & {"Exception", "BaseException"}
    return bool(words & MISSING) or bool(wide and len(node.body) <= SMALL)


def _is_main(test: ast.expr) -> bool:
    match test:
        case ast.Compare(left=ast.Name(id="__name__"), ops=[ast.Eq()], comparators=[ast.Constant(value="__main__")]):
            return True
    return False
