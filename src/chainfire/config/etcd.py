"""etcd's rules: its command line, ETCD_* variables and YAML file, taken as they are.

- A flag and its variable both set: an error. An unknown ETCD_* variable: a warning.
- A file (--config-file or ETCD_CONFIG_FILE): every other flag and variable is
  ignored. Its keys are the flags' names, its durations integer nanoseconds.
- Flags without meaning here: see etcd_flags.py. Chainfire's own options are
  flags here too; their variables are ETCD_* as well.
(etcd: server/etcdmain/config.go, pkg/flags/flag.go, server/embed/config.go.)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from chainfire.config import kinds
from chainfire.config.arguments import split_arguments
from chainfire.config.etcd_flags import FEATURE_GATES, FOREIGN, SPECIAL, plain_name
from chainfire.config.layers import Layer, Loaded, convert, finish, read_text
from chainfire.config.problems import Problem, nearest, raise_if_any, show_given
from chainfire.config.schema import BY_FLAG, environment_name
from chainfire.config.urls import BadValue

PREFIX = "ETCD_"
DEFAULTS: Mapping[str, Any] = {"logging.log_format": "json"}
_FEATURE_GATES = "feature-gates"
_BLOCKS = ("socket-options",)
# The file's blocks of flags: what stands before their keys, and flags of other names.
_TLS_BLOCKS = {"client-transport-security": "", "peer-transport-security": "peer-"}
_TLS_KEYS = {
    "allowed-cn": "cert-allowed-cn",
    "allowed-hostname": "cert-allowed-hostname",
    "allowed-hostnames": "cert-allowed-hostname",
}
_TLS_FLAGS = {"cert-allowed-hostname": "client-cert-allowed-hostname"}
_DISCOVERY_BLOCK = "discovery-config"


def is_bool(flag: str) -> bool:
    plain = plain_name(flag)
    if plain in BY_FLAG:
        return BY_FLAG[plain].kind is kinds.BOOL
    return SPECIAL.get(plain, False) or (plain in FOREIGN and FOREIGN[plain].is_bool)


def load(arguments: Sequence[str], environ: Mapping[str, str]) -> Loaded:
    """The configuration of `chainfire etcd`. Raises ConfigError with every problem at once."""
    reader = _Reader()
    split = split_arguments(arguments, is_bool)
    reader.problems += split.problems
    for flag in split.flags:
        if not _is_known(flag):
            reader.unknown(flag)
    path = split.flags.get("config-file") or environ.get(environment_name(PREFIX, "config-file"))
    if path:
        if set(split.flags) - {"config-file"} or _other_variables(environ):
            reader.warn(f"{path!r} is used: all other flags and environment variables are ignored")
        reader.read_file(path)
    else:
        reader.read_flags_and_environment(split.flags, environ)
    return finish(
        [reader.layer],
        reader.problems,
        defaults=DEFAULTS,
        data_dir_suffix=".etcd",
        warnings=reader.warnings,
    )


def _other_variables(environ: Mapping[str, str]) -> bool:
    return any(name.startswith(PREFIX) and name != "ETCD_CONFIG_FILE" for name in environ)


def _known_flags() -> Iterator[str]:
    yield from (*BY_FLAG, *FOREIGN, *SPECIAL, _FEATURE_GATES)


def _is_known(flag: str) -> bool:
    return plain_name(flag) in {*_known_flags()}


class _Reader:
    """What is found while reading: one layer, problems, warnings."""

    def __init__(self) -> None:
        self.layer: Layer = {}
        self.problems: list[Problem] = []
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        self.warnings.append(text)

    def unknown(self, flag: str) -> None:
        hint = nearest(f"--{flag}", (f"--{known}" for known in _known_flags()))
        self.problems.append(Problem(f"--{flag}", f"unknown flag{hint}"))

    def read_flags_and_environment(
        self, flags: Mapping[str, str], environ: Mapping[str, str]
    ) -> None:
        variables = {environment_name(PREFIX, flag): flag for flag in _known_flags()}
        for flag, given in flags.items():
            name = environment_name(PREFIX, flag)
            if name in environ:
                wanted = f"conflicting environment variable {name}: unset it or drop the flag"
                self.problems.append(Problem(f"--{flag}", wanted, given))
            self.take_text(flag, given, f"--{flag}", f"flag --{flag}")
        for name, given in sorted(environ.items()):
            if not name.startswith(PREFIX) or name[len(PREFIX) :] in ("CONFIG_FILE", "VERSION"):
                continue
            flag = variables.get(name) or plain_name(name[len(PREFIX) :].lower().replace("_", "-"))
            if not _is_known(flag):
                known = nearest(name, variables)
                self.warn(f"unrecognized environment variable {name} is ignored{known}")
            elif given and flag not in flags:
                self.take_text(flag, given, name, f"environment {name}")

    def take_text(self, flag: str, given: str, where: str, origin: str) -> None:
        plain = plain_name(flag)
        if plain in BY_FLAG:
            if plain != flag:
                self.warn(f"{where} is the old name of --{plain}")
            option = BY_FLAG[plain]
            convert(self.layer, self.problems, option, option.kind.parse, given, where, origin)
        elif plain == _FEATURE_GATES:
            self.take_gates(given, where)
        elif plain in FOREIGN:
            self.take_foreign(plain, given, where)

    def take_foreign(self, flag: str, given: str, where: str) -> None:
        foreign = FOREIGN[flag]
        if foreign.is_bool:
            try:
                given = str(kinds.parse_bool(given)).lower()
            except BadValue as exc:
                self.problems.append(Problem(where, str(exc), given))
                return
        if given in foreign.harmless:
            return
        if foreign.refused:
            self.problems.append(Problem(where, foreign.why, given))
        else:
            self.warn(f"{where} has no effect: {foreign.why}")

    def take_gates(self, given: str, where: str) -> None:
        for gate in filter(None, given.split(",")):
            name, _, value = gate.partition("=")
            if name not in FEATURE_GATES:
                hint = nearest(name, FEATURE_GATES)
                self.problems.append(Problem(where, f"unrecognized feature gate {name!r}{hint}"))
            elif value not in ("true", "false"):
                self.problems.append(Problem(where, "must be Name=true or Name=false", gate))
            else:
                self.warn(f"{where}: the feature gate {gate} has no effect")

    def read_file(self, path: str) -> None:
        for key, given in _parse_yaml(read_text(path), path).items():
            where, plain = f"{path}: {key}", plain_name(str(key))
            if given is None:
                continue
            if plain in BY_FLAG:
                option = BY_FLAG[plain]
                read = _yaml_reader(option.kind)
                convert(self.layer, self.problems, option, read, given, where, f"file {path}")
            elif plain in _TLS_BLOCKS:
                self.take_tls_block(given, where, f"file {path}", _TLS_BLOCKS[plain])
            elif plain == _DISCOVERY_BLOCK:
                self.take_block(given, where, refused=True)
            elif plain in _BLOCKS:
                self.take_block(given, where, refused=False)
            elif plain in FOREIGN or plain == _FEATURE_GATES:
                self.take_text(plain, _scalar_text(given), where, f"file {path}")
            elif plain not in SPECIAL:
                self.warn(f"{where}: unknown key is ignored{nearest(plain, _known_flags())}")

    def take_tls_block(self, block: object, where: str, origin: str, prefix: str) -> None:
        if not isinstance(block, dict):
            self.problems.append(Problem(where, "must be a mapping", show_given(block)))
            return
        for key, given in block.items():
            flag = prefix + _TLS_KEYS.get(str(key), str(key))
            flag = _TLS_FLAGS.get(flag, flag)
            if _is_known(flag) and given is not None:
                self.take_text(flag, _scalar_text(given), f"{where}.{key}", origin)
            elif given is not None:
                self.warn(f"{where}.{key}: unknown key is ignored{nearest(flag, _known_flags())}")

    def take_block(self, block: object, where: str, *, refused: bool) -> None:
        if not isinstance(block, dict):
            self.problems.append(Problem(where, "must be a mapping", show_given(block)))
            return
        for key, given in block.items():
            if not given:
                continue
            if refused and key in ("endpoints", "token"):
                self.problems.append(Problem(f"{where}.{key}", FOREIGN["discovery"].why))
            else:
                self.warn(f"{where}.{key} has no effect: not there yet")


def _parse_yaml(text: str, path: str) -> dict[object, object]:
    import yaml  # only when there is such a file

    try:
        document = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError, TypeError) as exc:
        raise_if_any([Problem(path, f"is not YAML: {exc}")])
        raise AssertionError from exc
    if not isinstance(document, dict | None):
        raise_if_any([Problem(path, "must be a mapping of flag names to values")])
    return dict(document or {})


def _scalar_text(value: object) -> str:
    """As etcd's YAML reader turns a scalar into a string field; lists are comma-joined."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return ",".join(map(show_given, value))
    return show_given(value)


def _yaml_reader(kind: kinds.Kind) -> Any:
    """How the file writes this kind: nanoseconds for durations, text for lists."""
    if kind.name == "duration":
        return lambda value: kind.read(kinds.ms_of_ns(_whole_nanoseconds(value)))
    if kind is kinds.URLS or kind is kinds.MEMBERS or kind is kinds.TEXT:
        return lambda value: kind.parse(_scalar_text(value))
    return kind.read


def _whole_nanoseconds(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise BadValue("must be a whole number of nanoseconds")
    return value
