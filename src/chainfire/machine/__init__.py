"""The replicated state machine: log entries in, effects and results out."""

from chainfire.machine.applied import Applied
from chainfire.machine.birth import bootstrap, force_alone
from chainfire.machine.machine import Machine
from chainfire.machine.statistics import MachineStatistics

__all__ = ["Applied", "Machine", "MachineStatistics", "bootstrap", "force_alone"]
