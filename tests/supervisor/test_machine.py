"""The supervisor's decisions: every order of a few events, and the rules one by one."""

from __future__ import annotations

import copy
import inspect
import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import TypeVar

import pytest

from wsgi.supervisor import machine as machine_module
from wsgi.supervisor.machine import (
    Action,
    Drain,
    Finish,
    Hurry,
    Kill,
    Log,
    Machine,
    Phase,
    Start,
    StartTemplate,
    Template,
    Timing,
    Worker,
)

TIMING = Timing(boot=60, drain=30, hurry=5, first_delay=0.1, longest_delay=1.0, steady=10)


T = TypeVar("T")


def clone(value: T) -> T:
    """A shallow copy; `copy.copy` takes several times as long."""
    other = object.__new__(type(value))
    other.__dict__.update(value.__dict__)
    return other


class World:
    """A machine and what a system would do of its actions: processes that start, and nothing else by itself."""

    def __init__(self, target: int = 2, *, preload: bool = False) -> None:
        self.machine = Machine(target, TIMING, preload=preload)
        self.now = 0.0
        self.next_pid = 1
        self.alive: set[int] = set()
        self.drained: list[int] = []
        self.hurried: list[int] = []
        self.killed: list[int] = []
        self.finished: list[int] = []
        self.texts: list[str] = []

    def act(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case Start(generation, None):
                    self.machine.started(self.new_process(), generation, self.now)
                case Start(generation, template):
                    assert template is not None
                    assert template in self.alive
                    assert self.machine.templates[template].generation == generation
                    assert self.machine.templates[template].phase is Phase.SERVING
                    self.machine.requested(template, self.now)
                case StartTemplate(generation):
                    # One is enough.
                    assert generation not in [template.generation for template in self.templates()]
                    self.machine.template_started(self.new_process(), generation, self.now)
                case Drain(pid):
                    assert pid in self.alive
                    # Once, and once more when the server stops.
                    assert self.drained.count(pid) <= self.machine.is_stopping
                    self.drained.append(pid)
                case Hurry(pid):
                    assert pid in self.drained
                    self.hurried.append(pid)
                case Kill(pid):
                    assert pid in self.alive
                    assert pid not in self.killed
                    self.killed.append(pid)
                case Finish(code):
                    assert not self.alive
                    self.finished.append(code)
                case Log(text):
                    self.texts.append(text)

    def new_process(self) -> int:
        self.alive.add(self.next_pid)
        self.next_pid += 1
        return self.next_pid - 1

    def templates(self) -> list[Template]:
        """Templates that have not been told to end."""
        templates = self.machine.templates.values()
        return [template for template in templates if template.phase in (Phase.BOOTING, Phase.SERVING)]

    def copy(self) -> World:
        """The same world, whose future may differ."""
        other = clone(self)
        for name in ("alive", "drained", "hurried", "killed", "finished", "texts"):
            setattr(other, name, copy.copy(getattr(self, name)))
        other.machine = clone(self.machine)
        other.machine.workers = {pid: clone(worker) for pid, worker in self.machine.workers.items()}
        other.machine.templates = {pid: clone(template) for pid, template in self.machine.templates.items()}
        return other

    def pids(self, *phases: Phase) -> list[int]:
        return [pid for pid, worker in self.machine.workers.items() if worker.phase in phases]

    def templates_in(self, *phases: Phase) -> list[int]:
        return [pid for pid, template in self.machine.templates.items() if template.phase in phases]

    @property
    def requested(self) -> list[int]:
        """Templates that have a worker to fork."""
        return [pid for pid, template in self.machine.templates.items() if template.requested]

    def loaded(self, template: int) -> None:
        self.act(self.machine.template_ready(template, self.now))

    def fork(self, template: int) -> None:
        self.act(self.machine.forked(template, self.new_process(), self.now))

    @property
    def serving(self) -> list[int]:
        return self.pids(Phase.SERVING)

    @property
    def reloads(self) -> tuple[int, int, int]:
        """Those that were begun, those that are done, and those that failed."""
        return self.machine.reloads_begun, self.machine.reloads_done, self.machine.reloads_failed

    def ready(self, pid: int) -> None:
        self.act(self.machine.ready(pid, self.now))

    def exit(self, pid: int, how: str = "exited with status 1", *, is_clean: bool = False) -> None:
        self.alive.discard(pid)
        self.act(self.machine.exited(pid, how, self.now, is_clean=is_clean))

    def tick(self) -> None:
        deadline = self.machine.deadline()
        if deadline is not None:
            self.now = max(self.now, deadline)
            self.act(self.machine.tick(self.now))

    def go_well(self) -> None:
        """Every process that boots serves, every worker that was requested is forked, and every process that was asked
        to end ends.
        """
        for _ in range(20):
            before = self.state()
            for pid in self.templates_in(Phase.BOOTING):
                self.loaded(pid)
            for pid in self.requested:
                self.fork(pid)
            for pid in self.pids(Phase.BOOTING):
                self.ready(pid)
            for pid in self.pids(Phase.DRAINING, Phase.KILLED):
                self.exit(pid, "ended", is_clean=True)
            for pid in self.templates_in(Phase.DRAINING, Phase.KILLED):
                self.exit(pid, "ended", is_clean=True)
            busy = [*self.pids(Phase.BOOTING), *self.templates_in(Phase.BOOTING), *self.requested]
            if self.machine.deadline() is not None and not busy:
                self.tick()
            if self.state() == before:
                return

    def state(self) -> object:
        """What the machine's further decisions depend on, with the numbers and times of workers in order only."""
        order = sorted(self.machine.workers.items())
        templates = [template for _, template in sorted(self.machine.templates.items())]
        processes: list[Worker | Template] = [*(worker for _, worker in order), *templates]
        generations = sorted({process.generation for process in processes} | {self.machine.generation})
        workers = tuple(
            (worker.phase, generations.index(worker.generation), worker.wants_recycling, worker.has_served)
            for _, worker in order
        )
        machine = self.machine
        counts = (machine.target, min(machine._failures, 4), len(self.finished), generations.index(machine.generation))
        waits = machine._start_after > self.now
        forking = tuple((one.phase, generations.index(one.generation), one.requested) for one in templates)
        return (workers, forking, counts, machine.is_stopping, machine.is_reloading, machine.has_served, waits)


def begun(target: int = 2, *, preload: bool = False) -> World:
    world = World(target, preload=preload)
    world.act(world.machine.begin(0.0))
    return world


def serving(target: int = 2, *, preload: bool = False) -> World:
    world = begun(target, preload=preload)
    world.go_well()
    assert len(world.serving) == target
    return world


def events(world: World) -> Iterator[tuple[str, Callable[[World], None]]]:
    """Everything that can happen next."""
    for pid in world.pids(Phase.BOOTING):
        yield "ready", lambda w, pid=pid: w.ready(pid)  # type: ignore[misc]
    for pid in sorted(world.alive):
        yield "exit", lambda w, pid=pid: w.exit(pid)  # type: ignore[misc]
    for pid in world.pids(Phase.BOOTING, Phase.SERVING):
        yield "recycle", lambda w, pid=pid: w.act(w.machine.recycle(pid, "age", w.now))  # type: ignore[misc]
    for pid in world.templates_in(Phase.BOOTING):
        yield "loaded", lambda w, pid=pid: w.loaded(pid)  # type: ignore[misc]
    for pid in world.requested:
        yield "forked", lambda w, pid=pid: w.fork(pid)  # type: ignore[misc]
        yield "refused", lambda w, pid=pid: w.act(w.machine.refused(pid, "no room", w.now))  # type: ignore[misc]
    yield "reload", lambda w: w.act(w.machine.reload(w.now))
    if world.machine.is_reloading:
        yield "refuse", lambda w: w.act(w.machine.refuse_reload("no file", w.now))
    yield "more", lambda w: w.act(w.machine.resize(+1, w.now))
    yield "fewer", lambda w: w.act(w.machine.resize(-1, w.now))
    yield "stop", lambda w: w.act(w.machine.stop(w.now))
    yield "quit", lambda w: w.act(w.machine.quit(w.now))
    yield "tick", World.tick


def has_its_workers(world: World, generation: int, count: int) -> bool:
    """Whether so many workers of a generation boot, serve or are requested, or their template boots."""
    templates = [one for one in world.templates() if one.generation == generation]
    live = world.pids(Phase.BOOTING, Phase.SERVING)
    present = sum(world.machine.workers[pid].generation == generation for pid in live)
    expected = sum(template.requested for template in templates)
    return present + expected >= count or any(template.phase is Phase.BOOTING for template in templates)


def check_step(before: World, name: str, after: World) -> None:
    machine = after.machine
    if not machine.is_stopping and name != "exit":
        # Nothing but a worker's own end makes fewer serve than are wanted.
        assert len(after.serving) >= min(len(before.serving), machine.target)
    current = [w for w in machine.workers.values() if w.generation == machine.generation]
    live = [worker for worker in current if worker.phase in (Phase.BOOTING, Phase.SERVING)]
    asked = [one.requested for one in after.templates() if one.generation == machine.generation]
    former = len(before.machine.workers) + sum(one.requested for one in before.templates())
    assert len(live) + sum(asked) <= max(machine.target + 1, former)
    if name == "quit":
        assert not after.pids(Phase.BOOTING, Phase.SERVING, Phase.DRAINING)
        assert not after.templates_in(Phase.BOOTING, Phase.SERVING, Phase.DRAINING)
    if name in ("recycle", "ready") and not machine.is_stopping:
        # Recycling has one successor at a time, and gives none up that is booting.
        assert len(after.pids(Phase.BOOTING)) <= max(len(before.pids(Phase.BOOTING)), machine.target)
        given_up = set(before.pids(Phase.BOOTING)) & set(after.pids(Phase.DRAINING))
        assert not any(machine.workers[pid].generation in machine.generations for pid in given_up)
    assert len(after.finished) <= 1
    in_progress = machine.reloads_begun - machine.reloads_done - machine.reloads_failed
    if machine.is_stopping:
        assert in_progress == 0
    elif machine.has_served:
        assert in_progress == machine.is_reloading
    else:
        assert in_progress in (0, 1)
    # What a template was asked for is waited for, and at most one generation beside the current one has a template.
    assert all(template.requested >= 0 for template in machine.templates.values())
    assert len({template.generation for template in after.templates()} - {machine.generation}) <= machine.is_reloading
    if machine.is_reloading and not machine.is_stopping:
        # The former generation may have to go on; the new one cannot without its template.
        for pid in before.templates_in(Phase.SERVING):
            if pid in machine.templates and machine.templates[pid].generation == machine._former:
                assert machine.templates[pid].phase is not Phase.DRAINING
        if before.machine.generation == machine.generation and name == "exit":
            gone = set(before.templates_in(Phase.BOOTING)) - set(machine.templates)
            assert not any(before.machine.templates[pid].generation == machine.generation for pid in gone)
    if machine.is_reloading and not machine.is_stopping and after.now >= machine._start_after:
        # The former generation is kept whole.
        assert has_its_workers(after, machine.serving_generation, machine.target)
        assert has_its_workers(after, machine.generation, 1)
    if set(after.requested) - set(after.templates_in(Phase.KILLED)):
        assert machine.deadline() is not None
    if after.pids(Phase.BOOTING, Phase.DRAINING) or after.templates_in(Phase.BOOTING, Phase.DRAINING):
        # None of them may last for ever.
        assert machine.deadline() is not None
    if (
        before.machine.is_reloading
        and not machine.is_reloading
        and name in ("exit", "tick", "refuse")
        and not machine.is_stopping
    ):
        assert machine.generation < before.machine.generation
    if before.machine.is_reloading and not machine.is_stopping and name in ("exit", "refused"):
        # A failure of the former generation is none of the reload.
        failed = before.alive - after.alive or {pid for pid in before.requested if asks_less(before, after, pid)}
        processes: dict[int, Worker | Template] = {**before.machine.workers, **before.machine.templates}
        overdue = any(one.overdue is not None and one.overdue <= after.now for one in processes.values())
        if not overdue and not any(processes[pid].generation == before.machine.generation for pid in failed):
            assert machine.is_reloading


def asks_less(before: World, after: World, template: int) -> bool:
    """Whether a template has answered a request."""
    return after.machine.templates[template].requested < before.machine.templates[template].requested


def check_ends(world: World) -> None:
    """From every state, good fortune leads to what is wanted, and a stop to an end."""
    lucky = world.copy()
    lucky.go_well()
    if lucky.machine.is_stopping:
        assert len(lucky.finished) == 1
        assert not lucky.alive
        return
    workers = lucky.machine.workers.values()
    assert [worker.phase for worker in workers] == [Phase.SERVING] * lucky.machine.target
    assert {worker.generation for worker in workers} == {lucky.machine.generation}
    assert not any(worker.wants_recycling for worker in workers)
    templates = lucky.machine.templates.values()
    # A template that ended is missed at the next start only.
    assert [(one.phase, one.generation, one.requested) for one in templates] in (
        [],
        [(Phase.SERVING, lucky.machine.generation, 0)] * lucky.machine.preload,
    )
    assert lucky.machine.deadline() is None
    stopped = world.copy()
    stopped.act(stopped.machine.stop(stopped.now))
    stopped.go_well()
    assert stopped.finished == [0]
    assert not stopped.alive


def explore(depth: int, *, preload: bool = False) -> int:
    """Tries every order of so many events from the start and from two serving workers; gives the number of states."""
    frontier, seen = [begun(preload=preload), serving(preload=preload)], set[object]()
    for _ in range(depth):
        reached = []
        for world in frontier:
            for name, event in list(events(world)):
                after = world.copy()
                after.now += 0.001
                event(after)
                check_step(world, name, after)
                if (state := after.state()) not in seen and after.machine.target <= 3:
                    seen.add(state)
                    check_ends(after)
                    reached.append(after)
        frontier = reached
    return len(seen)


def test_machine_every_order_of_events_keeps_the_rules() -> None:
    assert explore(5) > 1000


def test_machine_with_preload_every_order_of_events_keeps_the_rules() -> None:
    assert explore(5, preload=True) > 1000


# Each breaks one rule; the exploration must find every one.
MUTATIONS = {
    "drains-one-too-many": ("max(0, len(serving) - self.target)", "max(0, len(serving) - self.target + 1)"),
    "kills-serving-at-reload": (
        "self._of(Phase.BOOTING):\n            if worker.generation not in",
        "self._of(Phase.SERVING):\n            if worker.generation not in",
    ),
    "keeps-booting-what-is-former": ("if worker.generation not in self.generations", "if False"),
    "keeps-failed-generation": ("self.generation, self._former = former, None", "self._former = None"),
    "forgets-to-restart": ("if now >= self._start_after:", "if False:"),
    "starts-twice": ("sum(template.requested for template in templates)", "sum([-1])"),
    "never-finishes": ("if not self.workers and", "if False and"),
    "finishes-twice": ("self._is_finished = True", "pass"),
    "finishes-early": ("if not self.workers and", "if"),
    "drains-again": (
        "self._of(Phase.BOOTING, Phase.SERVING):\n            yield",
        "self._of(*Phase):\n            yield",
    ),
    "kills-again": ("self._enter(worker, Phase.KILLED, now, None)\n            yield", "yield"),
    "loses-the-deadline": ("times.append(self._start_after)", "pass"),
    "lets-boot-for-ever": (
        "Worker(generation, Phase.BOOTING, now, now + timing.boot, timing=timing)",
        "Worker(generation, Phase.BOOTING, now, None, timing=timing)",
    ),
    "counts-no-failed-reload": ("former, None\n        self._give_up_reload()", "former, None"),
    "forgets-the-former-generation": ("in sorted(self.generations, reverse=True)", "in [self.generation]"),
    "forgets-a-given-up-reload": ("self._give_up_reload()\n        self.reloads_begun", "self.reloads_begun"),
    "recycles-the-youngest": ("worker.since if worker.wants_recycling else -worker.since", "-worker.since"),
    "forgets-recycling": (
        "return self.target + any(worker.wants_recycling for worker in serving)",
        "return self.target",
    ),
}


# The same with `preload`.
PRELOAD_MUTATIONS = {
    "keeps-old-templates": ("self.is_stopping or template.generation not in self.generations", "self.is_stopping"),
    "gives-the-former-template-up": (
        "self.is_stopping or template.generation not in self.generations",
        "self.is_stopping or template.generation != self.generation",
    ),
    "starts-a-second-template": ("if self._is_start_due(generation):", "if self._missing(generation) > 0:"),
    "takes-the-template-of-another-generation": (
        "ready = [pid for pid, one in self._templates_of(Phase.SERVING) if one.generation == generation]",
        "ready = [pid for pid, one in self._templates_of(Phase.SERVING)]",
    ),
    "asks-twice": (" - sum(template.requested for template in templates)", ""),
    "fails-a-reload-by-the-former-template": (
        "if self._former is not None and template.generation == self.generation:",
        "if self._former is not None:",
    ),
    "fails-a-reload-by-a-refusal-to-the-former-template": (
        "if self._former is not None and generation == self.generation:",
        "if self._former is not None:",
    ),
    "forgets-the-former-generation-with-templates": (
        "in sorted(self.generations, reverse=True)",
        "in [self.generation]",
    ),
    "forgets-an-answer": ("template.requested -= 1", "pass"),
    "lets-a-template-import-for-ever": (
        "Template(generation, Phase.BOOTING, now, now + timing.boot, timing=timing)",
        "Template(generation, Phase.BOOTING, now, None, timing=timing)",
    ),
    "lets-a-request-wait-for-ever": ("found.overdue = now + found.timing.boot", "pass"),
    "finishes-with-a-template": ("if not self.workers and not self.templates and", "if not self.workers and"),
    "keeps-a-generation-whose-template-failed": (
        "if self._former is not None and template.generation == self.generation:",
        "if False:",
    ),
    "forgets-the-template-at-a-quit": (
        "for pid, process in self._processes():\n            if process.phase is not",
        "for pid, process in self.workers.items():\n            if process.phase is not",
    ),
}


@pytest.mark.parametrize(
    ("old", "new", "preload"),
    [
        *((old, new, False) for old, new in MUTATIONS.values()),
        *((old, new, True) for old, new in PRELOAD_MUTATIONS.values()),
    ],
    ids=[*MUTATIONS, *PRELOAD_MUTATIONS],
)
def test_machine_with_a_broken_rule_is_found(
    old: str, new: str, preload: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = inspect.getsource(machine_module)
    assert source.count(old) == 1
    mutant = ModuleType("mutant")
    monkeypatch.setitem(sys.modules, "mutant", mutant)
    exec(compile(source.replace(old, new), "mutant", "exec"), vars(mutant))
    for name in machine_module.__all__:
        monkeypatch.setitem(globals(), name, getattr(mutant, name))
    with pytest.raises(AssertionError):
        explore(4, preload=preload)


# -- the rules, one by one --------------------------------------------------------------------------------------------


def test_reload_starts_one_worker_and_the_others_once_it_serves() -> None:
    world = serving()
    old = world.serving
    world.act(world.machine.reload(world.now))
    (first,) = world.pids(Phase.BOOTING)
    assert world.serving == old
    world.ready(first)
    assert len(world.pids(Phase.BOOTING)) == 1
    # Three serve, two are wanted: one of the former workers is drained.
    assert len(world.drained) == 1
    world.ready(*world.pids(Phase.BOOTING))
    assert world.drained == old


def test_reload_that_fails_keeps_the_former_workers() -> None:
    world = serving()
    old = world.serving
    world.act(world.machine.reload(world.now))
    (booting,) = world.pids(Phase.BOOTING)
    world.exit(booting)
    assert world.serving == old
    assert world.pids(Phase.BOOTING) == []
    assert "reload failed: worker 3 exited with status 1 before it served; the former workers go on" in world.texts
    assert world.reloads == (1, 0, 1)
    # It may be tried again.
    world.act(world.machine.reload(world.now))
    world.go_well()
    assert not set(world.serving) & set(old)
    assert world.reloads == (2, 1, 1)


def test_reload_that_hangs_is_killed_and_keeps_the_former_workers() -> None:
    world = serving()
    old = world.serving
    world.act(world.machine.reload(world.now))
    booting = world.pids(Phase.BOOTING)
    assert world.machine.deadline() == world.now + TIMING.boot
    world.tick()
    assert world.killed == booting
    assert world.serving == old
    assert "did not serve within boot_timeout (60 s) and was killed" in world.texts[-1]


def test_reload_during_a_reload_gives_the_first_up() -> None:
    world = serving()
    old = world.serving
    world.act(world.machine.reload(world.now))
    (first,) = world.pids(Phase.BOOTING)
    world.act(world.machine.reload(world.now))
    assert world.drained == [first]
    world.exit(first)
    # That it ended is no failure of the second reload.
    assert world.machine.is_reloading
    world.go_well()
    assert not set(world.serving) & {*old, first}
    assert world.reloads == (2, 1, 1)


def test_worker_that_ends_during_a_reload_is_replaced_by_one_of_its_generation() -> None:
    world = serving(1)
    (old,) = world.serving
    world.now += TIMING.steady
    world.act(world.machine.reload(world.now))
    (first,) = world.pids(Phase.BOOTING)
    world.exit(old)
    (again,) = set(world.pids(Phase.BOOTING)) - {first}
    assert world.machine.workers[again].generation == 1
    # It serves until the reload has succeeded.
    world.ready(again)
    assert world.machine.is_reloading
    assert world.serving == [again]
    world.ready(first)
    assert world.serving == [first]
    assert again in world.drained


def test_worker_that_boots_for_the_former_generation_is_not_needed_after_the_reload() -> None:
    world = serving(1)
    (old,) = world.serving
    world.now += TIMING.steady
    world.act(world.machine.reload(world.now))
    (first,) = world.pids(Phase.BOOTING)
    world.exit(old)
    (again,) = set(world.pids(Phase.BOOTING)) - {first}
    world.ready(first)
    assert world.drained == [again]


def test_reload_that_is_refused_gives_up_the_one_in_progress() -> None:
    world = serving()
    old = world.serving
    world.act(world.machine.reload(world.now))
    (first,) = world.pids(Phase.BOOTING)
    world.act(world.machine.refuse_reload("workers must be a number", world.now))
    assert world.drained == [first]
    assert world.texts[-1] == "reload failed: workers must be a number; the former workers go on"
    world.go_well()
    assert world.serving == old
    assert world.reloads == (2, 0, 2)


def test_generation_tells_whether_the_last_reload_has_succeeded() -> None:
    world = serving()

    def has_succeeded() -> bool:
        return world.machine.generation == world.machine.reloads_begun + 1

    assert has_succeeded()
    world.act(world.machine.refuse_reload("no file", world.now))
    assert not has_succeeded()
    world.act(world.machine.reload(world.now))
    world.go_well()
    assert has_succeeded()
    world.act(world.machine.reload(world.now))
    world.exit(world.pids(Phase.BOOTING)[0])
    assert not has_succeeded()


def test_reload_changes_timing_and_target_once_it_has_succeeded() -> None:
    world = serving(2)
    slow = Timing(boot=500, drain=400)
    world.act(world.machine.reload(world.now, slow, 1))
    (first,) = world.pids(Phase.BOOTING)
    assert world.machine.workers[first].overdue == world.now + 500
    world.exit(first)
    assert (world.machine.target, world.machine.timing) == (2, TIMING)
    world.act(world.machine.reload(world.now, slow, 1))
    old = world.serving
    world.ready(world.pids(Phase.BOOTING)[0])
    assert (world.machine.target, world.machine.timing) == (1, slow)
    # Workers of the former generation keep their times.
    assert [world.machine.workers[pid].overdue for pid in old] == [world.now + TIMING.drain] * 2


def test_reload_that_a_stop_ends_has_failed() -> None:
    world = serving()
    world.act(world.machine.reload(world.now))
    assert world.reloads == (1, 0, 0)
    world.act(world.machine.stop(world.now))
    assert world.reloads == (1, 0, 1)


def test_worker_that_served_long_is_replaced_at_once() -> None:
    world = serving()
    world.now += TIMING.steady
    world.exit(world.serving[0], "was killed by SIGKILL")
    assert len(world.pids(Phase.BOOTING)) == 1
    assert world.texts[-1] == "worker 1 was killed by SIGKILL; it is replaced"


def test_workers_that_fail_again_and_again_are_started_ever_later() -> None:
    world = serving(1)
    delays = []
    for _ in range(6):
        world.exit(next(iter(world.alive)))
        deadline = world.machine.deadline()
        assert deadline is not None
        delays.append(round(deadline - world.now, 3))
        assert world.pids(Phase.BOOTING) == []
        world.tick()
    assert delays == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]
    assert not world.machine.is_stopping


def test_workers_that_fail_together_are_one_failure() -> None:
    world = serving(3)
    for pid in world.serving:
        world.exit(pid)
    deadline = world.machine.deadline()
    assert deadline is not None
    assert round(deadline - world.now, 3) == 0.1
    world.go_well()
    assert len(world.serving) == 3


def test_worker_that_served_long_is_replaced_at_once_beside_one_that_fails_again_and_again() -> None:
    world = serving(2)
    steady, other = world.serving
    world.exit(other)
    world.now += TIMING.steady
    world.machine._start_after = world.now + 30
    world.exit(steady, "was killed by SIGKILL")
    assert len(world.pids(Phase.BOOTING)) == 2


def test_first_start_goes_on_while_a_worker_still_boots() -> None:
    world = begun()
    for _ in range(4):
        world.exit(max(world.alive))
        world.now += 5
        world.tick()
    assert not world.machine.is_stopping
    world.ready(1)
    world.go_well()
    assert len(world.serving) == 2


def test_reload_that_the_system_refuses_fails() -> None:
    world = serving()
    old = world.serving
    world.machine.reload(world.now)
    world.act(world.machine.start_failed(2, "Resource temporarily unavailable", world.now))
    assert world.texts[-1].startswith("reload failed: cannot start a worker")
    assert world.serving == old
    assert not world.machine.is_reloading


def test_worker_that_says_it_failed_and_does_not_end_is_killed_soon() -> None:
    world = begun(1)
    world.act(world.machine.failed(1, world.now))
    assert world.machine.deadline() == world.now + TIMING.hurry


def test_first_start_that_fails_in_every_worker_ends_with_1() -> None:
    world = begun()
    world.exit(1)
    assert not world.finished
    world.exit(2)
    assert world.finished == [1]
    assert world.texts[-1] == "no worker could start: the server ends"


def test_first_start_that_the_system_refuses_ends_with_1() -> None:
    world = World(2)
    world.machine.begin(0.0)
    for _ in range(2):
        world.act(world.machine.start_failed(1, "no room", world.now))
    assert world.finished == [1]
    assert world.texts[0] == "cannot start a worker: no room; another is tried in 0.1 s"


def test_fewer_workers_drains_the_youngest_and_keeps_one() -> None:
    world = serving(2)
    world.act(world.machine.resize(-1, world.now))
    assert len(world.drained) == 1
    world.act(world.machine.resize(-1, world.now))
    assert world.machine.target == 1
    assert world.texts[-1] == "workers wanted: 1; there can be 1 to 512"


def test_stop_drains_all_and_a_second_one_hurries_them() -> None:
    world = serving()
    workers = world.serving
    world.act(world.machine.stop(world.now))
    assert world.drained == workers
    assert world.machine.deadline() == world.now + TIMING.drain
    world.act(world.machine.stop(world.now))
    assert world.hurried == workers
    assert world.machine.deadline() == world.now + TIMING.hurry
    for pid in workers:
        world.exit(pid, "exited with status 0", is_clean=True)
    assert world.finished == [0]


def test_stop_whose_worker_does_not_end_kills_it_and_ends_with_1() -> None:
    world = serving()
    stuck, other = world.serving
    world.act(world.machine.stop(world.now))
    world.exit(other, "exited with status 0", is_clean=True)
    world.tick()
    assert world.killed == [stuck]
    world.exit(stuck, "was killed by SIGKILL")
    assert world.finished == [1]
    assert f"worker {stuck} had not ended after 30 s and was killed" in world.texts


def test_stop_before_any_worker_served_ends_with_its_code() -> None:
    world = begun()
    world.act(world.machine.stop(world.now, code=130))
    for pid in sorted(world.alive):
        world.exit(pid, "was killed by SIGTERM")
    assert world.finished == [130]


def test_quit_kills_all_and_ends_with_0() -> None:
    world = serving()
    workers = world.serving
    world.act(world.machine.quit(world.now))
    assert world.killed == workers
    for pid in workers:
        world.exit(pid, "was killed by SIGKILL")
    assert world.finished == [0]


def test_recycling_starts_the_successor_first() -> None:
    world = serving()
    pid, other = world.serving
    world.now += TIMING.steady
    world.act(world.machine.recycle(pid, "it has answered 9 requests", world.now))
    assert world.texts[-1] == f"worker {pid} is recycled: it has answered 9 requests"
    (successor,) = world.pids(Phase.BOOTING)
    assert world.drained == []
    world.ready(successor)
    assert world.drained == [pid]
    assert world.serving == [other, successor]


def test_worker_that_leaves_its_clients_to_others_learns_of_the_stop() -> None:
    world = World(1)
    world.act(world.machine.begin(world.now))
    (former,) = world.pids(Phase.BOOTING)
    world.ready(former)
    world.act(world.machine.reload(world.now))
    (latter,) = world.pids(Phase.BOOTING)
    world.ready(latter)
    assert world.drained == [former]
    world.act(world.machine.stop(world.now))
    assert world.drained == [former, former, latter]


def test_recycling_takes_the_workers_that_asked_one_at_a_time_and_the_oldest_first() -> None:
    world = begun()
    first, second = world.pids(Phase.BOOTING)
    for pid in (first, second):
        world.now += 1
        world.ready(pid)
    world.now += TIMING.steady
    for pid in (second, first):
        world.act(world.machine.recycle(pid, "it is 60 s old", world.now))
        # Asking again changes nothing.
        world.act(world.machine.recycle(pid, "it is 60 s old", world.now))
    assert world.texts.count(f"worker {first} is recycled: it is 60 s old") == 1
    (successor,) = world.pids(Phase.BOOTING)
    world.ready(successor)
    assert world.drained == [first]
    (successor,) = world.pids(Phase.BOOTING)
    world.ready(successor)
    assert world.drained == [first, second]


def test_recycling_soon_after_the_start_is_delayed_ever_more() -> None:
    world = serving(1)
    delays = []
    for _ in range(5):
        world.act(world.machine.recycle(world.serving[0], "it uses 300 MiB", world.now))
        deadline = world.machine.deadline()
        assert deadline is not None
        delays.append(round(deadline - world.now, 3))
        text = world.texts[-1]
        world.go_well()
    assert delays == [0.1, 0.2, 0.4, 0.8, 1.0]
    assert text.endswith("it had served for less than 10 s, so the next starts in 1 s")
    world.now += TIMING.steady
    world.act(world.machine.recycle(world.serving[0], "it uses 300 MiB", world.now))
    assert len(world.pids(Phase.BOOTING)) == 1


def test_recycling_of_a_former_generation_starts_no_worker_too_many() -> None:
    world = serving()
    world.now += TIMING.steady
    world.act(world.machine.recycle(world.serving[0], "it is 60 s old", world.now))
    world.act(world.machine.reload(world.now))
    started = world.next_pid
    world.go_well()
    assert world.next_pid - started == 1
    assert len(world.serving) == 2


def test_worker_whose_successor_fails_goes_on() -> None:
    world = serving(1)
    (pid,) = world.serving
    world.now += TIMING.steady
    world.act(world.machine.recycle(pid, "it is 60 s old", world.now))
    world.exit(world.pids(Phase.BOOTING)[0])
    assert world.serving == [pid]
    world.go_well()
    assert world.drained == [pid]


def test_preload_starts_one_template_and_its_workers_once_it_has_the_application() -> None:
    world = begun(preload=True)
    (template,) = world.templates_in(Phase.BOOTING)
    assert world.pids(*Phase) == []
    assert world.machine.deadline() == TIMING.boot
    world.loaded(template)
    assert world.machine.templates[template].requested == 2
    world.fork(template)
    world.fork(template)
    assert len(world.pids(Phase.BOOTING)) == 2
    world.go_well()
    assert world.machine.deadline() is None


def test_preload_that_fails_at_the_first_start_ends_with_1() -> None:
    world = begun(4, preload=True)
    world.exit(1)
    assert world.finished == [1]
    assert world.texts == [
        "template 1 exited with status 1 before it had the application",
        "no worker could start: the server ends",
    ]


def test_preload_reload_that_fails_keeps_the_former_template() -> None:
    world = serving(preload=True)
    workers, (template,) = world.serving, world.templates_in(Phase.SERVING)
    world.act(world.machine.reload(world.now))
    (booting,) = world.templates_in(Phase.BOOTING)
    world.exit(booting)
    assert world.texts[-1].startswith(f"reload failed: template {booting} exited with status 1")
    assert (world.serving, world.templates_in(*Phase)) == (workers, [template])
    world.exit(workers[0])
    world.tick()
    assert world.machine.templates[template].requested == 1


def test_preload_reload_whose_worker_fails_ends_its_template() -> None:
    world = serving(preload=True)
    (former,) = world.templates_in(Phase.SERVING)
    world.act(world.machine.reload(world.now))
    (template,) = world.templates_in(Phase.BOOTING)
    world.loaded(template)
    world.fork(template)
    world.exit(world.pids(Phase.BOOTING)[0])
    assert not world.machine.is_reloading
    assert world.templates_in(Phase.DRAINING) == [template]
    assert world.templates_in(Phase.SERVING) == [former]


def test_preload_reload_ends_the_former_template_once_a_worker_serves() -> None:
    world = serving(preload=True)
    (former,) = world.templates_in(Phase.SERVING)
    world.act(world.machine.reload(world.now))
    (template,) = world.templates_in(Phase.BOOTING)
    world.loaded(template)
    world.fork(template)
    assert world.templates_in(Phase.SERVING) == [former, template]
    world.ready(world.pids(Phase.BOOTING)[0])
    assert former in world.drained
    world.go_well()
    assert world.templates_in(*Phase) == [template]


def test_template_that_ends_costs_no_worker_and_is_missed_at_the_next_start() -> None:
    world = serving(preload=True)
    workers, (template,) = world.serving, world.templates_in(Phase.SERVING)
    world.exit(template, "was killed by SIGKILL")
    assert world.serving == workers
    assert world.templates_in(*Phase) == []
    assert world.machine.deadline() is None
    world.now += TIMING.steady
    world.exit(workers[0])
    assert len(world.templates_in(Phase.BOOTING)) == 1
    world.go_well()
    assert len(world.serving) == 2


def test_template_that_does_not_answer_is_killed_and_replaced() -> None:
    world = serving(preload=True)
    (template,) = world.templates_in(Phase.SERVING)
    world.now += TIMING.steady
    world.exit(world.serving[0])
    assert world.machine.deadline() == world.now + TIMING.boot
    world.tick()
    assert world.killed == [template]
    assert "did not start a worker within boot_timeout (60 s) and was killed" in world.texts[-1]
    world.exit(template)
    world.go_well()
    assert len(world.serving) == 2


def test_worker_that_a_template_forks_after_a_reload_has_begun_serves_until_it_has_succeeded() -> None:
    world = serving(1, preload=True)
    (template,) = world.templates_in(Phase.SERVING)
    world.now += TIMING.steady
    world.exit(world.serving[0])
    world.act(world.machine.reload(world.now))
    world.fork(template)
    (worker,) = world.pids(Phase.BOOTING)
    assert world.drained == []
    world.ready(worker)
    assert world.machine.is_reloading
    world.go_well()
    assert worker in world.drained


def test_worker_that_a_template_forks_after_its_reload_was_given_up_is_drained() -> None:
    world = serving(1, preload=True)
    world.act(world.machine.reload(world.now))
    (template,) = world.templates_in(Phase.BOOTING)
    world.loaded(template)
    world.act(world.machine.reload(world.now))
    world.fork(template)
    (worker,) = world.pids(Phase.DRAINING)
    assert world.drained == [template, worker]


def test_worker_that_ends_during_a_reload_is_replaced_from_the_template_of_its_generation() -> None:
    world = serving(1, preload=True)
    (former,) = world.templates_in(Phase.SERVING)
    world.now += TIMING.steady
    world.act(world.machine.reload(world.now))
    world.exit(world.serving[0])
    assert world.machine.templates[former].requested == 1
    world.fork(former)
    (again,) = world.pids(Phase.BOOTING)
    assert world.machine.workers[again].generation == 1


def test_former_template_that_ends_during_a_reload_is_replaced_and_fails_no_reload() -> None:
    world = serving(1, preload=True)
    (former,) = world.templates_in(Phase.SERVING)
    world.now += TIMING.steady
    world.act(world.machine.reload(world.now))
    world.exit(world.serving[0])
    world.act(world.machine.refused(former, "no room", world.now))
    assert world.machine.is_reloading
    world.exit(former)
    world.tick()
    assert world.machine.is_reloading
    assert sorted(world.machine.templates[pid].generation for pid in world.templates_in(Phase.BOOTING)) == [1, 2]


def test_resumed_machine_ends_the_templates_of_the_former_program_and_goes_on_with_its_own() -> None:
    former = serving(2, preload=True)
    world = World(2, preload=True)
    world.alive, world.next_pid = set(former.alive), former.next_pid
    templates = list(former.machine.templates)
    world.machine.resume(former.machine.workers, templates, (1, 1), (0, 0, 0), has_served=True)
    world.act(world.machine.reload(world.now))
    assert world.drained == templates
    world.exit(world.serving[0])
    world.go_well()
    assert len(world.serving) == 2
    assert {world.machine.workers[pid].generation for pid in world.serving} == {2}
    assert world.reloads == (1, 1, 0)


def test_postponed_times_lie_as_far_ahead_as_before() -> None:
    world = serving(2, preload=True)
    world.act(world.machine.reload(world.now))
    before = world.machine.deadline()
    assert before is not None
    world.now += 500
    world.machine.postpone(500)
    world.act(world.machine.tick(world.now))
    assert world.killed == []
    assert world.machine.deadline() == before + 500
