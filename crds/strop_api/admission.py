"""What an OptimizationPolicy forbids, as a ValidatingAdmissionPolicy: refused before it is stored.

The operator asks the same of every spec before it starts anything (`strop_api.grants`), and more: what needs the
policy's defaults for resources, or an image that serves a run, is judged there alone. `charts/sync.py` writes this into
the chart.
"""

from dataclasses import dataclass
from typing import Any

from strop_api import API_VERSION, GROUP, VERSION
from strop_api.data import DataSpec
from strop_api.grants import RESERVED_LABEL_DOMAINS, RESERVED_LABELS
from strop_api.optimization import PLURAL
from strop_api.policy import POLICY_KIND, Allowlists, Limits
from strop_api.rules.rule import member_names, quoted
from strop_api.worker import HARMLESS_ENVIRONMENT

Node = dict[str, Any]
MOST_ADAPTERS = 8
"""Of one step, as the schema bounds them."""
WHOSE = "params.metadata.namespace + '/' + params.metadata.name"


@dataclass(frozen=True)
class Check:
    """One thing that a policy may forbid."""

    name: str
    expression: str
    """CEL, true when all is well."""
    message: str
    """CEL for what is wrong, where, and what mends it."""

    def validation(self) -> Node:
        """An entry of `validations`."""
        return {"expression": self.expression, "messageExpression": self.message, "reason": "Forbidden"}


def _given(root: str, path: str) -> str:
    """CEL: whether each part of the path is there."""
    parts = path.split(".")
    return " && ".join(f"has({root}.{'.'.join(parts[: end + 1])})" for end in range(len(parts)))


def _or_else(root: str, path: str, otherwise: str) -> str:
    """CEL: the value at the path, or another where there is none."""
    return f"{_given(root, path)} ? {root}.{path} : {otherwise}"


def _listed(name: str) -> str:
    """CEL: a list as words."""
    return f"(size({name}) > 0 ? {name}.join(', ') : 'none')"


def _folder(uri: str) -> str:
    """CEL: with a slash at the end, so that a name that only begins alike does not lie below."""
    return f"({uri}.endsWith('/') ? {uri} : {uri} + '/')"


def _climbs(uri: str) -> str:
    """CEL: whether a part of the path is empty, `.` or `..`."""
    return f"(!{uri}.matches('^[a-z0-9]+://([^/]+/)*[^/]+/?$') || {uri}.matches('://(.*/)?[.][.]?(/|$)'))"


def _prefixes(name: str) -> str:
    """CEL: a list of the store's prefixes, filled in. One with two slashes at its end is left to the operator."""
    filled = f"{_folder('p')}.replace('{{namespace}}', request.namespace)"
    each = f"p.endsWith('//') ? 's3://' : {filled}"
    return f"variables.stores.filter(s, has(s.{name})).map(s, s.{name}.map(p, {each}))"


def _input(field: str, uri: str) -> str:
    """CEL: an address with its field; `folder` is what is compared with prefixes, made once for all comparisons."""
    return f"{{'field': {field}, 'uri': string({uri}), 'folder': string({_folder(uri)})}}"


def _inputs() -> str:
    """CEL: every URI that a run would read, with its field; steps by their names, since CEL does not count."""
    fields = ["model.architecture.source.uri"]
    for role in member_names(DataSpec):
        fields += [f"data.{role}.uri", f"data.{role}.tokenizer.uri"]
    parts = [f"[{_input(repr('spec.model.uri'), 'object.spec.model.uri')}]"]
    parts += [f"({_given('object.spec', f)} ? [{_input(repr(f'spec.{f}'), f'object.spec.{f}')}] : [])" for f in fields]
    steps = f"({_or_else('object.spec', 'steps', '[]')})"
    for index in range(MOST_ADAPTERS):
        entry = _input(f"'spec.steps.' + s.name + '.merge.adapters[{index}]'", f"s.merge.adapters[{index}]")
        parts.append(f"{steps}.filter(s, has(s.merge) && size(s.merge.adapters) > {index}).map(s, {entry})")
    teacher = _input("'spec.steps.' + s.name + '.distil.teacher'", "s.distil.teacher")
    parts.append(f"{steps}.filter(s, has(s.distil) && has(s.distil.teacher)).map(s, {teacher})")
    return " + ".join(parts)


def _allowed(model: type[Allowlists], field: str) -> tuple[str, str]:
    """A variable of its own for each list: absent, it is what the model says."""
    alias = model.model_fields[field].alias or field
    return alias, _or_else("params.spec", f"allow.{alias}", quoted(getattr(model(), field)))


