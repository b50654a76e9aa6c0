"""Tells the service manager what the workers do."""

from __future__ import annotations

from wsgi._core import Page
from wsgi.service import Service, is_alive
from wsgi.stopping import counted
from wsgi.supervisor.machine import Machine, Phase

__all__ = ["StatusReporter"]


class StatusReporter:
    """Follows the supervisor's machine.

    Parameters:
        service: what is told.
        page: the heartbeats of the workers.
    """

    def __init__(self, service: Service, page: Page) -> None:
        self._service = service
        self._page = page
        self._reloads = 0
        self._is_ready = False
        self._feed_at: float | None = None

    def deadline(self) -> float | None:
        """When `update` is due, in the machine's time; None if no time matters."""
        return self._feed_at

    def update(self, machine: Machine, now: float) -> None:
        """Tells what has changed, and feeds the watchdog when that is due.

        Raises:
            ConfigError: the pidfile cannot be written.
        """
        notifier = self._service.notifier
        if machine.is_stopping:
            notifier.stopping(f"stopping: {counted(len(machine.workers), 'worker')} left")
            if self._feed_at is not None:
                self._feed(now)
        elif not machine.has_served:
            self._reloads = machine.reloads_begun
            notifier.status(f"starting {counted(machine.target, 'worker')}")
        else:
            self._tell_serving(machine)
            self._feed(now)

    def _tell_serving(self, machine: Machine) -> None:
        serving = [worker for worker in machine.workers.values() if worker.phase is Phase.SERVING]
        text = f"{len(serving)} of {counted(machine.target, 'worker')} serving, generation {machine.generation}"
        if machine.reload_problem:
            text += f"; the last reload failed: {machine.reload_problem}"
        if machine.reloads_begun != self._reloads:
            self._reloads, self._is_ready = machine.reloads_begun, False
            self._service.notifier.reloading(f"reloading; {text}")
        # Requests of drained workers may go on; every new one meets the current generation.
        is_renewed = not machine.is_reloading and all(worker.generation == machine.generation for worker in serving)
        if is_renewed and not self._is_ready:
            self._is_ready = True
            self._service.serves(text)
        else:
            self._service.notifier.status(text if self._is_ready else f"reloading; {text}")

    def _feed(self, now: float) -> None:
        seconds = self._service.watchdog_seconds
        if seconds is None or (self._feed_at is not None and now < self._feed_at):
            return
        # The manager's clock starts with the message that the server is ready.
        if self._feed_at is None or is_alive(self._page, seconds):
            self._service.notifier.feed_watchdog()
        self._feed_at = now + seconds / 2
