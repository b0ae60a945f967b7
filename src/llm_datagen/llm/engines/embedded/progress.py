"""Output of the demo: plain lines, and a progress bar on a terminal."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn


def say(console: Console, text: str) -> None:
    """Print a line as it is: paths may hold what rich takes for markup, and are copied from one line."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)


class ByteProgress:
    """Shows how far a transfer is.

    Args:
        console: where it is shown.
        title: what is being transferred.
        total: bytes in all.
    """

    def __init__(self, console: Console, title: str, total: int) -> None:
        self._console = console
        self._title = title
        self._total = total
        self._started = time.monotonic()
        self._bar: Progress | None = None
        if console.is_terminal:
            columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
            self._bar = Progress(*columns, console=console)
            self._task = self._bar.add_task(title, total=total)

    def __enter__(self) -> ByteProgress:
        if self._bar is None:
            say(self._console, f"{self._title} ({self._total / 1e6:.0f} MB)")
        else:
            self._bar.start()
        return self

    def show(self, count: int) -> None:
        """Show that `count` bytes are there."""
        if self._bar is not None:
            self._bar.update(self._task, completed=min(count, self._total))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            if error is None:
                self.show(self._total)
            self._bar.stop()
        elif error is None:
            say(self._console, f"{self._title}: done in {time.monotonic() - self._started:.1f} s")