CLAIM = "i.uri.split('/')[2]"
STORED = "variables.inputs.filter(i, i.uri.startsWith('s3://'))"
OUTSIDE = "variables.inputPrefixes.exists(ps, size(ps) > 0 && !ps.exists(p, i.folder.startsWith(p)))"
MEETS = "variables.records.exists(r, i.folder.startsWith(r) || r.startsWith(i.folder))"
FOREIGN = f"i.uri.startsWith('pvc://') && !({CLAIM} in variables.persistentVolumeClaims)"
STORE_NAME = f"({_or_else('object.spec', 'storeRef.name', repr('default'))})"
VARIABLES: tuple[tuple[str, str], ...] = (
    ("stores", f"params.spec.stores.filter(s, s.name == {STORE_NAME})"),
    ("outputPrefixes", _prefixes("outputPrefixes")),
    ("inputPrefixes", _prefixes("inputPrefixes")),
    (
        "records",
        "params.spec.stores.filter(r, variables.stores.exists(s, s.endpoint == r.endpoint))"
        f".map(r, has(r.recordsUri) ? {_folder('r.recordsUri')} : 's3://strop-records/')",
    ),
    ("inputs", _inputs()),
    ("allowCode", _or_else("params.spec", "allowCode", "false")),
    *(_allowed(Allowlists, field) for field in Allowlists.model_fields),
    ("climbing", f"{STORED}.filter(i, {_climbs('i.uri')})"),
    ("fromRecords", f"{STORED}.filter(i, {MEETS})"),
    ("strayInputs", f"{STORED}.filter(i, {OUTSIDE})"),
    ("foreignClaims", f"variables.inputs.filter(i, {FOREIGN})"),
    ("mostAccelerators", _or_else("params.spec", "limits.accelerators", str(Limits().accelerators))),
    ("deadline", _or_else("params.spec", "limits.activeDeadlineSeconds", str(Limits().active_deadline_seconds))),
    (
        "accelerators",
        "object.spec.targets.filter(t, has(t.accelerator))"
        ".map(t, has(t.accelerator.count) ? int(t.accelerator.count) : 1).sum()",
    ),
)
"""Name and CEL; each is evaluated when it is first used."""


def _stores() -> tuple[Check, ...]:
    uri, folder = "object.spec.output.uri", _folder("object.spec.output.uri")
    meets = f"variables.records.exists(r, {folder}.startsWith(r) || r.startsWith({folder}))"
    below = f"variables.outputPrefixes.exists(ps, ps.exists(p, {folder}.startsWith(p)))"
    return (
        Check(
            "store",
            "size(variables.stores) > 0",
            f"'spec.storeRef.name: the policy ' + {WHOSE} + ' has no store ' + {STORE_NAME} + '; it has '"
            " + params.spec.stores.map(s, s.name).join(', ')",
        ),
        Check(
            "output",
            f"size(variables.stores) == 0 || !{_climbs(uri)} && {below}",
            f"'spec.output.uri: ' + {uri} + ' does not lie below what the policy ' + {WHOSE} + ' allows: '"
            " + variables.outputPrefixes.map(ps, ps.join(', ')).join(', ')",
        ),
        Check(
            "output-apart-from-records",
            f"!{meets}",
            "'spec.output.uri: ' + variables.records.join(', ') + ' holds the records, which only runs write: publish"
            " elsewhere'",
        ),
    )


def _of_inputs(name: str, words: str) -> Check:
    """That none of the inputs is in a list."""
    return Check(name, f"size(variables.{name}) == 0", f"variables.{name}.map(i, {words}).join('; ')")


def _input_checks() -> tuple[Check, ...]:
    return (
        _of_inputs(
            "climbing", "i.field + ': an empty part, `.` or `..` in the path of ' + i.uri + ': name the object itself'"
        ),
        _of_inputs(
            "fromRecords",
            "i.field + ': ' + i.uri + ' meets the records, which are no input: name a file or folder elsewhere'",
        ),
        _of_inputs(
            "strayInputs",
            f"i.field + ': ' + i.uri + ' does not lie below what the policy ' + {WHOSE} + ' allows in inputPrefixes'",
        ),
        _of_inputs(
            "foreignClaims",
            f"i.field + ': the policy ' + {WHOSE} + ' does not allow the claim ' + {CLAIM} + ' in"
            " allow.persistentVolumeClaims'",
        ),
    )


def _code() -> tuple[Check, ...]:
    source = _given("object.spec", "model.architecture.source")
    return (
        Check(
            "code-in-the-model",
            "variables.allowCode || object.spec.model.format != 'TorchExport'",
            f"'spec.model.format: a TorchExport file is code, and the policy ' + {WHOSE} + ' does not set allowCode'",
        ),
        Check(
            "code-by-uri",
            f"variables.allowCode || !({source})",
            f"'spec.model.architecture.source: the policy ' + {WHOSE} + ' does not set allowCode'",
        ),
    )


def _named(field: str, allowed: str) -> Check:
    """A name of which the policy has a list."""
    here, known = f"object.spec.worker.{field}", f"variables.{allowed}"
    return Check(
        field,
        f"!({_given('object.spec', f'worker.{field}')}) || {here} in {known}",
        f"'spec.worker.{field}: the policy ' + {WHOSE} + ' does not allow ' + {here} + '; its allow.{allowed} has '"
        f" + {_listed(known)}",
    )


