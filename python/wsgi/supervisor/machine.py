"""Decides what a supervisor does: which workers it starts, drains and kills. There is no process, signal or clock in
here.

The supervisor tells the machine what has happened (`started`, `ready`, `exited`, a signal, the time) and carries out
the actions that come back. Every rule of the workers' lives is in this file, so that tests can try every order of
events:

1. `target` workers of the current generation are wanted. A reload begins a generation.
2. A serving worker is drained only while more than `target` workers serve, so its successor serves before it ends.
   Workers of a former generation are drained first, then those that asked to be recycled, then the youngest. A stop
   drains all.
3. A reload begins with one worker. If that fails, the reload has failed and the former generation stays whole. Once it
   serves, the others follow.
4. One worker at a time is recycled.
5. A worker that ends unasked is replaced: at once if it has served for `steady` seconds, else after a delay that
   doubles with each failure.
6. If no worker has ever served and `target` of them have failed, the supervisor ends.
7. A worker that does not serve within `boot` seconds has failed and is killed. So is one that has not ended within
   `drain` seconds.
8. A second stop leaves the workers `hurry` seconds.
9. A worker that served and did not end cleanly makes a stop end with status 1, because its requests may be lost.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass, field

__all__ = ["Action", "Drain", "Finish", "Hurry", "Kill", "Log", "Machine", "Phase", "Start", "Timing", "Worker"]


@dataclass(frozen=True)
class Start:
    """Start a worker of this generation, and tell its number by `Machine.started`."""

    generation: int


@dataclass(frozen=True)
class Drain:
    """Ask a worker to finish its requests and to end."""

    pid: int


@dataclass(frozen=True)
class Hurry:
    """Ask a worker that was drained to end without waiting for its requests."""

    pid: int


@dataclass(frozen=True)
class Kill:
    """End a worker at once."""

    pid: int


@dataclass(frozen=True)
class Log:
    """Write a line to the log."""

    text: str
    is_error: bool = False


@dataclass(frozen=True)
class Finish:
    """Every worker has ended after a stop: end with this exit code."""

    code: int


Action = Start | Drain | Hurry | Kill | Log | Finish


class Phase(enum.Enum):
    """Where a worker is in its life."""

    BOOTING = "booting"
    SERVING = "serving"
    DRAINING = "draining"
    KILLED = "killed"


@dataclass
class Worker:
    """What is known of one worker.

    Parameters:
        generation: the generation that it was started for.
        phase: where it is in its life.
        since: when it entered its phase (`time.monotonic()`).
        overdue: when its phase has lasted too long; None if it may last.
        has_served: whether it may hold requests.
    """

    generation: int
    phase: Phase
    since: float
    overdue: float | None
    has_served: bool = False
    wants_recycling: bool = False


@dataclass(frozen=True)
class Timing:
    """Times of the machine, in seconds."""

    boot: float = 60.0
    drain: float = 38.0
    hurry: float = 8.0
    first_delay: float = 0.1
    longest_delay: float = 30.0
    steady: float = 10.0


@dataclass
class Machine:
    """The state of all workers. Every method gives the actions that follow, to be carried out in order.

    Parameters:
        target: workers that are wanted, at least 1.
        timing: how long things may take.
        limit: workers that can be wanted at most.
    """

    target: int
    timing: Timing = field(default_factory=Timing)
    limit: int = 512
    generation: int = 1
    workers: dict[int, Worker] = field(default_factory=dict)
    # The generation to go back to while no worker of the current one has served.
    _former: int | None = None
    _last_generation: int = 1
    _has_served: bool = False
    # Rounds of failures, and all workers that did not come to serve.
    _failures: int = 0
    _failed_starts: int = 0
    # No worker is started before this time, after a failure.
    _start_after: float = 0.0
    _exit_code: int | None = None
    _is_quitting: bool = False
    _is_finished: bool = False
    reloads_begun: int = 0
    """Reloads that were requested: those that are done or have failed, and at most one in progress."""
    reloads_done: int = 0
    reloads_failed: int = 0

    @property
    def is_stopping(self) -> bool:
        """Whether a stop was asked for, or has become necessary."""
        return self._exit_code is not None

    @property
    def has_served(self) -> bool:
        """Whether a worker of any generation has ever served."""
        return self._has_served

    @property
    def is_reloading(self) -> bool:
        """Whether no worker of the current generation has served yet and a former one still serves."""
        return self._former is not None

    def begin(self, now: float) -> list[Action]:
        """Starts the first workers."""
        return list(self._settle(now))

    def started(self, pid: int, generation: int, now: float) -> None:
        """A worker was started."""
        self.workers[pid] = Worker(generation, Phase.BOOTING, now, now + self.timing.boot)

    def start_failed(self, reason: str, now: float) -> list[Action]:
        """The system refused a new process. Other starts that were asked for at the same time are to be dropped."""
        text = f"cannot start a worker: {reason}"
        if self._former is not None and self._missing() == self._wanted():
            return [self._reload_failed(self._former, text), *self._settle(now)]
        self._failed_starts += 1
        self._count_failure(now)
        actions = self._after_failure()
        if not actions:
            text += f"; another is tried{self._delay_text(now)}"
        return [Log(text, is_error=True), *actions, *self._settle(now)]

    def ready(self, pid: int, now: float) -> list[Action]:
        """A worker serves from now on."""
        worker = self.workers.get(pid)
        if worker is None or worker.has_served:
            return []
        if worker.phase is not Phase.BOOTING:
            # It began to serve when it was already to end.
            worker.has_served = True
            return []
        self._enter(worker, Phase.SERVING, now, None)
        self._has_served = worker.has_served = True
        actions: list[Action] = []
        if worker.generation == self.generation:
            self.reloads_done = self.reloads_begun - self.reloads_failed
        if worker.generation == self.generation and self._former is not None:
            self._former = None
            actions.append(Log(f"generation {self.generation} serves; its predecessors are drained"))
        return [*actions, *self._settle(now)]

    def exited(self, pid: int, how: str, now: float, *, is_clean: bool = False) -> list[Action]:
        """A worker has ended.

        Parameters:
            how: its exit status or signal, in words.
            is_clean: whether it ended with status 0.
        """
        worker = self.workers.pop(pid, None)
        if worker is None:
            return list(self._settle(now))
        actions: list[Action] = []
        if self.is_stopping or worker.phase in (Phase.DRAINING, Phase.KILLED):
            if worker.has_served and not is_clean:
                if self.is_stopping and not self._is_quitting:
                    self._exit_code = 1
                if worker.phase is not Phase.KILLED:
                    actions.append(Log(f"worker {pid} {how} while it was stopping", is_error=True))
        elif worker.phase is Phase.BOOTING:
            actions += self._boot_failed(pid, worker, f"{how} before it served", now)
        elif now - worker.since >= self.timing.steady:
            self._failures, self._start_after = 0, now
            by = " by the reload" if self.is_reloading else ""
            actions.append(Log(f"worker {pid} {how}; it is replaced{by}", is_error=True))
        else:
            self._count_failure(now)
            actions.append(Log(f"worker {pid} {how}; it is replaced{self._delay_text(now)}", is_error=True))
        return [*actions, *self._settle(now)]

    def failed(self, pid: int, now: float) -> list[Action]:
        """A worker says that it cannot serve. It ends by itself, unless a thread of the application keeps it."""
        worker = self.workers.get(pid)
        if worker is not None and worker.phase is Phase.BOOTING and worker.overdue is not None:
            worker.overdue = min(worker.overdue, now + self.timing.hurry)
        return list(self._settle(now))

    def recycle(self, pid: int, now: float) -> list[Action]:
        """A worker asks for a successor."""
        worker = self.workers.get(pid)
        if worker is not None:
            worker.wants_recycling = True
        return list(self._settle(now))

    def reload(self, now: float) -> list[Action]:
        """Begins a generation. One that has not served yet is given up for it."""
        if self.is_stopping:
            return [Log("the reload was ignored: the server is stopping")]
        actions: list[Action] = [Log("reload: a worker with the new application starts")]
        # Drained, not killed: one of them may have begun to serve a moment ago.
        for pid, worker in self._of(Phase.BOOTING):
            actions.append(self._drain(pid, worker, now))
        if self._has_served and self._former is None:
            self._former = self.generation
        self._give_up_reload()
        self.reloads_begun += 1
        self._last_generation += 1
        self.generation = self._last_generation
        self._failures, self._start_after = 0, now
        return [*actions, *self._settle(now)]

    def resize(self, change: int, now: float) -> list[Action]:
        """Wants more or fewer workers."""
        if not 1 <= self.target + change <= self.limit:
            return [Log(f"workers wanted: {self.target}; there can be 1 to {self.limit}")]
        self.target += change
        return [Log(f"{self.target} workers are wanted now"), *self._settle(now)]

    def stop(self, now: float, code: int = 0) -> list[Action]:
        """Drains every worker, then finishes. A second one ends them without waiting for their requests.

        Parameters:
            code: the exit code if every worker ends cleanly; that of the first call counts.
        """
        self._give_up_reload()
        if self._exit_code is None:
            self._exit_code = code
            # Those that leave their clients to other workers are to finish by themselves from now on.
            again = [Drain(pid) for pid, worker in self._of(Phase.DRAINING) if worker.has_served]
            return [*again, *self._settle(now)]
        actions: list[Action] = []
        for pid, worker in self._of(Phase.DRAINING):
            worker.overdue = min(now + self.timing.hurry, worker.overdue or now + self.timing.hurry)
            actions.append(Hurry(pid))
        return [*actions, *self._settle(now)]

    def quit(self, now: float) -> list[Action]:
        """Kills every worker, then finishes."""
        actions: list[Action] = []
        for pid, worker in self.workers.items():
            if worker.phase is not Phase.KILLED:
                self._enter(worker, Phase.KILLED, now, None)
                actions.append(Kill(pid))
        self._is_quitting = True
        self._give_up_reload()
        if self._exit_code is None:
            self._exit_code = 0
        return [*actions, *self._settle(now)]

    def tick(self, now: float) -> list[Action]:
        """Time has passed: `deadline` told when."""
        return list(self._settle(now))

    def deadline(self) -> float | None:
        """When `tick` is due, in the machine's time; None if no time matters."""
        times = [worker.overdue for worker in self.workers.values() if worker.overdue is not None]
        if not self.is_stopping and self._missing() > 0:
            times.append(self._start_after)
        return min(times, default=None)

    def _enter(self, worker: Worker, phase: Phase, now: float, limit: float | None) -> None:
        worker.phase, worker.since = phase, now
        worker.overdue = None if limit is None else now + limit

    def _drain(self, pid: int, worker: Worker, now: float) -> Action:
        self._enter(worker, Phase.DRAINING, now, self.timing.drain)
        return Drain(pid)

    def _count_failure(self, now: float) -> None:
        if now < self._start_after:
            # Workers that fail together are one failure.
            return
        delay = self.timing.first_delay * 2 ** min(self._failures, 20)
        self._failures += 1
        self._start_after = now + min(delay, self.timing.longest_delay)

    def _delay_text(self, now: float) -> str:
        return f" in {self._start_after - now:.3g} s"

    def _boot_failed(self, pid: int, worker: Worker, how: str, now: float) -> list[Action]:
        if worker.generation == self.generation and self._former is not None:
            return [self._reload_failed(self._former, f"worker {pid} {how}")]
        self._failed_starts += 1
        self._count_failure(now)
        actions = self._after_failure()
        if not actions:
            how += f"; another starts{self._delay_text(now)}"
        return [Log(f"worker {pid} {how}", is_error=True), *actions]

    def _give_up_reload(self) -> None:
        self.reloads_failed = self.reloads_begun - self.reloads_done

    def _reload_failed(self, former: int, why: str) -> Action:
        self.generation, self._former = former, None
        self._give_up_reload()
        return Log(f"reload failed: {why}; the former workers go on", is_error=True)

    def _after_failure(self) -> list[Action]:
        if self._has_served or self._failed_starts < self.target or self._of(Phase.BOOTING) or self.is_stopping:
            return []
        self._exit_code = 1
        self._give_up_reload()
        return [Log("no worker could start: the server ends", is_error=True)]

    def _of(self, *phases: Phase) -> list[tuple[int, Worker]]:
        return [(pid, worker) for pid, worker in self.workers.items() if worker.phase in phases]

    def _wanted(self) -> int:
        """Workers of the current generation that are to boot or serve."""
        if self._former is not None:
            return 1
        recycled = any(worker.wants_recycling for _, worker in self._of(Phase.SERVING))
        return self.target + recycled

    def _missing(self) -> int:
        present = [
            worker for _, worker in self._of(Phase.BOOTING, Phase.SERVING) if worker.generation == self.generation
        ]
        return self._wanted() - len(present)

    def _settle(self, now: float) -> Iterator[Action]:
        """What follows from the state: the rules above."""
        yield from self._end_overdue(now)
        if self.is_stopping:
            yield from self._drain_all(now)
            return
        yield from self._drain_surplus(now)
        if now >= self._start_after:
            for _ in range(self._missing()):
                yield Start(self.generation)

    def _end_overdue(self, now: float) -> Iterator[Action]:
        for pid, worker in list(self.workers.items()):
            if worker.overdue is None or now < worker.overdue:
                continue
            was_booting = worker.phase is Phase.BOOTING
            lasted = now - worker.since
            self._enter(worker, Phase.KILLED, now, None)
            yield Kill(pid)
            if not was_booting:
                yield Log(f"worker {pid} had not ended after {lasted:.0f} s and was killed", is_error=True)
            elif not self.is_stopping:
                why = f"boot_timeout ({self.timing.boot:g} s)" if lasted >= self.timing.boot else "its time"
                how = f"did not serve within {why} and was killed"
                yield from self._boot_failed(pid, worker, how, now)

    def _drain_all(self, now: float) -> Iterator[Action]:
        for pid, worker in self._of(Phase.BOOTING, Phase.SERVING):
            yield self._drain(pid, worker, now)
        if not self.workers and not self._is_finished and self._exit_code is not None:
            self._is_finished = True
            yield Finish(self._exit_code)

    def _drain_surplus(self, now: float) -> Iterator[Action]:
        if self._former is not None:
            return
        # Former generations first, then those that are to be recycled, then the youngest.
        serving = self._of(Phase.SERVING)
        serving.sort(key=lambda item: (item[1].generation, not item[1].wants_recycling, -item[1].since))
        for pid, worker in serving[: max(0, len(serving) - self.target)]:
            yield self._drain(pid, worker, now)
        # Fewer workers may be wanted than are booting.
        for pid, worker in self._of(Phase.BOOTING)[: max(0, -self._missing())]:
            yield self._drain(pid, worker, now)
