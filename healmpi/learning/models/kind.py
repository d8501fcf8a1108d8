"""What a network that can be chosen declares. Declarations are read without torch, which takes seconds to import."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from healmpi.settings import NoSettings, Section

if TYPE_CHECKING:
    from torch import nn


class Model:
    """A network that can be chosen.

    name: of one that is shipped. Settings: its options. needs_images: whether it takes 28 x 28 images alone. cost: arithmetic per
    sample, in arbitrary units.
    """

    name: ClassVar[str] = ""
    Settings: ClassVar[type[Section]] = NoSettings
    needs_images: ClassVar[bool] = False
    cost: ClassVar[float] = 2.0

    settings: Any

    def __init__(self, settings: Any):
        self.settings = settings

    def build(self, input_shape: tuple[int, ...], classes: int) -> nn.Module:
        """A new network with torch's default initialisation, drawn from torch's default generator.

        It takes float32 [batch, *input_shape] and gives float32 [batch, classes]. Raises UsageError: it cannot be built for these.
        """
        raise NotImplementedError
