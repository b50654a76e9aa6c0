"""Runs servers under workloads, round by round."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import browser, client, floor
from benchmarks.loads.load import LoadError, Target
from benchmarks.loads.race import Race
from benchmarks.placement import Placement
from benchmarks.processes import ServerError, free_port, running
from benchmarks.servers import OURS, Server
from benchmarks.summary import Sample
from benchmarks.workloads import Workload


@dataclass(frozen=True)
class Contestant:
    """A server in a certain form, or a floor if it is none."""

    name: str
    server: Server | None = None
    access_log: bool = False


@dataclass(frozen=True)
class Plan:
    """What is measured.

    Parameters:
        workloads: one after the other.
        servers: all of them in every round of a workload.
        rounds: how often.
        seconds: for each load.
        placement: who runs where.
    """

    workloads: Sequence[Workload]
    servers: Sequence[Server]
    rounds: int
    seconds: int
    placement: Placement


def contestants(workload: Workload, servers: Sequence[Server]) -> list[Contestant]:
    """Who runs in a workload: the servers, and what no server can go below."""
    if workload.access_log:
        logging = [Contestant(server.name, server, True) for server in servers if server.access_log]
        return logging + [Contestant(f"{OURS}, log off", server) for server in servers if server.name == OURS]
    found = [Contestant(server.name, server) for server in servers]
    if workload.content is not None:
        found.append(Contestant(floor.KERNEL))
    if workload.framework:
        found.append(Contestant(floor.IN_PROCESS))
    return found


def rotated(items: Sequence[Contestant], by: int) -> list[Contestant]:
    """Another order for each round: nobody is always first, or always behind the same neighbour."""
    start = by % max(len(items), 1)
    return [*items[start:], *items[:start]]


def samples(plan: Plan) -> Iterator[Sample]:
    """Measures, and gives each sample when it is there."""
    for workload in plan.workloads:
        runners = contestants(workload, plan.servers)
        for number in range(plan.rounds):
            for contestant in rotated(runners, number):
                yield _sample(plan, workload, contestant, number)


def _sample(plan: Plan, workload: Workload, contestant: Contestant, number: int) -> Sample:
    try:
        figures = _figures(plan, workload, contestant)
    except (LoadError, ServerError, OSError) as error:
        return Sample(workload.name, contestant.name, number, error=f"{error}"[:500])
    return Sample(workload.name, contestant.name, number, figures)


def _figures(plan: Plan, workload: Workload, contestant: Contestant) -> dict[str, float]:
    if contestant.name == floor.IN_PROCESS:
        path = workload.load.path if isinstance(workload.load, Race) else "/"
        return {"cpu_us": floor.in_process(workload.target, path, plan.seconds)}
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        environment = workload.load.prepare(Path(folder))
        if contestant.server:
            command = contestant.server.start(
                workload.target, port, workload.threads, contestant.access_log, workload.closes
            )
        else:
            command = floor.kernel_command(workload, port, Path(folder))
        with running(plan.placement.of_server(command), port, environment) as process:
            if workload.checked:
                _verify(workload, port)
            return workload.load.run(Target(process.pid, port, plan.seconds))


def _verify(workload: Workload, port: int) -> None:
    """One request, and a look at the response: a server that answers wrongly is not measured."""
    request = browser.request(body=workload.body, fields=["Connection: close"])
    response = client.exchange(port, request)
    if response.status != 200:
        raise LoadError(f"the status is {response.status}")
    if workload.content is not None and response.body != workload.content:
        raise LoadError(f"the content is {response.body[:50]!r}")
    if workload.closes and not client.closes(port, request):
        raise LoadError("the connection stays open after Connection: close")
