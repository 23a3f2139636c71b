"""Builds the wheel `chainfire-compiled`: the hot modules of ../src, compiled by mypyc.

    python -m pip install --no-build-isolation ./compiled

Nothing of it is written by hand: mypyc translates the very sources that run
without the wheel. It also holds the hash of each, so that `chainfire/compiled.py`
uses the wheel with these sources only.
"""

from __future__ import annotations

import fnmatch
import os
import tomllib
from concurrent.futures import ThreadPoolExecutor
from importlib.util import source_hash
from pathlib import Path
from typing import Any

from mypyc.build import mypycify
from setuptools import setup
from setuptools.command.build_ext import build_ext

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
SOURCE = ROOT / "src"
PACKAGE = "chainfire_compiled"


def chosen() -> list[Path]:
    """The modules to compile, relative to the root: those of `modules` less those of `left`."""
    table = tomllib.loads((HERE / "modules.toml").read_text())
    found: list[Path] = []
    for path in sorted((SOURCE / "chainfire").rglob("*.py")):
        name = path.relative_to(SOURCE / "chainfire").as_posix()
        taken = any(fnmatch.fnmatch(name, pattern) for pattern in table["modules"])
        if taken and name not in table["left"] and path.name != "__init__.py":
            found.append(path.relative_to(ROOT))
    return found


def module_of(path: Path) -> str:
    return ".".join(path.relative_to("src").with_suffix("").parts)


class BuildOnAllCores(build_ext):
    """As many C files at once as there are processors: they are one extension's."""

    def build_extensions(self) -> None:
        one_after_the_other = self.compiler.compile

        def compile(sources: list[str], *args: Any, **options: Any) -> list[str]:
            def objects(source: str) -> list[str]:
                return one_after_the_other([source], *args, **options)

            with ThreadPoolExecutor(os.cpu_count()) as pool:
                return [name for names in pool.map(objects, sources) for name in names]

        self.compiler.compile = compile
        super().build_extensions()


def main() -> None:
    os.chdir(ROOT)  # mypy's options, and what it may follow, stand in ../pyproject.toml
    os.environ["MYPYPATH"] = "src:native"
    paths = chosen()
    extensions = mypycify(
        ["--config-file", "pyproject.toml", *map(str, paths)],
        opt_level="2",
        debug_level="0",
        multi_file=True,
        group_name="chainfire",
        target_dir=str(HERE / "build" / "c"),
    )
    for extension in extensions:
        # Loaded under its own name by our finder; in one flat directory until then.
        extension.name = f"{PACKAGE}.{extension.name.replace('.', '-')}"
    os.chdir(HERE)
    for extension in extensions:
        extension.sources = [str(ROOT / source) for source in extension.sources]
    package = HERE / "build" / PACKAGE
    package.mkdir(parents=True, exist_ok=True)
    hashes = {module_of(path): source_hash((ROOT / path).read_bytes()).hex() for path in paths}
    lines = [f"    {name!r}: {value!r},\n" for name, value in sorted(hashes.items())]
    (package / "__init__.py").write_text("SOURCES = {\n" + "".join(lines) + "}\n")
    setup(
        name="chainfire-compiled",
        version="0.1.0",
        description="The hot modules of Chainfire, compiled by mypyc",
        packages=[PACKAGE],
        package_dir={"": "build"},
        ext_modules=extensions,
        cmdclass={"build_ext": BuildOnAllCores},
        python_requires=">=3.11",
    )


main()
