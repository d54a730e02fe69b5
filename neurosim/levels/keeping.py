"""What lets a recording be taken up where it was left."""

from abc import ABC, abstractmethod
from typing import Any, final


class Keep(ABC):
    """Keeps the state of what is computed, on its way.

    state: nested plain data and arrays to begin with; None at the start.
    """

    state: Any = None

    @abstractmethod
    def due(self) -> bool:
        """Whether a state is wanted now."""

    @abstractmethod
    def save(self, state: Any, at: float) -> bool:
        """Keep a state, which is that at a time (s); whether to go on."""


@final
class Forgetful(Keep):
    """Keeps nothing."""

    def due(self) -> bool:
        """Never."""
        return False

    def save(self, state: Any, at: float) -> bool:
        """Goes on."""
        return True
