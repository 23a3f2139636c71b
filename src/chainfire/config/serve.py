"""Chainfire's own rules: TOML file, then CHAINFIRE_* variables, then flags; the later one counts.

Unknown names are errors, in all three. The file is named by --config-file or
CHAINFIRE_CONFIG_FILE.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any

from chainfire.config.arguments import Arguments, split_arguments
from chainfire.config.etcd_flags import is_etcd_flag
from chainfire.config.kinds import BOOL
from chainfire.config.layers import Layer, Loaded, convert, finish, read_text
from chainfire.config.problems import Problem, nearest, raise_if_any, show_given
from chainfire.config.schema import BY_FLAG, BY_KEY, OPTIONS

PREFIX = "CHAINFIRE_"
CONFIG_FILE = "config-file"
# Variables of the command line client, and of chainfire.compiled; the server passes them by.
OTHER_VARIABLES = frozenset(
    f"{PREFIX}{name}" for name in ("ENDPOINTS", "CONFIG_FILE", "CACERT", "CERT", "KEY", "PURE")
)
# Kubernetes injects these for a service whose name starts with chainfire.
_KUBERNETES = re.compile(
    r"CHAINFIRE_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_\w+)?)?)"
)


def is_bool(flag: str) -> bool:
    option = BY_FLAG.get(flag)
    return flag in ("help", "h") or (option is not None and option.kind is BOOL)


def load(arguments: Sequence[str], environ: Mapping[str, str]) -> Loaded:
    """The configuration of `chainfire serve`. Raises ConfigError with every problem at once."""
    split = split_arguments(arguments, is_bool)
    problems = list(split.problems)
    path = split.flags.pop(CONFIG_FILE, environ.get(f"{PREFIX}CONFIG_FILE", ""))
    layers = [
        toml_layer(read_text(path), path, problems) if path else {},
        environment_layer(environ, problems),
        flags_layer(split, problems),
    ]
    return finish(layers, problems, defaults={}, data_dir_suffix=".chainfire")


def toml_layer(text: str, path: str, problems: list[Problem]) -> Layer:
    layer: Layer = {}
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as exc:
        raise_if_any([Problem(path, f"is not TOML: {exc}")])
        raise AssertionError from exc
    sections = {option.section for option in OPTIONS}
    for section, table in document.items():
        where = f"{path}: [{section}]"
        if section not in sections:
            problems.append(Problem(where, f"unknown section{nearest(section, sections)}"))
        elif not isinstance(table, dict):
            problems.append(Problem(where, "must be a table", show_given(table)))
        else:
            _read_section(layer, problems, section, table, path)
    return layer


def _read_section(
    layer: Layer, problems: list[Problem], section: str, table: dict[str, Any], path: str
) -> None:
    for field, given in table.items():
        key = f"{section}.{field}"
        option = BY_KEY.get(key)
        if option is None:
            problems.append(Problem(f"{path}: {key}", f"unknown key{_key_hint(section, field)}"))
        else:
            where, read = f"{path}: {key}", option.kind.read
            convert(layer, problems, option, read, given, where, f"file {path}")


def _key_hint(section: str, field: str) -> str:
    for option in OPTIONS:
        if field in (option.field, option.flag):
            return f"; did you mean {option.key}?"
    same_section = {option.field for option in OPTIONS if option.section == section}
    return nearest(field, same_section) or nearest(field, {option.field for option in OPTIONS})


def environment_layer(environ: Mapping[str, str], problems: list[Problem]) -> Layer:
    layer: Layer = {}
    known = {option.environment(PREFIX): option for option in OPTIONS}
    for name, given in sorted(environ.items()):
        if not name.startswith(PREFIX) or name in OTHER_VARIABLES or _KUBERNETES.fullmatch(name):
            continue
        if name in known:
            option = known[name]
            convert(layer, problems, option, option.kind.parse, given, name, f"environment {name}")
        else:
            problems.append(Problem(name, f"unknown variable{nearest(name, known)}"))
    return layer


def flags_layer(split: Arguments, problems: list[Problem]) -> Layer:
    layer: Layer = {}
    for flag, given in split.flags.items():
        option = BY_FLAG.get(flag)
        if option is not None:
            where, read = f"--{flag}", option.kind.parse
            convert(layer, problems, option, read, given, where, f"flag --{flag}")
        elif is_etcd_flag(flag):
            wanted = "an etcd flag that serve does not take; `chainfire etcd` accepts it"
            problems.append(Problem(f"--{flag}", wanted))
        else:
            hint = nearest(f"--{flag}", [f"--{known}" for known in (*BY_FLAG, CONFIG_FILE)])
            problems.append(Problem(f"--{flag}", f"unknown flag{hint}"))
    return layer
