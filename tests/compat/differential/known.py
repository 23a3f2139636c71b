"""Where the etcds at hand (3.4, 3.5) differ from the behaviour that we follow (3.7), and why.

The reference is etcd 3.7; an old peer that answers otherwise is wrong here, not we. Every entry
says what the comparison does about it: nothing else is ever excused.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Known:
    name: str
    peers: str
    reason: str
    handled: str


KNOWN = (
    Known(
        "order_of_equals",
        "all",
        "etcd sorts ranges by version, create, mod or value with an unstable sort: keys that are "
        "equal in the target come in any order, and a limit cuts anywhere between them",
        "canon.py puts equals in key order and keeps only the target of a group that was cut",
    ),
    Known(
        "order_of_leases",
        "all",
        "the keys of a lease come in any order, and leases by when they end, which is not the same "
        "moment on two servers",
        "canon.py sorts both, and takes all that is left of a TTL beyond an hour for the same",
    ),
    Known(
        "keys_only_lease",
        "before 3.7",
        "from 3.7 on keys_only is answered from the index, so that lease is 0",
        "canon.py clears the lease on both sides",
    ),
    Known(
        "unknown_sort_enum",
        "before 3.6",
        "an unknown sort order or target makes an old etcd panic; from 3.6 on it is "
        "`invalid sort option`",
        "never generated; tests/crash/test_bad_input.py asks us for the text",
    ),
    Known(
        "ignore_after_from_key_delete",
        "all",
        "a delete from a key on (range_end \\0) does not count as covering a put of its txn: if "
        "that put ignores value or lease, etcd panics for want of the key",
        "never generated; we refuse it with `key not found` (tests/mvcc)",
    ),
    Known(
        "fields_of_3_6",
        "before 3.6",
        "HashKVResponse.hash_revision does not exist yet",
        "canon.py clears it",
    ),
    Known(
        "alarm_header",
        "before 3.5",
        "the answer to Alarm has no header yet",
        "canon.py clears it with such a peer",
    ),
    Known(
        "hash_at_compacted_revision",
        "before 3.6",
        "HashKV at exactly the compacted revision is refused as compacted; from 3.6 on it is "
        "answered, as a range at that revision is",
        "canon.py takes the refusal and such an answer for the same",
    ),
    Known(
        "protobuf_library",
        "all",
        "etcd's generated code refuses a field with the wrong wire type, upb takes it as unknown "
        "(but for the ID of a keepalive, which is refused); the text of a decoding error is the "
        "library's own",
        "only bytes cut within a field are generated; only their code is compared",
    ),
    Known(
        "transport_texts",
        "all",
        "what grpc-go itself says about an oversized message or an unknown method differs between "
        "its own releases",
        "only the code of these texts is compared",
    ),
)

# Parts of error texts that belong to the gRPC library, not to etcd.
CODE_ONLY_TEXTS = ("larger than max", "unknown method", "Method not found")
