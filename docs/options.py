"""Writes options.md beside this file from the table of options: `make docs`. A test holds the page against it."""

from __future__ import annotations

from pathlib import Path

from wsgi.settings import EVERYWHERE, OPTIONS, Option

PAGE = Path(__file__).with_name("options.md")

HEAD = """\
# Options

One table in `python/wsgi/settings.py` makes every option; this page is written from it by `make docs`.

| where | how | example |
|---|---|---|
| flag | `wsgi hello:app --max-body-size 64k` | `--reuse-port`, `--no-reuse-port` |
| keyword | `WSGIServer(port=8000, app=app, max_body_size="64k")` | `reuse_port=True` |
| variable | `WSGI_MAX_BODY_SIZE=64k` | `WSGI_REUSE_PORT=yes` |
| TOML file, named by `--config` | `max_body_size = "64k"` | `reuse_port = true` |

For the command `wsgi` a flag stands above a variable, a variable above the file, the file above the default. `PORT`,
which other programs share, is read where nothing else names a port. An empty variable counts as not set. A program
that makes its own `WSGIServer` gives keywords; it reads neither variables nor a file.

Options of other servers (`--workers`, `root_path`, `WSGI_CERTFILE`) are answered with the one that does the same here.
Variables that Kubernetes sets for a service called wsgi (`WSGI_PORT=tcp://…`, `WSGI_SERVICE_HOST`) are passed over.

Sizes are bytes, or `64k`, `1M`, `1GiB` in steps of 1024. Times are seconds, or `500ms`, `1.5`, `2m`, `1h`. An option
that may be repeated is separated by commas in a variable, and a list in the file and as a keyword.

[access-log.md](access-log.md) lists the directives of `access_log_format`.

`wsgi hello:app --check-config` imports the application and prints every value with its origin, without listening.
"""


def page() -> str:
    """The whole page."""
    parts = [HEAD]
    for group in dict.fromkeys(option.group for option in OPTIONS.values()):
        parts.append(f"## {group}\n")
        parts += [_entry(option) for option in OPTIONS.values() if option.group == group]
    return "\n".join(parts)


def _entry(option: Option[object]) -> str:
    kind = option.kind
    lines = [f"### `{option.name}`\n", f"{option.help[0].upper()}{option.help[1:]}.\n"]
    names = [f"flag `{option.flag}`"]
    if variables := [f"`{name}`" for name in (option.variable, option.fallback) if name]:
        names.append(f"variable {' or '.join(variables)}")
    if option.given != EVERYWHERE:
        names.append("no keyword" if option.in_file else "no keyword, no key in a file")
    lines.append(f"- {', '.join(names)}")
    if option.variable is not None:
        lines.append(f"- default: `{kind.show(option.default)}`")
        lines.append(f"- must be {kind.requirement}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
