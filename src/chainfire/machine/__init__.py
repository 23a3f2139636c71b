"""The replicated state machine: log entries in, effects and results out."""

from chainfire.machine.applied import Applied
from chainfire.machine.machine import Machine, MachineStatistics

__all__ = ["Applied", "Machine", "MachineStatistics"]
