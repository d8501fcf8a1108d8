"""Churn: in each cycle of an interval nodes leave, and newcomers take their slots, with the shards that belong to these."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from healmpi.faults.kind import FaultKind, Ground, Lasting, check_victims, check_window
from healmpi.settings import Section, UsageError, option

RANDOM, INITIAL = "random", "initial"


@dataclass(frozen=True, slots=True)
class Short(Section):
    """Churn from the command line, and who comes."""

    title: ClassVar[str] = "faults"
    churn_fraction: float = option(0.0, "Share of the live nodes replaced in each cycle of the interval below.", low=0.0, high=1.0)
    churn_first_cycle: int = option(10, "First cycle of churn.", low=1)
    churn_last_cycle: int = option(20, "Last cycle of churn.", low=1)
    newcomer_model: str = option(
        RANDOM, "Model of a newcomer: 'random', a draw of its own; 'initial', what its slot started with.", choices=(RANDOM, INITIAL)
    )


class Churn(FaultKind):
    """Leave and be replaced. Newcomers learn of nodes that stand after this cycle's crashes."""

    name: ClassVar[str] = "churn"
    turn: ClassVar[int] = 1
    Event: ClassVar[type[Section]] = Lasting
    Short: ClassVar[type[Section]] = Short

    @staticmethod
    def check(event: Any) -> None:
        check_victims(event)
        check_window(event)

    @staticmethod
    def short(section: Any) -> list[dict[str, Any]]:
        if section.churn_fraction <= 0:
            return []
        first, last = section.churn_first_cycle, section.churn_last_cycle
        if last < first:
            raise UsageError("faults.churn_last_cycle", last, f"at least faults.churn_first_cycle, {first}")
        return [{"cycle": first, "last_cycle": last, "fraction": section.churn_fraction, "spare_hubs": section.spare_hubs}]

    @staticmethod
    def strike(node: int, event: Any, ground: Ground) -> None:
        ground.replace(node, Churn.name)
