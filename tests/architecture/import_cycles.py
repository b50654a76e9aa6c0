"""Finds the cycles of an import graph, in Rust and in Python."""

from __future__ import annotations

from collections.abc import Collection, Mapping

Graph = Mapping[str, Collection[str]]


def cycles(graph: Graph) -> list[list[str]]:
    """The groups of files that import each other, directly or through others of the group, each sorted.

    Parameters:
        graph: what each file imports.
    """
    reachable = {file: _reachable(graph, file) for file in graph}
    groups = {
        frozenset(other for other in reachable[file] if file in reachable[other])
        for file in graph
        if file in reachable[file]
    }
    return sorted(sorted(group) for group in groups)


def shortest_cycle(graph: Graph, file: str) -> str:
    """The shortest way from a file back to itself, as text: `a -> b -> a`. Empty if there is none.

    Parameters:
        graph: what each file imports.
        file: where the way begins.
    """
    ways = [[file]]
    for way in ways:
        for other in sorted(graph[way[-1]]):
            if other == file:
                return " -> ".join([*way, file])
            if all(other != known[-1] for known in ways):
                ways.append([*way, other])
    return ""


def _reachable(graph: Graph, start: str) -> set[str]:
    found: set[str] = set()
    pending = [start]
    while pending:
        new = set(graph[pending.pop()]) - found
        found |= new
        pending += new
    return found
