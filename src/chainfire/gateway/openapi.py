"""`/openapi.json`: what HTTP serves, as an OpenAPI 3.1 document made from the same tables.

Schemas come from the messages' descriptors, once per dialect: `etcdserverpb.X`
under /v3, `chainfire.v1.X` under /chainfire/v1.
"""

from __future__ import annotations

import json
from functools import cache
from typing import Any, Final

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from chainfire.api.health import CHECKS
from chainfire.api.table import Kind
from chainfire.gateway.json_codec import ETCD, EXACT_MAX, Dialect
from chainfire.gateway.routes import ROUTES, Route
from chainfire.version import VERSION

_Json = dict[str, Any]

_INTRODUCTION: Final = """
Every method takes POST with a JSON object; an empty body is an empty object, unknown fields are
passed over, fields with default values are left out of answers. `/v3` is etcd's JSON: bytes in
base64, 64-bit integers as strings. `/chainfire/v1` is readable: bytes as text where they are UTF-8,
else `{"base64": "…"}`; integers as numbers as far as JSON keeps them exact, else as strings.

Streams answer with one JSON object and a newline per message, each in a chunk of its own:
`{"result": …}`, at the end perhaps `{"error": …}`. With `Accept: text/event-stream` each is the
data of a server-sent event. Requests of a stream in both directions are JSON objects one after
another in the request's body.

`Authorization` carries the token of Authenticate; `Grpc-Timeout` (as `500m`) a deadline.
"""
_INTEGER_BOUNDS: Final = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
}
_WIDE: Final = (FieldDescriptor.CPPTYPE_INT64, FieldDescriptor.CPPTYPE_UINT64)
_BASE64: Final = {"type": "string", "contentEncoding": "base64"}
_ERROR: Final = {
    "type": "object",
    "properties": {
        "error": {"type": "string"},
        "code": {"type": "integer", "description": "a gRPC status code"},
        "message": {"type": "string"},
        "details": {"type": "array"},
    },
    "required": ["error", "code", "message", "details"],
}

_STREAM_ERROR: Final = {
    "type": "object",
    "properties": {
        "error": {
            "type": "object",
            "properties": {
                "grpc_code": {"type": "integer"},
                "http_code": {"type": "integer"},
                "message": {"type": "string"},
                "http_status": {"type": "string"},
                "code": {"type": "integer"},
                "details": {"type": "array"},
            },
            "required": ["grpc_code", "http_code", "message", "http_status", "code", "details"],
        }
    },
    "required": ["error"],
}


