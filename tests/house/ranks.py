"""The table of ranks (ARCHITECTURE.md): who may import whom, and who may touch what.

Arrows go down only: a unit imports itself and units of a lower rank, less where `only` or `never`
say so. A unit is an entry directly under src/chainfire; one that is not listed here has no rank,
and the test says so.
"""

from __future__ import annotations

from dataclasses import dataclass

CLOCKS = frozenset({"time", "datetime", "sched"})
DICE = frozenset({"random", "secrets", "uuid"})
LOOPS = frozenset({"asyncio", "anyio", "uvloop", "selectors"})
THREADS = frozenset({"threading", "concurrent", "multiprocessing", "queue"})
WIRES = frozenset({"socket", "ssl", "select", "socketserver", "http", "urllib", "grpc"})
WORLD = frozenset({"os", "subprocess", "signal", "shutil", "tempfile", "pathlib", "io"})

NONDETERMINISM = CLOCKS | DICE | LOOPS | THREADS
PURE = NONDETERMINISM | WIRES | WORLD


@dataclass(frozen=True, slots=True)
class Unit:
    rank: int
    only: frozenset[str] | None = None  # of ours; None: everything below
    beside: frozenset[str] = frozenset()  # of the same rank, all the same
    never: frozenset[str] = frozenset()  # of ours
    banned: frozenset[str] = frozenset()  # foreign modules
    except_in: frozenset[str] = frozenset()  # files of the unit for which `banned` does not hold


def only(*names: str) -> frozenset[str]:
    return frozenset(names)


WORDS = only("types", "errors", "proto", "command", "version")

UNITS: dict[str, Unit] = {
    # 0: words. Neighbours that know of each other in one direction only.
    "version": Unit(0, only()),
    "wheel": Unit(0, only(), banned=PURE),
    "compiled": Unit(0, only()),
    "errors": Unit(0, only(), banned=PURE),
    "types": Unit(0, only("errors"), banned=PURE),
    "proto": Unit(0, only()),
    "command": Unit(0, only("proto", "types", "errors"), banned=PURE),
    # 1
    "config": Unit(1),
    "storage": Unit(1, banned=WIRES | DICE | LOOPS),
    "raft": Unit(1, only("types", "errors"), banned=PURE | only("google")),
    "client": Unit(1),
    "gossip": Unit(1, only("types", "errors"), banned=PURE, except_in=only("agent")),
    "quota": Unit(1, WORDS, banned=PURE),
    # 2
    "mvcc": Unit(2, WORDS | only("storage"), banned=PURE),
    "lease": Unit(2, WORDS | only("storage"), banned=PURE),
    "auth": Unit(2, WORDS | only("storage"), banned=NONDETERMINISM),
    "namespaces": Unit(2, WORDS | only("storage"), banned=PURE),
    # 3
    "watch": Unit(3, never=only("raft", "client"), banned=PURE),
    "machine": Unit(3, never=only("raft", "client"), banned=PURE),
    # 4: asyncio, clocks and threads only in the shell (its loop, its slices of long reads, its
    # background work) and the transport between members (`peers`: a path in its contract).
    "node": Unit(
        4,
        never=only("client"),
        banned=PURE | only("grpc"),
        except_in=only(
            *("shell", "steps", "scrub", "upkeep", "compacting", "logsync", "worker"),
            *("heartbeat", "overview", "waiter", "leaving", "ending", "holding"),
            *("peers", "link", "dialer", "accepting", "transport", "peertls", "tlsdoor", "peering"),
            *("registry", "snapshots", "sending", "receiving", "archive", "archiving", "pauses"),
        ),
    ),
    # 5
    "api": Unit(5, never=only("client"), banned=only("grpc", "http", "starlette", "uvicorn")),
    "metrics": Unit(
        5,
        beside=only("api"),  # the counts of the methods are the api's, and pulled like all others
        never=only("client"),
        banned=only("grpc", "http", "starlette", "uvicorn"),
    ),
    "logs": Unit(5, never=only("client")),
    "sim": Unit(5, never=only("client"), banned=WIRES | THREADS | only("asyncio")),
    # 6: doors convert and never decide.
    "gateway": Unit(
        6, only("types", "errors", "version", "config", "proto", "auth", "api", "metrics")
    ),
    # 7
    "server": Unit(7, never=only("sim")),
    # 8
    "cli": Unit(8, WORDS | only("wheel", "compiled", "config", "client", "server", "sim", "logs")),
    # 9: `python -m chainfire`
    "__main__": Unit(9, only("cli")),
}

# A foreign module that only these files may import (paths below src/chainfire).
OWNERS: dict[str, tuple[str, ...]] = {
    "rocksdict": ("storage/rocks",),
    "chainfire_native": (
        "wheel.py",
        "gateway/grpc_native.py",
        "gateway/native_cast.py",
        "gateway/native_stream.py",
        "cli/bench.py",
        "cli/bench_systems.py",
        "api/plain.py",
        "node/logsync.py",
        "machine/plain.py",
        "storage/wal.py",
    ),
    "grpc": ("gateway/grpc_python.py", "client/"),
    "starlette": ("gateway/",),
    "uvicorn": ("gateway/",),
    "wsproto": ("gateway/native_websocket.py",),
    "h11": ("gateway/http_connection.py",),
    "prometheus_client": ("metrics/",),
    "click": ("cli/",),
    "uvloop": ("server/",),
    "xxhash": ("machine/", "mvcc/", "node/"),
    "yaml": ("config/",),
}

# Single files of ours that only these units may import, whatever their rank: an engine is chosen
# at the composition root, everybody else knows the contract.
ENGINES: dict[str, frozenset[str]] = {
    "chainfire.storage.rocks": only("server", "storage"),
    "chainfire.storage.wal": only("server", "storage"),
    "chainfire.storage.memory": only("server", "storage", "sim"),
}

# Calls that make two runs differ, or reach out, without an import that would show it.
DETERMINISTIC = only("raft", "mvcc", "lease", "namespaces", "watch", "machine", "command", "quota")
BANNED_CALLS = only("open", "print", "input", "hash", "id", "exec", "eval")
