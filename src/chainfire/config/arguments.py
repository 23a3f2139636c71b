"""A command line split into flags, by the rules of Go's flag package, which etcd uses.

`--x=v`, `--x v`, `-x v`; a boolean flag takes a value only behind `=`; the last
of several equal flags counts. Nothing is looked up or converted here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from chainfire.config.problems import Problem


@dataclass(slots=True)
class Arguments:
    flags: dict[str, str] = field(default_factory=dict)  # name without dashes → text
    problems: list[Problem] = field(default_factory=list)

    def is_set(self, flag: str) -> bool:
        return self.flags.get(flag, "false") not in ("false", "0", "f", "F")


def split_arguments(arguments: Sequence[str], is_bool: Callable[[str], bool]) -> Arguments:
    found = Arguments()
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        name, equals, value = argument.lstrip("-").partition("=")
        dashes = len(argument) - len(argument.lstrip("-"))
        if dashes not in (1, 2) or not name:
            wanted = "unexpected argument; options start with --"
            found.problems += [Problem(extra, wanted) for extra in (argument, *rest)]
            break
        if not equals:
            if is_bool(name):
                value = "true"
            elif rest:
                value = rest.pop(0)
            else:
                found.problems.append(Problem(f"--{name}", "a value is missing behind it"))
                break
        found.flags[name] = value
    return found