@cache
def document() -> bytes:
    """As JSON; made by the first call."""
    schemas: _Json = {"Error": _ERROR, "StreamError": _STREAM_ERROR}
    paths = {path: {"post": _operation(route, schemas)} for path, route in ROUTES.items()}
    return json.dumps(
        {
            "openapi": "3.1.0",
            "info": {
                "title": "Chainfire",
                "version": VERSION,
                "description": _INTRODUCTION.strip(),
                "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            },
            "paths": paths | _pages(),
            "components": {
                "schemas": dict(sorted(schemas.items())),
                "securitySchemes": {
                    "token": {"type": "apiKey", "in": "header", "name": "Authorization"}
                },
            },
            "security": [{}, {"token": []}],
        },
        separators=(",", ":"),
        ensure_ascii=False,
    ).encode()


def _operation(route: Route, schemas: _Json) -> _Json:
    method = route.method
    request, reply = (
        _reference(codec.type.DESCRIPTOR, route.dialect, schemas)  # type: ignore[arg-type]
        for codec in (route.request, route.reply)
    )
    media: _Json = {"application/json": {"schema": reply}}
    text = "The answer"
    if route.is_stream:
        item = {"anyOf": [{"properties": {"result": reply}}, _refers("StreamError")]}
        # A body of many values is no instance of one schema; OpenAPI has a word for it from 3.2 on.
        media = {"application/json": {"x-item-schema": item}, "text/event-stream": {}}
        text = "One object per line"
    body: _Json = {"content": {"application/json": {"schema": request}}}
    if method.kind is Kind.BIDI:
        body["description"] = "One object after another"
    schema = _refers("Error")
    if route.is_stream:  # refused before it began, or ended before its first message
        schema = {"anyOf": [schema, _refers("StreamError")]}
    error = {"application/json": {"schema": schema}}
    return {
        "operationId": route.path.strip("/").replace("/", "_").replace("-", "_"),
        "summary": f"{method.service}/{method.name}",
        "tags": [method.service.rpartition(".")[2]],
        "requestBody": body,
        "responses": {
            "200": {"description": text, "content": media},
            "413": {"description": "The body is too large", "content": {"text/plain": {}}},
            "default": {"description": "An error", "content": error},
        },
    }


# ── schemas ─────────────────────────────────────────────────────────────────


def _reference(descriptor: Descriptor, dialect: Dialect, schemas: _Json) -> _Json:
    name = f"{dialect.package}.{descriptor.full_name.removeprefix(descriptor.file.package + '.')}"
    if name not in schemas:
        schemas[name] = {}  # it may contain itself
        properties = {field.name: _field(field, dialect, schemas) for field in descriptor.fields}
        schemas[name] = {"type": "object", "properties": properties}
    return _refers(name)


def _refers(name: str) -> _Json:
    return {"$ref": f"#/components/schemas/{name}"}


def _field(field: FieldDescriptor, dialect: Dialect, schemas: _Json) -> _Json:
    schema = _value(field, dialect, schemas)
    return {"type": "array", "items": schema} if field.is_repeated else schema


def _value(field: FieldDescriptor, dialect: Dialect, schemas: _Json) -> _Json:
    if field.message_type is not None:
        return _reference(field.message_type, dialect, schemas)
    if field.enum_type is not None:
        values = field.enum_type.values
        names, numbers = [value.name for value in values], [value.number for value in values]
        return {"enum": [*names, *numbers]}
    if field.type == FieldDescriptor.TYPE_BYTES:
        if dialect is ETCD:
            return _BASE64
        wrapped = {"type": "object", "properties": {"base64": _BASE64}, "required": ["base64"]}
        return {"anyOf": [{"type": "string"}, {**wrapped, "additionalProperties": False}]}
    if field.type == FieldDescriptor.TYPE_STRING:
        return {"type": "string"}
    if field.type == FieldDescriptor.TYPE_BOOL:
        return {"type": "boolean"}
    low, high = _INTEGER_BOUNDS[field.cpp_type]
    if field.cpp_type not in _WIDE:
        return _integer(low, high)
    number = _integer(max(low, -EXACT_MAX), EXACT_MAX)
    return {"anyOf": [{"type": "string", "pattern": "^-?[0-9]{1,20}$"}, number]}


def _integer(low: int, high: int) -> _Json:
    return {"type": "integer", "minimum": low, "maximum": high}


# ── pages ───────────────────────────────────────────────────────────────────


def _pages() -> _Json:
    flag = {"type": "string"}
    health = [
        _query("exclude", "An alarm to overlook"),
        _query("serializable", "true: local", flag),
    ]
    found: _Json = {
        "/health": _page("Whether it serves", "text/plain", "503", parameters=health),
        "/version": _page("Versions of server, cluster and storage", "application/json"),
        "/metrics": _page("Prometheus metrics", "text/plain"),
        "/openapi.json": _page("This document", "application/json"),
        "/debug/vars": _page("A few facts of the process", "application/json"),
    }
    for kind, checks in CHECKS.items():
        parameters = [
            _query("verbose", "A line per check"),
            _query("exclude", "A check to leave out"),
        ]
        text = f"Checks: {', '.join(checks)}"
        found[f"/{kind}"] = _page(text, "text/plain", "503", parameters=parameters)
        for name in checks:
            found[f"/{kind}/{name}"] = _page(f"The check {name}", "text/plain", "503")
    level = {"type": "object", "properties": {"Level": {"type": "string"}}, "required": ["Level"]}
    found["/config/local/log"] = {
        "put": {
            "summary": "Set the log level until the next start",
            "operationId": "config_local_log",
            "requestBody": {"content": {"application/json": {"schema": level}}, "required": True},
            "responses": {
                "204": {"description": "Set"},
                "400": {"description": "No such level", "content": {"text/plain": {}}},
                "413": {"description": "The body is too large", "content": {"text/plain": {}}},
            },
        }
    }
    return found


def _page(text: str, media: str, *errors: str, parameters: list[_Json] | None = None) -> _Json:
    responses: _Json = {"200": {"description": text, "content": {media: {}}}}
    for status in errors:
        responses[status] = {"description": "No", "content": {"text/plain": {}}}
    return {"get": {"summary": text, "parameters": parameters or [], "responses": responses}}


def _query(name: str, text: str, schema: _Json | None = None) -> _Json:
    many = {"type": "array", "items": {"type": "string"}}
    return {"name": name, "in": "query", "description": text, "schema": schema or many}
