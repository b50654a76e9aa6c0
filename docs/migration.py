"""Writes the tables of migration.md: `make docs`. Tests compare them, and feed each option to the command.

docs/other_servers/ lists the options of other servers, as their own help does, with the version that it was taken from.
"""

from __future__ import annotations

from pathlib import Path

from wsgi.hooks import MOMENTS
from wsgi.settings import OPTIONS, hint

PAGE = Path(__file__).with_name("migration.md")
LISTS = Path(__file__).with_name("other_servers")
SAME = "the same option here"


def options(server: str) -> tuple[str, list[str]]:
    """The version of a server, and its options.

    Parameters:
        server: the name of a file in docs/other_servers without its ending.
    """
    head, *names = (LISTS / f"{server}.txt").read_text("utf-8").split("\n")
    return head.removeprefix("# "), [name for name in names if name]


def answer(option: str) -> str:
    """What the command says to an option of another server."""
    ours = {"--help", "-h", "--version"}
    for known in OPTIONS.values():
        ours |= {known.flag, f"--no-{known.flag[2:]}" if known.type.metavar == "BOOL" else known.flag}
        ours |= {known.short} if known.short else set()
    if option in ours:
        return SAME
    return hint(option, [known.replace("_", "-") for known in OPTIONS], prefix="--").removeprefix(": ")


def option_table(server: str) -> str:
    """The options of a server, those with the same answer in one row."""
    rows: dict[str, list[str]] = {SAME: []}
    for option in options(server)[1]:
        rows.setdefault(answer(option), []).append(f"`{option}`")
    lines = [f"| {options(server)[0]} | here |", "|---|---|"]
    lines += [f"| {' '.join(names)} | {text} |" for text, names in rows.items() if names]
    return "\n".join(lines)


def hook_table() -> str:
    """The moments of hooks with their processes and gunicorn's names."""
    lines = ["| hook | gunicorn | arguments | process | an exception |", "|---|---|---|---|---|"]
    for name, moment in MOMENTS.items():
        where = "worker" if moment.is_of_worker else "supervisor"
        effect = f"prevents {moment.prevents}" if moment.prevents else "is logged"
        arguments = ", ".join(moment.arguments)
        lines.append(f"| `{name}` | `{moment.of_gunicorn}` | `{arguments}` | {where} | {effect} |")
    return "\n".join(lines)


def page(text: str) -> str:
    """The text of the page with new tables between its marks."""
    tables = {path.stem: option_table(path.stem) for path in sorted(LISTS.glob("*.txt"))}
    for name, table in {**tables, "hooks": hook_table()}.items():
        before, begin, rest = text.partition(f"<!-- {name} -->\n")
        _, end, after = rest.partition(f"\n<!-- /{name} -->")
        if not begin or not end:
            raise ValueError(f"{PAGE.name} has no marks for the table {name!r}")
        text = f"{before}{begin}\n{table}\n{end}{after}"
    return text


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text("utf-8")), "utf-8")
