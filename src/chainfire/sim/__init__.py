"""Whole clusters in one process, on virtual time, with hostile networks and disks; and checkers.

The checkers (`check_*`) are pure functions over recorded histories: the
simulator uses them, and whoever records a real cluster can.
"""
