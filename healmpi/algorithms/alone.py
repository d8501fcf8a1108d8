"""No rule at all: the overlay runs alone, and nothing is learnt."""

from __future__ import annotations

from typing import Any, ClassVar

from healmpi.messages import Kind
from healmpi.node import ALONE, Rule


class Alone(Rule):
    """Nothing is learnt."""

    name: ClassVar[str] = "none"
    needs: ClassVar[str] = ALONE
    learns: ClassVar[bool] = False
    kinds: ClassVar[tuple[Kind, ...]] = ()

    @classmethod
    def round_ticks(cls, settings: Any) -> int:
        return 0
