"""The gateway's JSON codec beside protobuf's own json_format: CPU time per message.

python -m bench.json_codec
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from google.protobuf import json_format

from chainfire.gateway.json_codec import ETCD, codec
from chainfire.proto.kv_pb2 import KeyValue, PutRequest, RangeResponse, TxnRequest

REPEATS = 9
PUT = '{"key":"Zm9v","value":"%s"}' % ("YmFy" * 85)
TXN = (
    '{"compare":[{"key":"Zm9v","target":"VERSION","version":"1","result":"EQUAL"}],'
    '"success":[{"request_range":{"key":"Zm9v"}},'
    '{"requestPut":{"key":"Zm9v","value":"YmF6","prev_kv":true}},'
    '{"request_delete_range":{"key":"eA=="}}]}'
)


def reply(rows: int) -> bytes:
    row = KeyValue(key=b"/a/key", create_revision=5, mod_revision=7, version=3, value=b"v" * 256)
    header = {"cluster_id": 2**63 + 5, "member_id": 2**63 + 7, "revision": 1234, "raft_term": 2}
    return RangeResponse(header=header, kvs=[row] * rows, count=rows).SerializeToString()


def cpu_us(work: Callable[[], Any], times: int) -> float:
    best = float("inf")
    for _ in range(REPEATS):
        begun = time.process_time()
        for _ in range(times):
            work()
        best = min(best, time.process_time() - begun)
    return best / times * 1e6


def main() -> None:
    ours = codec(RangeResponse.DESCRIPTOR, ETCD)
    cases: list[tuple[str, int, Callable[[], Any], Callable[[], Any]]] = [
        (
            f"write a range of {rows}",
            2000 // rows + 20,
            lambda body=body: json_format.MessageToJson(
                RangeResponse.FromString(body), preserving_proto_field_name=True, indent=None
            ),
            lambda body=body: ours.encode(body),
        )
        for rows, body in ((1, reply(1)), (100, reply(100)))
    ]
    for name, type_, text in (("put", PutRequest, PUT), ("txn", TxnRequest, TXN)):
        table = codec(type_.DESCRIPTOR, ETCD)
        cases.append(
            (
                f"read a {name}",
                2000,
                lambda type_=type_, text=text: json_format.Parse(
                    text, type_(), ignore_unknown_fields=True
                ).SerializeToString(),
                lambda table=table, text=text: table.decode(text),
            )
        )
    for name, times, theirs, mine in cases:
        slow, fast = cpu_us(theirs, times), cpu_us(mine, times)
        print(f"{name:20} json_format {slow:8.1f} µs, here {fast:8.1f} µs: × {slow / fast:.1f}")


if __name__ == "__main__":
    main()
