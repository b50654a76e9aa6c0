"""How reports are shown: in a terminal, and as the page of the docs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import fields
from pathlib import Path

from tests.reload.events import Event
from tests.reload.faults import Fault
from tests.reload.load import KINDS, percentile
from tests.reload.servers import SERVERS
from tests.reload.trial import Holding, Report

__all__ = ["page", "summary"]

INTRODUCTION = Path(__file__).with_name("introduction.md")


def milliseconds(report: Report, is_reloading: bool) -> str:
    """p50, p99 and maximum of what a request took."""
    values = report.record.latency[is_reloading]
    times = (percentile(values, share) for share in (0.5, 0.99, 1.0))
    return " / ".join(f"{1000 * seconds:,.1f}" for seconds in times)


def summary(report: Report) -> Iterator[str]:
    """The lines of a report."""
    record = report.record
    yield (
        f"{report.title}: {report.reloads} reloads in {report.seconds:.0f} s, {record.answered.total():,} answers of "
        f"{len(record.workers)} workers, {record.lost.total():,} lost"
    )
    for event, count in report.events.most_common():
        yield f"  {count} × {event.value}; lost: {_listed(report, 'event', event.value)}"
    for kind, count in record.answered.most_common():
        announced = f", {record.announced[kind]} announced closes" if record.announced[kind] else ""
        yield f"  {kind}: {count:,} answered{announced}; lost: {_listed(report, 'kind', kind)}"
    for is_reloading, when in ((True, "during reloads"), (False, "between them")):
        count = len(record.latency[is_reloading])
        yield f"  ms p50 / p99 / max {when}: {milliseconds(report, is_reloading)} ({count:,} requests)"
    yield f"  ms by which the load itself was late: {1000 * record.lag:,.1f} at most"
    yield f"  messages that a Close frame crossed: {len(record.crossed)}"
    for field in fields(Holding):
        after = "-" if report.after is None else getattr(report.after, field.name)
        yield f"  {field.name.replace('_', ' ')}: {getattr(report.before, field.name)} before, {after} after"
    if report.ends:
        yield f"  the whole server ended {report.ends} times and was started again"
    yield from (f"  {detail}" for detail in record.details)


def _listed(report: Report, column: str, value: str) -> str:
    counts = dict.fromkeys(Fault, 0)
    for loss, count in report.record.lost.items():
        if getattr(loss, column) == value:
            counts[loss.fault] += count
    return ", ".join(f"{count} {fault.value}" for fault, count in counts.items() if count) or "0"


def _table(head: list[str], rows: Iterable[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def page(reports: list[Report]) -> str:
    """The page of the docs."""
    titles = [report.title for report in reports]
    losses = _table(
        ["server", "reloads", "answered", *(fault.value for fault in Fault), "server ended"],
        (
            [
                report.title,
                str(report.reloads),
                f"{report.record.answered.total():,}",
                *(f"{report.record.lost_by('fault')[fault]:,}" for fault in Fault),
                str(report.ends),
            ]
            for report in reports
        ),
    )
    latencies = _table(
        [
            "server",
            "ms p50 / p99 / max during a reload",
            "between reloads",
            "load late by",
            "announced closes",
            "crossed messages",
        ],
        (
            [
                report.title,
                milliseconds(report, True),
                milliseconds(report, False),
                f"{1000 * report.record.lag:,.1f}",
                f"{report.record.announced.total():,}",
                str(len(report.record.crossed)),
            ]
            for report in reports
        ),
    )
    events = _table(
        ["lost, by what had happened last", *titles],
        (
            [
                event.value,
                *(
                    f"{report.record.lost_by('event')[event.value]:,} in {report.events[event]}"
                    if report.events[event]
                    else "-"
                    for report in reports
                ),
            ]
            for event in Event
        ),
    )
    kinds = _table(
        ["lost, by kind of client", *titles],
        (
            [
                kind.name,
                *(
                    f"{report.record.lost_by('kind')[kind.name]:,} of {report.record.answered[kind.name]:,}"
                    if report.record.answered[kind.name]
                    else "-"
                    for report in reports
                ),
            ]
            for kind in KINDS
        ),
    )
    ours = [report for report in reports if report.trial.kind_of_server.keeps_former and report.after]
    held = _table(
        ["held without clients, before / after", *(report.title for report in ours)],
        (
            [
                field.name.replace("_", " ").replace("kib", "KiB"),
                *(f"{getattr(report.before, field.name):,} / {getattr(report.after, field.name):,}" for report in ours),
            ]
            for field in fields(Holding)
        ),
    )
    notes = "\n".join(
        f"- {name} {version}: {SERVERS[name].note}"
        for name, version in dict.fromkeys((report.trial.server, report.version) for report in reports)
        if SERVERS[name].note
    )
    text = INTRODUCTION.read_text("utf-8")
    return text.format(losses=losses, latencies=latencies, events=events, kinds=kinds, held=held, notes=notes)
