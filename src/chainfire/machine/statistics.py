"""What one member's machine has counted since its start, as one value."""

from __future__ import annotations

from dataclasses import dataclass

from chainfire.machine.handlers import Handlers


@dataclass(slots=True, frozen=True)
class MachineStatistics:
    """Counts since this member's start."""

    applied_entries: int
    void_commands: int
    refused_commands: int
    puts: int  # those in transactions too
    deletes: int
    txns: int  # as commands; nested ones are not counted
    txn_ranges: int
    compactions: int
    leases_granted: int
    lease_seconds_granted: int
    leases_by_ttl: tuple[int, ...]  # TTL up to 2^n seconds; then the rest
    leases_revoked: int  # by request
    leases_renewed: int
    leases_expired: int
    digested_bytes: int  # of logical rows

    @classmethod
    def of(
        cls,
        handlers: Handlers,
        *,
        applied_entries: int,
        void_commands: int,
        refused_commands: int,
        digested_bytes: int,
    ) -> MachineStatistics:
        """What the handlers have counted, and what the machine has."""
        return cls(
            applied_entries=applied_entries,
            void_commands=void_commands,
            refused_commands=refused_commands,
            puts=handlers.puts,
            deletes=handlers.deletes,
            txns=handlers.txns,
            txn_ranges=handlers.txn_ranges,
            compactions=handlers.compactions,
            leases_granted=handlers.leases.granted,
            lease_seconds_granted=handlers.leases.granted_seconds,
            leases_by_ttl=tuple(handlers.leases.granted_by_ttl),
            leases_revoked=handlers.leases.revoked,
            leases_renewed=handlers.leases.renewed,
            leases_expired=handlers.leases.expired,
            digested_bytes=digested_bytes,
        )
