"""Tables of scores, for a terminal and as Markdown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from tests.conformance.catalogue import Entry
from tests.conformance.suite import Score, entries

BEGIN = "<!-- scores -->"
END = "<!-- end of scores -->"


def sections() -> dict[str, list[Entry]]:
    """Every case by its section, in the order in which the sections begin."""
    found: dict[str, list[Entry]] = {}
    for entry in entries():
        found.setdefault(entry.section, []).append(entry)
    return found


def tally(score: Score, cases: Sequence[Entry]) -> tuple[int, int, int]:
    """How many of the cases were passed, missed, and not offered."""
    not_offered = sum(case.id in score.not_offered for case in cases)
    missed = sum(case.id in score.missed for case in cases)
    return len(cases) - missed - not_offered, missed, not_offered


def text(score: Score, only: Sequence[str] = ()) -> str:
    """The table of one server, and each case that it missed."""
    lines = [
        f"{score.name}: {'; '.join(score.settings)}",
        "",
        f"{'section':<20}{'passed':>8}{'missed':>8}{'not offered':>13}",
    ]
    for kind in ("rules", "promises"):
        lines.append(f"-- {kind}")
        total = [0, 0, 0]
        for section, cases in sections().items():
            chosen = [case for case in cases if case.promise == (kind == "promises") and (not only or case.id in only)]
            if chosen:
                counted = tally(score, chosen)
                total = [whole + part for whole, part in zip(total, counted, strict=True)]
                lines.append(f"{section:<20}{counted[0]:>8}{counted[1]:>8}{counted[2]:>13}")
        lines.append(f"{'all':<20}{total[0]:>8}{total[1]:>8}{total[2]:>13}")
    by_id = {entry.id: entry for entry in entries()}
    for case_id, settings in score.missed.items():
        entry = by_id[case_id]
        lines += ["", f"{case_id} ({entry.rule}{', promise' if entry.promise else ''}): {entry.sentence}"]
        lines += [f"  {setting}: {miss.kind}: {printable(miss.text)}" for setting, miss in settings.items()]
    if score.not_offered:
        lines += ["", "not offered: " + ", ".join(f"{each} ({why})" for each, why in score.not_offered.items())]
    lines += [f"did not start with {setting}: {said}" for setting, said in score.failures.items()]
    if score.deaths:
        lines.append(f"the server ended {score.deaths} times")
    return "\n".join(lines)


def printable(text: str) -> str:
    """The text with what would harm a terminal escaped."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def markdown(scores: Sequence[Score]) -> str:
    """Sections by servers; below it what each server misses, by class."""
    lines = []
    for promise, heading in ((False, "Rules of the standards"), (True, "Promises beyond them")):
        lines += [
            f"### {heading}",
            "",
            f"| section | cases | {' | '.join(score.name for score in scores)} |",
            f"|---|---|{'---|' * len(scores)}",
        ]
        chosen = {section: [case for case in cases if case.promise == promise] for section, cases in sections().items()}
        chosen["**all**"] = [case for cases in chosen.values() for case in cases]
        for section, cases in chosen.items():
            if cases:
                lines.append(f"| {section} | {len(cases)} | {' | '.join(cell(score, cases) for score in scores)} |")
        lines.append("")
    lines += [
        "### Kinds of misses",
        "",
        f"| kind | {' | '.join(score.name for score in scores)} |",
        f"|---|{'---|' * len(scores)}",
    ]
    rules = {entry.id for entry in entries() if not entry.promise}
    counted = [
        Counter(next(iter(settings.values())).kind for case_id, settings in score.missed.items() if case_id in rules)
        for score in scores
    ]
    for kind in dict.fromkeys(kind for counter in counted for kind in counter):
        lines.append(f"| {kind} | {' | '.join(str(counter[kind]) for counter in counted)} |")
    lines += ["", "### Every case that was missed", ""]
    for score in scores:
        names = [f"`{case_id}`" for case_id in score.missed if case_id in rules]
        lines += [f"- **{score.name}** ({len(names)}): {', '.join(names) or 'none'}"]
        if score.failures:
            lines.append(f"  Did not start: {', '.join(score.failures)}.")
        if score.deaths:
            lines.append(f"  Ended by itself {score.deaths} times.")
    return "\n".join(lines) + "\n"


def written_into(page: str, tables: str) -> str:
    """The page with these tables between its two marks.

    Raises:
        ValueError: it has no such marks.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"no {BEGIN} … {END} in the page")
    return f"{before}{begin}\n\n{tables}\n{end}{after}"


def cell(score: Score, cases: Sequence[Entry]) -> str:
    """What a server did in a section: passed of those that it could."""
    passed, missed, not_offered = tally(score, cases)
    return f"{passed}/{passed + missed}" + (f" ({not_offered} n/o)" if not_offered else "")
