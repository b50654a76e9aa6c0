"""Tables in Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks import reach
from benchmarks.figures import FIGURES
from benchmarks.results import Results
from benchmarks.servers import SERVERS
from benchmarks.summary import Sample, errors, ratio, summary

NOTHING = "-"
ERROR = "error"


def whole(results: Results, titles: dict[str, str], ours: str) -> str:
    """Everything: overviews, each workload's details, and what was measured where."""
    samples = results.samples
    named = {name: title for name, title in titles.items() if any(sample.workload == name for sample in samples)}
    parts = [reach.table(samples, named)]
    parts += [overview(samples, named, figure) for figure in ("cpu_us", "per_second", "p99_ms")]
    parts += [f"### {title}\n\n{details(samples, name, ours)}" for name, title in named.items()]
    parts.append("\n".join(f"- {kind}: {what}" for kind, what in {**results.machine, **results.options}.items()))
    parts.append("Versions: " + ", ".join(f"{name} {version}" for name, version in results.versions.items()) + ".")
    return "\n\n".join(part for part in parts if part)


def overview(samples: Sequence[Sample], titles: dict[str, str], figure: str) -> str:
    """One figure of all servers, a line for each workload that has it."""
    known = [server.name for server in SERVERS]
    names = dict.fromkeys(sample.server for sample in samples)
    # In the order of the table of servers, whichever happened to be first; floors behind them.
    servers = sorted(names, key=lambda name: known.index(name) if name in known else len(known))
    lines = []
    for workload, title in titles.items():
        cells = [_cell(samples, workload, server, figure) for server in servers]
        if not set(cells) <= {NOTHING, ERROR}:
            lines.append(_line([title, *cells]))
    head = [_line([FIGURES[figure].title, *servers]), _rule(len(servers) + 1)]
    return "\n".join([*head, *lines]) if lines else ""


def details(samples: Sequence[Sample], workload: str, ours: str) -> str:
    """All figures of one workload, a line for each server, with its processor time as a multiple of ours."""
    here = [sample for sample in samples if sample.workload == workload]
    names = [name for name in FIGURES if any(name in sample.figures for sample in here)]
    compares = "cpu_us" in names
    head = ["server", *(FIGURES[name].title for name in names), *(["CPU to ours"] if compares else []), "errors"]
    lines = [_line(head), _rule(len(head))]
    for server in dict.fromkeys(sample.server for sample in here):
        cells = [server, *(_cell(samples, workload, server, name, spread=name == "cpu_us") for name in names)]
        if compares:
            value = ratio(samples, workload, server, ours, "cpu_us")
            cells.append(NOTHING if value is None else f"{value:.2f}")
        lines.append(_line([*cells, _errors(samples, workload, server)]))
    return "\n".join(lines)


def _cell(samples: Sequence[Sample], workload: str, server: str, name: str, spread: bool = False) -> str:
    found = summary(samples, workload, server, name)
    if found is None:
        return ERROR if errors(samples, workload, server) else NOTHING
    text = FIGURES[name].text(found.median)
    return f"{text} ±{found.spread:.0%}" if spread else text


def _errors(samples: Sequence[Sample], workload: str, server: str) -> str:
    # On one line, because that is what a cell is.
    texts = dict.fromkeys(" ".join(error.split())[:120] for error in errors(samples, workload, server))
    return "; ".join(texts).replace("|", "\\|") or "0"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _rule(columns: int) -> str:
    return "|" + "---|" * columns
