"""Interrupts: where they break off code, and where they wait."""

from __future__ import annotations

import signal
import threading
from typing import Any


class Shield:
    """Within it an interrupt waits; outside of user code it does nothing."""

    def __init__(self) -> None:
        self.depth = 0
        self.is_open = False
        self.is_pending = False
        self.main = threading.get_ident()

    def watch(self) -> None:
        """Takes SIGINT over, whatever code has made of it."""
        self.main = threading.get_ident()
        signal.signal(signal.SIGINT, self._interrupted)

    def _interrupted(self, *_: Any) -> None:
        if not self.is_open:
            return
        if self.depth:
            self.is_pending = True
        else:
            raise KeyboardInterrupt

    def __enter__(self) -> None:
        if threading.get_ident() == self.main:
            self.depth += 1

    def __exit__(self, *_: Any) -> None:
        if threading.get_ident() == self.main:
            self.depth -= 1
            if not self.depth and self.is_pending:
                self.is_pending = False
                raise KeyboardInterrupt
