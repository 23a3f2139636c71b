"""Whatever is given, the parsers answer with a configuration or a ConfigError."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chainfire.config import etcd, serve
from chainfire.config.etcd_flags import FOREIGN
from chainfire.config.layers import Loaded
from chainfire.config.schema import BY_FLAG, OPTIONS, Option
from chainfire.errors import ConfigError

Load = Callable[[Sequence[str], Mapping[str, str]], Loaded]
BOTH = pytest.mark.parametrize("load", [serve.load, etcd.load], ids=["serve", "etcd"])
QUICK = settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])

flags = st.sampled_from([*BY_FLAG, *FOREIGN, "feature-gates"])
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)
likely = st.sampled_from(
    [
        *("", "0", "-1", "1e9", "0x10", "9" * 30, "5s", "1h1", "NaN", "true", "a=b"),
        *("http://[::1]:1", "http://x:99999", "http://[::1", "unix://", "n=http://a:1,n="),
        *("5\N{KELVIN SIGN}B", "\N{ARABIC-INDIC DIGIT THREE}"),
    ]
)
words = texts | likely


def attempt(load: Load, arguments: Sequence[str], environ: Mapping[str, str]) -> None:
    with contextlib.suppress(ConfigError):
        load(arguments, environ)


@BOTH
@QUICK
@given(st.lists(st.one_of(words, st.builds("--{}={}".format, flags, words)), max_size=6))
def test_any_command_line(load: Load, arguments: list[str]) -> None:
    attempt(load, [a for a in arguments if not a.startswith("--config-file")], {})


@BOTH
@QUICK
@given(st.dictionaries(st.sampled_from(list(BY_FLAG)), words, max_size=4))
def test_any_environment(load: Load, given_values: dict[str, str]) -> None:
    for prefix in ("CHAINFIRE_", "ETCD_"):
        names = {k.upper().replace("-", "_"): v for k, v in given_values.items()}
        attempt(load, [], {f"{prefix}{name}": value for name, value in names.items()})


@BOTH
@QUICK
@given(st.binary(max_size=60) | words.map(lambda text: text.encode("utf-8", "replace")))
def test_any_bytes_as_a_file(load: Load, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    attempt(load, [f"--config-file={path}"], {})


scalars = st.sampled_from(
    [
        *("1", "-1", "1.5", "true", "null", "[]", "{}", "''", "'x'", "2024-01-01", "inf"),
        *("[1, [2]]", "{a = 1}", "{a: 1}", "&a [*a]", "'http://a:1'", "['http://a:1']"),
        *("12:30:45", "0x" + "f" * 5000),
    ]
)


@QUICK
@given(st.dictionaries(st.sampled_from([*BY_FLAG, *FOREIGN, "socket-options"]), scalars))
def test_any_value_in_etcds_file(tmp_path: Path, values: dict[str, str]) -> None:
    path = tmp_path / "file"
    path.write_text("".join(f"{key}: {value}\n" for key, value in values.items()))
    attempt(etcd.load, [f"--config-file={path}"], {})


@QUICK
@given(st.sampled_from(OPTIONS), scalars)
def test_any_value_in_our_file(tmp_path: Path, option: Option, value: str) -> None:
    path = tmp_path / "file"
    path.write_text(f"[{option.section}]\n{option.field} = {value}\n")
    attempt(serve.load, [f"--config-file={path}"], {})


def test_endless_nesting_is_a_problem_like_any_other(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("a = " + "[" * 100_000)
    attempt(serve.load, [f"--config-file={path}"], {})
    path.write_text("a: " + "[" * 10_000)
    attempt(etcd.load, [f"--config-file={path}"], {})
