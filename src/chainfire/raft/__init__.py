"""Raft as a pure machine: no clock, no dice, no disk, no network.

The driver's turn, with asynchronous storage writes:

    node.step(message) …, node.propose(datas), node.tick()    whatever happened
    if node.has_ready():
        ready = node.ready()
        for message in ready.messages:
            STORAGE_APPEND  write its entries, hard state and snapshot; once they are durable,
                            send its responses (step those that are addressed to this member)
            STORAGE_APPLY   apply its entries; then step its response
            any other       send it now, or when durable if its type is in AFTER_SYNC

Storage messages of one kind are carried out in order; a STORAGE_APPLY may run
beside a STORAGE_APPEND. What is in which file: messages (words), quorum
(arithmetic), progress and tracker (what a leader knows of the others), log and
unstable (entries, durable or not), confchange (membership arithmetic),
readindex (linearizable reads), state (one member's variables), election,
replication, replies, follower, proposals, membership, transfer (duties), core
(who gets which message), ready and rawnode (the face).
"""
