"""Reads calls: each is noted as an event, or, if the function stands in this file, read inside."""

import ast
from collections.abc import Sequence

from strop_job.audit.source.events import Event
from strop_job.audit.source.expressions import COPIES, DEPTH, SAME, Expressions, Frame, bound, longer
from strop_job.audit.source.values import UNKNOWN, Class, Function, Scope, Value, joined


class Calls(Expressions):
    """Adds calls to what is read."""

    def _call(self, node: ast.Call) -> Value:
        base, target, name = self._callee(node.func)
        args, keywords, open_ended = self._arguments(node)
        if target.path in ("functools.partial", "partial") and args:
            return Value(path=args[0].path, function=args[0].function, preset=(tuple(args[1:]), keywords))
        args, keywords = [*target.preset[0], *args], {**target.preset[1], **keywords}
        if name == "getattr" and len(args) > 1 and isinstance(args[1].const, str):
            return self.member(args[0], args[1].const)
        if target.owner is not None:
            return self._made(target.owner, args, keywords, node)
        if target.function is not None and self._readable(target.function):
            return self.inside(target.function, args, keywords, known=not open_ended)
        event = Event(name, node, self.at, base, tuple(args), keywords, open_ended)
        event.result = self._result(event, target)
        self.events.append(event)
        for argument, given in zip(node.args, args, strict=False):
            if isinstance(argument, ast.Name) and given.items == []:
                given.items = None
        self._callbacks(args, keywords)
        return event.result

    def _callee(self, node: ast.expr) -> tuple[Value | None, Value, str]:
        """The receiver, what is called, and the event's name."""
        if not isinstance(node, ast.Attribute):
            target = self.value(node)
            return target, target, target.path if target.path and not target.path.endswith(")") else "()"
        base = self.value(node.value)
        target = self.member(base, node.attr)
        self._used(target.path, node)
        return base, target, target.path or f".{node.attr}"

    def _arguments(self, node: ast.Call) -> tuple[list[Value], dict[str, Value], bool]:
        args: list[Value] = []
        keywords: dict[str, Value] = {}
        open_ended = False
        for argument in node.args:
            value = self.value(argument)
            if not isinstance(argument, ast.Starred):
                args.append(value)
            elif value.items is not None:
                args += value.items
            else:
                open_ended = True
                keywords[f"*{len(keywords)}"] = value
        for keyword in node.keywords:
            value = self.value(keyword.value)
            if keyword.arg is not None:
                keywords[keyword.arg] = value
            elif value.keys is not None and value.const is UNKNOWN:
                keywords |= value.keys
            else:
                open_ended = True
                keywords[f"*{len(keywords)}"] = value
        return args, keywords, open_ended

    def _result(self, event: Event, target: Value) -> Value:
        base = event.receiver
        library = base is not None and base.path and not base.path.endswith(")")
        if event.method in SAME and base is not None and base is not target and not library:
            return base
        if event.name in COPIES and event.args:
            return Value(
                path=event.args[0].path, parents=[event.args[0]], alias_of=event.args[0], made_by=event.args[0].made_by
            )
        if event.name == "dict" and not event.args and not event.open_ended:
            return Value(keys=dict(event.keywords))
        if base is not None and base is not target and not library:
            _put_into(base, event.given())
        parents = [*event.given(), *([base] if base is not None and not library else [])]
        words = frozenset(name for name, value in event.keywords.items() if value.const is not False)
        return Value(path=longer(target.path, "()"), parents=parents, words=words)

    def _made(self, kind: Class, args: list[Value], keywords: dict[str, Value], node: ast.Call) -> Value:
        """An instance of a class of this file, made by its __init__ if that stands here."""
        instance = Value(made_by=kind, parents=[*args, *keywords.values()])
        if "__init__" in kind.methods:
            function = bound(kind, kind.methods["__init__"], instance)
            if self._readable(function):
                self.inside(function, args, keywords, known=True)
                return instance
        self.events.append(Event("()", node, self.at, None, tuple(args), keywords, result=instance))
        return instance

    def _readable(self, function: Function) -> bool:
        running = [frame.function.node for frame in self.frames if frame.function is not None]
        return len(running) < DEPTH and function.node not in running

    def inside(
        self, function: Function, args: Sequence[Value], keywords: dict[str, Value], *, known: bool = False
    ) -> Value:
        """Read a function of this file where it is called, with these arguments alone if `known`; what it returns."""
        scope = Scope(outer=function.scope)
        given = [function.receiver, *args] if function.receiver is not None and not function.static else list(args)
        self._parameters(function.node.args, [v for v in given if v is not None], keywords, scope, known)
        if known:
            _gathered(function.node.args, given, keywords, scope)
        self.frames.append(Frame(scope, function))
        try:
            with self.within(depth=self.at.depth + 1):
                if isinstance(function.node, ast.Lambda):
                    return self.value(function.node.body)
                self.run(function.node.body)
            return joined(self.frame.returned) if self.frame.returned else Value(const=None)
        finally:
            self.frames.pop()

    def _parameters(
        self, arguments: ast.arguments, given: Sequence[Value], keywords: dict[str, Value], scope: Scope, known: bool
    ) -> None:
        positional = [*arguments.posonlyargs, *arguments.args]
        first_default = len(positional) - len(arguments.defaults)
        defaults: dict[str, ast.expr | None] = {
            argument.arg: arguments.defaults[index - first_default]
            for index, argument in enumerate(positional)
            if index >= first_default
        }
        defaults |= {a.arg: d for a, d in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)}
        for index, argument in enumerate([*positional, *arguments.kwonlyargs]):
            if index < len(given) and index < len(positional):
                scope.names[argument.arg] = given[index]
            elif argument.arg in keywords:
                scope.names[argument.arg] = keywords[argument.arg]
            else:
                default = defaults.get(argument.arg)
                usual = self.value(default) if default is not None else None
                given_or_usual = [usual] if usual is not None else []
                scope.names[argument.arg] = (
                    usual if known and usual is not None else Value(parameter=True, parents=given_or_usual)
                )
        if arguments.vararg is not None:
            scope.names[arguments.vararg.arg] = Value(parents=list(given[len(positional) :]), parameter=True)
        if arguments.kwarg is not None:
            scope.names[arguments.kwarg.arg] = Value(parents=list(keywords.values()), parameter=True)

    def _callbacks(self, args: Sequence[Value], keywords: dict[str, Value]) -> None:
        """A function given away is expected to be called, with who knows what."""
        for value in (*args, *keywords.values()):
            if value.function is not None and self._readable(value.function):
                self.inside(value.function, [], {})


def _gathered(arguments: ast.arguments, given: Sequence[Value], keywords: dict[str, Value], scope: Scope) -> None:
    """What *args and **kwargs hold where the call is known."""
    named = {argument.arg for argument in (*arguments.args, *arguments.kwonlyargs)}
    if arguments.vararg is not None:
        scope.names[arguments.vararg.arg] = Value(items=list(given[len(arguments.posonlyargs) + len(arguments.args) :]))
    if arguments.kwarg is not None:
        rest = {name: value for name, value in keywords.items() if name not in named}
        scope.names[arguments.kwarg.arg] = Value(keys=rest)


def _put_into(base: Value, given: Sequence[Value]) -> None:
    """A method was called with these: it may keep them, and what was written down of a sequence holds no more."""
    base.parents += [part for part in given if part is not base]
    if given and base.items is not None:
        base.parents += base.items
        base.items = None