def _worker() -> tuple[Check, ...]:
    domains = "|".join(domain.replace(".", "[.]") for domain in RESERVED_LABEL_DOMAINS)
    reserved = f"(key in {quoted(RESERVED_LABELS)} || key.matches('^([^/]*[.])?({domains})/'))"
    names = f"({quoted(HARMLESS_ENVIRONMENT)} + variables.environment)"
    labels, env = "object.spec.worker.labels", "object.spec.worker.env"
    tolerations = "object.spec.worker.tolerations"
    return (
        _named("serviceAccountName", "serviceAccounts"),
        _named("queueName", "queues"),
        _named("priorityClassName", "priorityClasses"),
        _named("runtimeClassName", "runtimeClasses"),
        Check(
            "tolerations",
            f"!({_given('object.spec', 'worker.tolerations')})"
            f" || {tolerations}.all(t, has(t.key) && t.key in variables.tolerationKeys)",
            f"'spec.worker.tolerations: the policy ' + {WHOSE} + ' allows the keys '"
            f" + {_listed('variables.tolerationKeys')} + ' (allow.tolerationKeys)'",
        ),
        Check(
            "env",
            f"!({_given('object.spec', 'worker.env')}) || {env}.all(e, e.name in {names})",
            f"'spec.worker.env: the policy ' + {WHOSE} + ' does not allow '"
            f" + {env}.filter(e, !(e.name in {names})).map(e, e.name).join(', ')"
            " + ': remove it, or have it added to allow.environment'",
        ),
        Check(
            "labels",
            f"!({_given('object.spec', 'worker.labels')}) || {labels}.all(key, !{reserved})",
            f"'spec.worker.labels: ' + {labels}.filter(key, {reserved}).join(', ') + ' is reserved: remove it'",
        ),
        Check(
            "image",
            f"!({_given('object.spec', 'worker.image')})"
            " || params.spec.images.exists(i, i.name == object.spec.worker.image)",
            f"'spec.worker.image: the catalogue of the policy ' + {WHOSE} + ' has no ' + object.spec.worker.image"
            " + '; it has ' + params.spec.images.map(i, i.name).join(', ')",
        ),
    )


def _limits() -> tuple[Check, ...]:
    resource = "(has(t.accelerator.resource) ? t.accelerator.resource : 'nvidia.com/gpu')"
    like = f"(a.endsWith('*') ? {resource}.startsWith(a.substring(0, size(a) - 1)) : {resource} == a)"
    known = "variables.acceleratorResources"
    foreign = f"has(t.accelerator) && !{known}.exists(a, {like})"
    deadline = f"({_or_else('object.spec', 'activeDeadlineSeconds', '21600')})"
    return (
        Check(
            "accelerators",
            f"!object.spec.targets.exists(t, {foreign})",
            f"'spec.targets: the policy ' + {WHOSE} + ' does not allow '"
            f" + object.spec.targets.filter(t, {foreign}).map(t, {resource}).join(', ')"
            f" + '; its allow.acceleratorResources has ' + {_listed(known)}",
        ),
        Check(
            "accelerator-count",
            "variables.accelerators <= variables.mostAccelerators",
            f"'spec.targets: ' + string(variables.accelerators) + ' accelerators; the policy ' + {WHOSE} + ' allows '"
            " + string(variables.mostAccelerators) + ' (limits.accelerators)'",
        ),
        Check(
            "deadline",
            f"{deadline} <= variables.deadline",
            f"'spec.activeDeadlineSeconds: ' + string({deadline}) + '; the policy ' + {WHOSE} + ' allows '"
            " + string(variables.deadline) + ' (limits.activeDeadlineSeconds)'",
        ),
    )


CHECKS: tuple[Check, ...] = (*_stores(), *_input_checks(), *_code(), *_worker(), *_limits())
"""In the operator's order; the API server tells all that fail."""

CONDITIONS: tuple[Node, ...] = (
    # What is stored may go on, be paused and go away, whatever a policy has come to forbid since.
    {"name": "asked-anew", "expression": "request.operation == 'CREATE' || object.spec != oldObject.spec"},
    {"name": "not-suspended", "expression": "!has(object.spec.suspend) || !object.spec.suspend"},
    {"name": "not-on-its-way-out", "expression": "!has(object.metadata.deletionTimestamp)"},
)


def spec() -> Node:
    """The `spec` of the ValidatingAdmissionPolicy. What it fails to judge the operator does."""
    rule = {
        "apiGroups": [GROUP],
        "apiVersions": [VERSION],
        "operations": ["CREATE", "UPDATE"],
        "resources": [PLURAL],
    }
    return {
        "failurePolicy": "Ignore",
        "paramKind": {"apiVersion": API_VERSION, "kind": POLICY_KIND},
        "matchConstraints": {"resourceRules": [rule]},
        "matchConditions": [dict(condition) for condition in CONDITIONS],
        "variables": [{"name": name, "expression": cel} for name, cel in VARIABLES],
        "validations": [check.validation() for check in CHECKS],
    }
