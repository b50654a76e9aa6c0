"""Decides what a supervisor does: which workers it starts, drains and kills. There is no process, signal or clock in
here.

The supervisor tells the machine what has happened (`started`, `ready`, `exited`, a signal, the time) and carries out
the actions that come back. Every rule of the workers' lives is in this file, so that tests can try every order of
events:

1. `target` workers of the current generation are wanted. A reload begins a generation.
2. A serving worker is drained only while more than `target` workers serve, so its successor serves before it ends.
   Workers of a former generation are drained first, then those that asked to be recycled, then the youngest. A stop
   drains all.
3. A reload begins with one worker. If that fails, the reload has failed and the former generation stays whole: its
   workers are replaced until then. Once the new one serves, the others follow.
4. One worker at a time is recycled: those that ask meanwhile serve on until it is their turn. One that asks within
   `steady` seconds delays the start of its successor as a failure does.
5. A worker that ends unasked is replaced: at once if it has served for `steady` seconds, else after a delay that
   doubles with each failure.
6. If no worker has ever served and `target` of them have failed, the supervisor ends.
7. A worker that does not serve within `boot` seconds has failed and is killed. So is one that has not ended within
   `drain` seconds.
8. A second stop leaves the workers `hurry` seconds.
9. A worker that served and did not end cleanly makes a stop end with status 1, because its requests may be lost.
10. With `preload` the workers of a generation are forked by its template, which imports the application first. A
    template that fails to is a start, or a reload, that has failed. A generation keeps its template as long as it may
    need workers: so does the former one during a reload. A template that ends later takes no worker with it; the next
    start begins with another.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

__all__ = [
    "Action",
    "Drain",
    "Finish",
    "Hurry",
    "Kill",
    "Log",
    "Machine",
    "Phase",
    "Start",
    "StartTemplate",
    "Template",
    "Timing",
    "Worker",
]


@dataclass(frozen=True)
class Start:
    """Start a worker of this generation, and tell its number by `Machine.started`. With a template: request it there,
    tell that by `Machine.requested`, and the answer by `Machine.forked` or `Machine.refused`.
    """

    generation: int
    template: int | None = None


@dataclass(frozen=True)
class StartTemplate:
    """Start the template of this generation, and tell its number by `Machine.template_started`."""

    generation: int


@dataclass(frozen=True)
class Drain:
    """Ask a worker to finish its requests and to end, or a template to end."""

    pid: int


@dataclass(frozen=True)
class Hurry:
    """Ask a worker that was drained to end without waiting for its requests."""

    pid: int


@dataclass(frozen=True)
class Kill:
    """End a process at once."""

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


# The first is 1.
_NO_GENERATION = 0

Action = Start | StartTemplate | Drain | Hurry | Kill | Log | Finish


class Phase(enum.Enum):
    """Where a worker or a template is in its life. A template boots until it has imported the application, and then
    serves by forking workers.
    """

    BOOTING = "booting"
    SERVING = "serving"
    DRAINING = "draining"
    KILLED = "killed"


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
class Worker:
    """What is known of one worker.

    Parameters:
        generation: the generation that it was started for.
        phase: where it is in its life.
        since: when it entered its phase (`time.monotonic()`).
        overdue: when its phase has lasted too long; None if it may last.
        has_served: whether it may hold requests.
        wants_recycling: whether it has asked for a successor.
        timing: how long its phases may take.
    """

    generation: int
    phase: Phase
    since: float
    overdue: float | None
    has_served: bool = False
    wants_recycling: bool = False
    timing: Timing = Timing()


@dataclass
class Template:
    """What is known of one template.

    Parameters:
        generation, phase, since, timing: as for a worker.
        overdue: when its phase has lasted too long, or a worker that was requested of it is late; None if neither.
        requested: workers that were requested of it and not forked yet.
    """

    generation: int
    phase: Phase
    since: float
    overdue: float | None
    requested: int = 0
    timing: Timing = Timing()


@dataclass
class Machine:
    """The state of all workers. Every method gives the actions that follow, to be carried out in order.

    Parameters:
        target: workers that are wanted, at least 1.
        timing: how long things may take, for the workers of the current generation.
        limit: workers that can be wanted at most.
        preload: workers are forked by a template.
    """

    target: int
    timing: Timing = field(default_factory=Timing)
    limit: int = 512
    preload: bool = False
    generation: int = 1
    workers: dict[int, Worker] = field(default_factory=dict)
    templates: dict[int, Template] = field(default_factory=dict)
    reload_problem: str = ""
    """Why the last reload failed; empty if it did not."""
    # The generation to go back to while no worker of the current one has served.
    _former: int | None = None
    _former_timing: Timing | None = None
    # Workers that are wanted once the reload has succeeded.
    _next_target: int | None = None
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

    @property
    def generations(self) -> set[int]:
        """Those whose workers may be started: the current one, and during a reload its predecessor."""
        return {self.generation, self.serving_generation}

    @property
    def last_generation(self) -> int:
        """The highest generation so far."""
        return self._last_generation

    @property
    def serving_generation(self) -> int:
        """The predecessor of the current generation while a reload may fail, else the current one."""
        return self.generation if self._former is None else self._former

    def begin(self, now: float) -> list[Action]:
        """Starts the first workers."""
        return list(self._settle(now))

    def resume(
        self,
        workers: dict[int, Worker],
        templates: Iterable[int],
        generations: tuple[int, int],
        reloads: tuple[int, int, int],
        *,
        has_served: bool,
    ) -> None:
        """Takes over the workers of another machine; a reload follows.

        Parameters:
            workers: each by its pid.
            templates: the pids of its templates, which are told to end: they have the channels of the former program.
            generations: that of the workers which serve, and the highest so far.
            reloads: those that were begun, are done and have failed.
            has_served: whether a worker has ever served.
        """
        self.workers, self._has_served = dict(workers), has_served
        self.templates = {pid: Template(_NO_GENERATION, Phase.SERVING, 0.0, None) for pid in templates}
        self.generation, self._last_generation = generations
        self.reloads_begun, self.reloads_done, self.reloads_failed = reloads

    def started(self, pid: int, generation: int, now: float) -> None:
        """A worker was started."""
        timing = self._timing_of(generation)
        self.workers[pid] = Worker(generation, Phase.BOOTING, now, now + timing.boot, timing=timing)

    def template_started(self, pid: int, generation: int, now: float) -> None:
        """A template was started."""
        timing = self._timing_of(generation)
        self.templates[pid] = Template(generation, Phase.BOOTING, now, now + timing.boot, timing=timing)

    def _timing_of(self, generation: int) -> Timing:
        return self.timing if generation == self.generation else self._former_timing or self.timing

    def template_ready(self, pid: int, now: float) -> list[Action]:
        """A template has imported the application, and can fork workers."""
        template = self.templates.get(pid)
        if template is not None and template.phase is Phase.BOOTING:
            self._enter(template, Phase.SERVING, now, None)
        return list(self._settle(now))

    def requested(self, template: int, now: float) -> None:
        """A worker was requested of a template."""
        found = self.templates[template]
        found.requested += 1
        if found.overdue is None:
            found.overdue = now + found.timing.boot

    def forked(self, template: int, pid: int, now: float) -> list[Action]:
        """A template has forked a worker that was requested of it."""
        found = self.templates[template]
        self._answered(found)
        self.started(pid, found.generation, now)
        return list(self._settle(now))

    def refused(self, template: int, reason: str, now: float) -> list[Action]:
        """The system refused a template the worker that was requested of it."""
        found = self.templates[template]
        self._answered(found)
        if found.generation not in self.generations or self.is_stopping:
            return list(self._settle(now))
        return self.start_failed(found.generation, reason, now)

    def start_failed(self, generation: int, reason: str, now: float) -> list[Action]:
        """The system refused a new process. Other starts that were asked for at the same time are to be dropped.

        Parameters:
            generation: that of the process.
            reason: why, in words.
        """
        text = f"cannot start a worker: {reason}"
        if self._former is not None and generation == self.generation:
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
            self._take_target()
            actions.append(Log(f"generation {self.generation} serves; its predecessors are drained"))
        return [*actions, *self._settle(now)]

    def exited(self, pid: int, how: str, now: float, *, is_clean: bool = False) -> list[Action]:
        """A worker has ended.

        Parameters:
            how: its exit status or signal, in words.
            is_clean: whether it ended with status 0.
        """
        if pid in self.templates:
            return [*self._template_exited(pid, how, now), *self._settle(now)]
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
            actions.append(Log(f"worker {pid} {how}; it is replaced", is_error=True))
        else:
            self._count_failure(now)
            actions.append(Log(f"worker {pid} {how}; it is replaced{self._delay_text(now)}", is_error=True))
        return [*actions, *self._settle(now)]

    def failed(self, pid: int, now: float) -> list[Action]:
        """A worker or a template says that it cannot serve. It ends by itself, unless a thread of the application keeps
        it.
        """
        worker = self.workers.get(pid) or self.templates.get(pid)
        if worker is not None and worker.phase is Phase.BOOTING and worker.overdue is not None:
            worker.overdue = min(worker.overdue, now + worker.timing.hurry)
        return list(self._settle(now))

    def recycle(self, pid: int, why: str, now: float) -> list[Action]:
        """A worker asks for a successor.

        Parameters:
            why: which limit it has reached, in words.
        """
        worker = self.workers.get(pid)
        if worker is None or worker.phase not in (Phase.BOOTING, Phase.SERVING) or worker.wants_recycling:
            # It ends anyway, or has asked before.
            return list(self._settle(now))
        worker.wants_recycling = True
        text = f"worker {pid} is recycled: {why}"
        if worker.phase is Phase.SERVING and now - worker.since >= self.timing.steady:
            self._failures = 0
            return [Log(text), *self._settle(now)]
        # A limit that every worker reaches at once must not keep the server busy with starts.
        self._count_failure(now)
        text += f"; it had served for less than {self.timing.steady:g} s, so the next starts{self._delay_text(now)}"
        return [Log(text, is_error=True), *self._settle(now)]

    def reload(self, now: float, timing: Timing | None = None, target: int | None = None) -> list[Action]:
        """Begins a generation. One that has not served yet is given up for it.

        Parameters:
            timing: how long things may take in the new generation; default: as long as before.
            target: workers that are wanted once it serves; default: as many as before.
        """
        if self.is_stopping:
            return [Log("the reload was ignored: the server is stopping")]
        kind = "template" if self.preload else "worker"
        actions: list[Action] = [Log(f"reload: a {kind} with the new application starts")]
        if self._has_served and self._former is None:
            self._former, self._former_timing = self.generation, self.timing
        self.timing = timing or self.timing
        self._next_target = target
        if self._former is None:
            self._take_target()
        self._count_reload()
        self.reload_problem = ""
        self.generation = self._last_generation
        self._failures, self._start_after = 0, now
        return [*actions, *self._settle(now)]

    def refuse_reload(self, why: str, now: float) -> list[Action]:
        """A reload was asked for whose configuration cannot be used. One in progress is given up, as for any other.

        Parameters:
            why: what is wrong, in one line.
        """
        if self.is_stopping:
            return []
        self._count_reload()
        return [self._reload_failed(self.serving_generation, why), *self._settle(now)]

    def _count_reload(self) -> None:
        self._give_up_reload()
        self.reloads_begun += 1
        # Each has a generation of its own, so that the one that serves tells whether the last reload has succeeded.
        self._last_generation += 1

    def _take_target(self) -> None:
        self.target = self._next_target or self.target
        self._next_target = None

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
        for pid, process in self._processes():
            if process.phase is not Phase.KILLED:
                self._enter(process, Phase.KILLED, now, None)
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
        times = [process.overdue for _, process in self._processes() if process.overdue is not None]
        if not self.is_stopping and any(self._is_start_due(generation) for generation in self.generations):
            times.append(self._start_after)
        return min(times, default=None)

    def postpone(self, seconds: float) -> None:
        """Every time that lies ahead comes so much later: the supervisor did not run for so long, and its workers
        most likely neither.
        """
        self._start_after += seconds
        for _, process in self._processes():
            process.since += seconds
            if process.overdue is not None:
                process.overdue += seconds

    def _processes(self) -> list[tuple[int, Worker | Template]]:
        return [*self.workers.items(), *self.templates.items()]

    def _enter(self, process: Worker | Template, phase: Phase, now: float, limit: float | None) -> None:
        process.phase, process.since = phase, now
        process.overdue = None if limit is None else now + limit

    def _drain(self, pid: int, worker: Worker, now: float) -> Action:
        self._enter(worker, Phase.DRAINING, now, worker.timing.drain)
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

    def _template_exited(self, pid: int, how: str, now: float) -> list[Action]:
        template = self.templates.pop(pid)
        if self.is_stopping or template.phase in (Phase.DRAINING, Phase.KILLED):
            return []
        if template.phase is Phase.BOOTING:
            return self._template_failed(template, f"template {pid} {how} before it had the application", now)
        if template.requested:
            return self._template_failed(template, f"template {pid} {how} when it was to start a worker", now)
        return [Log(f"template {pid} {how}; the next start of a worker begins with another", is_error=True)]

    def _template_failed(self, template: Template, what: str, now: float) -> list[Action]:
        if template.generation not in self.generations:
            return [Log(what, is_error=True)]
        if self._former is not None and template.generation == self.generation:
            return [self._reload_failed(self._former, what)]
        # No worker can start without it.
        self._failed_starts += self.target
        self._count_failure(now)
        actions = self._after_failure()
        if not actions:
            what += f"; another starts{self._delay_text(now)}"
        return [Log(what, is_error=True), *actions]

    def _answered(self, template: Template) -> None:
        template.requested -= 1
        if template.requested == 0 and template.phase is Phase.SERVING:
            template.overdue = None

    def _reload_failed(self, former: int, why: str) -> Action:
        self.generation, self._former = former, None
        self._give_up_reload()
        self.reload_problem = why
        self.timing, self._next_target = self._former_timing or self.timing, None
        return Log(f"reload failed: {why}; the former workers go on", is_error=True)

    def _after_failure(self) -> list[Action]:
        if self._has_served or self._failed_starts < self.target or self._of(Phase.BOOTING) or self.is_stopping:
            return []
        self._exit_code = 1
        self._give_up_reload()
        return [Log("no worker could start: the server ends", is_error=True)]

    def _of(self, *phases: Phase) -> list[tuple[int, Worker]]:
        return [(pid, worker) for pid, worker in self.workers.items() if worker.phase in phases]

    def _templates_of(self, *phases: Phase) -> list[tuple[int, Template]]:
        return [(pid, template) for pid, template in self.templates.items() if template.phase in phases]

    def _waits_for_template(self, generation: int) -> bool:
        """Whether the template of a generation imports the application."""
        return any(template.generation == generation for _, template in self._templates_of(Phase.BOOTING))

    def _is_start_due(self, generation: int) -> bool:
        return self._missing(generation) > 0 and not self._waits_for_template(generation)

    def _wanted(self, generation: int) -> int:
        """Workers of a generation that are to boot or serve."""
        if generation == self._former:
            return self.target
        if self._former is not None:
            return 1
        serving = [worker for _, worker in self._of(Phase.SERVING) if worker.generation == self.generation]
        return self.target + any(worker.wants_recycling for worker in serving)

    def _missing(self, generation: int) -> int:
        present = [worker for _, worker in self._of(Phase.BOOTING, Phase.SERVING) if worker.generation == generation]
        templates = [template for _, template in self._templates_of(Phase.SERVING) if template.generation == generation]
        return self._wanted(generation) - len(present) - sum(template.requested for template in templates)

    def _settle(self, now: float) -> Iterator[Action]:
        """What follows from the state: the rules above."""
        yield from self._end_overdue(now)
        if self.is_stopping:
            yield from self._drain_all(now)
            return
        yield from self._drain_surplus(now)
        yield from self._drain_templates(now)
        if now >= self._start_after:
            # The new generation first: it may be what mends the former one.
            for generation in sorted(self.generations, reverse=True):
                yield from self._start_missing(generation)

    def _start_missing(self, generation: int) -> Iterator[Action]:
        ready = [pid for pid, one in self._templates_of(Phase.SERVING) if one.generation == generation]
        if self.preload and not ready:
            if self._is_start_due(generation):
                yield StartTemplate(generation)
            return
        for _ in range(self._missing(generation)):
            yield Start(generation, ready[0] if self.preload else None)

    def _end_overdue(self, now: float) -> Iterator[Action]:
        for pid, template in list(self.templates.items()):
            if template.overdue is not None and now >= template.overdue:
                yield from self._end_template(pid, template, now)
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
                why = f"boot_timeout ({worker.timing.boot:g} s)" if lasted >= worker.timing.boot else "its time"
                how = f"did not serve within {why} and was killed"
                yield from self._boot_failed(pid, worker, how, now)

    def _end_template(self, pid: int, template: Template, now: float) -> Iterator[Action]:
        phase, template.requested = template.phase, 0
        self._enter(template, Phase.KILLED, now, None)
        yield Kill(pid)
        if phase is Phase.DRAINING or self.is_stopping:
            return
        late = "did not import the application" if phase is Phase.BOOTING else "did not start a worker"
        what = f"template {pid} {late} within boot_timeout ({template.timing.boot:g} s) and was killed"
        yield from self._template_failed(template, what, now)

    def _drain_templates(self, now: float) -> Iterator[Action]:
        for pid, template in self._templates_of(Phase.BOOTING, Phase.SERVING):
            if self.is_stopping or template.generation not in self.generations:
                self._enter(template, Phase.DRAINING, now, template.timing.hurry)
                yield Drain(pid)

    def _drain_all(self, now: float) -> Iterator[Action]:
        for pid, worker in self._of(Phase.BOOTING, Phase.SERVING):
            yield self._drain(pid, worker, now)
        yield from self._drain_templates(now)
        if not self.workers and not self.templates and not self._is_finished and self._exit_code is not None:
            self._is_finished = True
            yield Finish(self._exit_code)

    def _drain_surplus(self, now: float) -> Iterator[Action]:
        # Drained, not killed: one of them may have begun to serve a moment ago.
        for pid, worker in self._of(Phase.BOOTING):
            if worker.generation not in self.generations:
                yield self._drain(pid, worker, now)
        if self._former is not None:
            return
        serving = self._of(Phase.SERVING)
        serving.sort(key=lambda item: _dispensability(item[1]))
        for pid, worker in serving[: max(0, len(serving) - self.target)]:
            yield self._drain(pid, worker, now)
        # Fewer workers may be wanted than are booting.
        for pid, worker in self._of(Phase.BOOTING)[: max(0, -self._missing(self.generation))]:
            yield self._drain(pid, worker, now)


def _dispensability(worker: Worker) -> tuple[int, bool, float]:
    """Orders serving workers: former generations come first, then those that are to be recycled, the oldest first, then
    the youngest.
    """
    return (worker.generation, not worker.wants_recycling, worker.since if worker.wants_recycling else -worker.since)
