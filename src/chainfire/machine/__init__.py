"""The replicated state machine: log entries in, effects and results out."""

from chainfire.machine.machine import Applied, Machine, MachineStatistics

__all__ = ["Applied", "Machine", "MachineStatistics"]
