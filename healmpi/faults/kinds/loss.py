"""Loss: in the cycles of an interval a share of all messages does not arrive.

It happens at the receiver's door, message by message from the receiver's own stream: a lost message was sent, and is counted as
dropped. Reductions among hubs lose nothing: they are MPI's own collectives.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from healmpi.faults.kind import NO_END, FaultKind, Ground, Lasting, check_window, described, target_count
from healmpi.settings import Section, UsageError, option


@dataclass(frozen=True, slots=True)
class Short(Section):
    """Loss from the command line."""

    title: ClassVar[str] = "faults"
    loss_fraction: float = option(0.0, "Share of the messages between nodes that do not arrive.", low=0.0, high=1.0)
    loss_first_cycle: int = option(1, "First cycle of loss.", low=1)
    loss_last_cycle: int = option(0, "Last cycle of loss; 0: to the end.", low=0)


class Loss(FaultKind):
    """Messages do not arrive. What several events of a cycle leave over is multiplied."""

    name: ClassVar[str] = "loss"
    turn: ClassVar[int] = 2
    hits_nodes: ClassVar[bool] = False
    Event: ClassVar[type[Section]] = Lasting
    Short: ClassVar[type[Section]] = Short

    @staticmethod
    def check(event: Any) -> None:
        if event.fraction <= 0 or target_count(event) != 1 or event.spare_hubs or event.dose:
            raise UsageError("faults.plan", described(event), "loss hits a fraction of all messages, and nothing else")
        check_window(event)

    @staticmethod
    def short(section: Any) -> list[dict[str, Any]]:
        first, last = section.loss_first_cycle, section.loss_last_cycle
        if last and last < first:
            raise UsageError("faults.loss_last_cycle", last, f"0 or at least faults.loss_first_cycle, {first}")
        if section.loss_fraction <= 0:
            return []
        return [{"cycle": first, "last_cycle": last or NO_END, "fraction": section.loss_fraction}]

    @staticmethod
    def begin(event: Any, ground: Ground) -> None:
        ground.lose(event.fraction)
