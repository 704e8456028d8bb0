"""What a user can cause and repair.

Every message says what was found, where, and what to do. The command line prints it as one line and
exits with 2; a server answers 4xx. Anything else that is raised is a defect of ours.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake in what a user gave, told in one line."""


class ConfigError(UserError):
    """A config that does not describe a model we know."""


class CheckpointError(UserError):
    """A checkpoint directory that is missing, damaged or not what its config says."""


class ImageError(UserError):
    """A picture, video or document that cannot or may not be opened."""


class PromptError(UserError):
    """A conversation that cannot be rendered, or whose pictures and placeholders disagree."""


class DownloadError(UserError):
    """A file that could not be fetched, or that is not the file it should be."""


def nearest(name: str, valid: Iterable[str]) -> str:
    """Return " Did you mean 'x'?" for the closest valid name, or an empty string."""
    close = difflib.get_close_matches(name, list(valid), n=1)
    return f" Did you mean {close[0]!r}?" if close else ""
