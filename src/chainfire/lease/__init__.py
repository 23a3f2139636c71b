"""Leases: what is granted until when, on a clock that is an argument."""

from chainfire.lease.lessor import TTL_MS_MAX, UNWRITTEN, Lease, Lessor, may_be_granted

__all__ = ["TTL_MS_MAX", "UNWRITTEN", "Lease", "Lessor", "may_be_granted"]
