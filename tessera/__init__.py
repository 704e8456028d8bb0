"""Tessera: run, serve, train, measure and understand InternVL-Chat 1.5.

Importing the package loads neither torch nor numpy nor Pillow: public names arrive when first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tessera.assistant import Assistant, load
    from tessera.config import ModelConfig
    from tessera.errors import UserError
    from tessera.processing.conversation import Conversation

__version__ = "0.1.0"
__all__ = ["Assistant", "Conversation", "ModelConfig", "UserError", "__version__", "load"]

_HOMES = {
    "Assistant": "tessera.assistant",
    "load": "tessera.assistant",
    "ModelConfig": "tessera.config",
    "UserError": "tessera.errors",
    "Conversation": "tessera.processing.conversation",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'tessera' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
