"""Values found in one place each, then laid over one another.

A layer is `section.field` → Setting. Later layers override earlier ones; what
nobody gave is derived (data directory, founding members) or takes its default.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chainfire.config.problems import Problem, raise_if_any, show_given
from chainfire.config.relations import DEFAULT, check
from chainfire.config.schema import BY_KEY, OPTIONS, Config, Option, build
from chainfire.config.urls import BadValue
from chainfire.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Setting:
    value: Any
    origin: str  # as `chainfire config print` shows it


Layer = dict[str, Setting]


@dataclass(frozen=True, slots=True)
class Loaded:
    """A checked configuration, where each value came from, and what to warn about."""

    config: Config
    origins: Mapping[str, str]
    warnings: Sequence[str] = ()


def convert(
    layer: Layer,
    problems: list[Problem],
    option: Option,
    read: Callable[[Any], Any],
    given: object,
    where: str,
    origin: str,
) -> None:
    """Read one value into the layer, or note the problem under the name `where`."""
    try:
        layer[option.key] = Setting(read(given), origin)
    except BadValue as exc:
        problems.append(Problem(where, str(exc), show_given(given)))


def finish(
    layers: Sequence[Layer],
    problems: list[Problem],
    *,
    defaults: Mapping[str, Any],
    data_dir_suffix: str,
    warnings: Sequence[str] = (),
) -> Loaded:
    """Lay the layers over the defaults and check; raises ConfigError with every problem."""
    found: Layer = {}
    for layer in layers:
        found |= layer
    values = {**defaults, **{key: setting.value for key, setting in found.items()}}
    origins = {
        option.key: found[option.key].origin if option.key in found else DEFAULT
        for option in OPTIONS
    }
    _derive(values, origins, data_dir_suffix)
    config = build(values)
    problems = problems + check(config, origins)
    raise_if_any(problems)
    return Loaded(config, origins, tuple(warnings))


def _derive(values: dict[str, Any], origins: dict[str, str], data_dir_suffix: str) -> None:
    def value(key: str) -> Any:
        return values.get(key, BY_KEY[key].default)

    name = value("member.name")
    if not values.get("member.data_dir"):  # empty is not given, as in etcd
        values["member.data_dir"] = f"{name}{data_dir_suffix}"
        origins["member.data_dir"] = "derived from member.name"
    if origins["cluster.initial_cluster"] == DEFAULT:
        peers = value("cluster.initial_advertise_peer_urls")
        values["cluster.initial_cluster"] = ((name, peers),)
        origins["cluster.initial_cluster"] = "derived from name and initial_advertise_peer_urls"


def read_text(path: str) -> str:
    """The file's text; what prevents reading it is a ConfigError."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, ValueError) as exc:
        raise ConfigError(f"configuration file {path!r} cannot be read: {exc}") from exc
