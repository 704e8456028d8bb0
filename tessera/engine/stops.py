"""Stop strings on text that arrives in pieces: what could still become one is held back."""

from __future__ import annotations

from collections.abc import Sequence

from tessera.errors import ConfigError

MAX_STOPS = 16
MAX_STOP_LENGTH = 1000


class StopText:
    """Pass text on up to the stop string that is complete first, however the text is cut.

    Raises:
        ConfigError: A stop string is empty or too long, or there are too many.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        for stop in stops:
            if not isinstance(stop, str) or not 1 <= len(stop) <= MAX_STOP_LENGTH:
                raise ConfigError(
                    f"a stop string must be text of 1 to {MAX_STOP_LENGTH} characters, "
                    f"not {stop!r:.80}"
                )
        if len(stops) > MAX_STOPS:
            raise ConfigError(f"at most {MAX_STOPS} stop strings are possible, not {len(stops)}")
        self.is_found = False
        self._stops = tuple(stops)
        self._held = ""

    def push(self, piece: str) -> str:
        """Take the next piece of text; return what can be shown."""
        if self.is_found:
            return ""
        self._held += piece
        ends = [
            (self._held.find(stop) + len(stop), -len(stop))
            for stop in self._stops
            if stop in self._held
        ]
        if ends:
            end, negative_length = min(ends)
            self.is_found = True
            shown, self._held = self._held[: end + negative_length], ""
            return shown
        keep = max((self._overlap(stop) for stop in self._stops), default=0)
        cut = len(self._held) - keep
        shown, self._held = self._held[:cut], self._held[cut:]
        return shown

    def finish(self) -> str:
        """Return what was held back: no stop string came of it."""
        shown, self._held = self._held, ""
        return shown

    def _overlap(self, stop: str) -> int:
        """Count the characters at the end of the held text that begin `stop`."""
        longest = min(len(stop) - 1, len(self._held))
        return next((n for n in range(longest, 0, -1) if self._held.endswith(stop[:n])), 0)
