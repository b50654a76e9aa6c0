"""Generates options.md from the options of `wsgi.settings`: `make docs`. A test compares them."""

from __future__ import annotations

from pathlib import Path

from wsgi.settings import EVERYWHERE, OPTIONS, Option

PAGE = Path(__file__).with_name("options.md")

HEAD = """\
# Options

`make docs` generates this page from the table of options in `python/wsgi/settings.py`.

| source | notation | switch |
|---|---|---|
| flag | `wsgi hello:app --max-body-size 64k` | `--reuse-port`, `--no-reuse-port` |
| keyword | `WSGIServer(port=8000, app=app, max_body_size="64k")` | `reuse_port=True` |
| variable | `WSGI_MAX_BODY_SIZE=64k` | `WSGI_REUSE_PORT=yes` |
| TOML file, named by `--config` | `max_body_size = "64k"` | `reuse_port = true` |

For the command `wsgi`, a flag overrides a variable, a variable overrides the file, and the file overrides the default.
`PORT`, which is shared with other programs, is used if no other source sets the port. An empty variable counts as not
set. A program that makes its own `WSGIServer` passes keywords; it reads neither variables nor a file.

The file may also name functions of the site in a table `[hooks]`, and a file whose name ends with `.py` is a
configuration file of gunicorn: see [migration.md](migration.md).

For an option of another server (`--worker-class`, `forwarded_allow_ips`, `WSGI_CERTFILE`) the error names what does the
same here. Variables that Kubernetes sets for a service called wsgi (`WSGI_PORT=tcp://…`, `WSGI_SERVICE_HOST`) are
ignored.

Sizes are in bytes, or `64k`, `1M`, `1GiB` in steps of 1024. Times are in seconds, or `500ms`, `1.5`, `2m`, `1h`. The
values of a repeatable option are separated by commas in a variable, and are a list in the file and as a keyword.

[access-log.md](access-log.md) lists the directives of `access_log_format`.

`wsgi hello:app --check-config` imports the application and prints all values with their origins, without listening.
"""


def page() -> str:
    """The text of the page."""
    parts = [HEAD]
    for group in dict.fromkeys(option.group for option in OPTIONS.values()):
        parts.append(f"## {group}\n")
        parts += [_entry(option) for option in OPTIONS.values() if option.group == group]
    return "\n".join(parts)


def _entry(option: Option[object]) -> str:
    option_type = option.type
    lines = [f"### `{option.name}`\n", f"{option.help[0].upper()}{option.help[1:]}.\n"]
    names = [f"flag `{option.flag}`" + (f" or `{option.short}`" if option.short else "")]
    if variables := [f"`{name}`" for name in (option.variable, option.fallback) if name]:
        names.append(f"variable {' or '.join(variables)}")
    if option.sources != EVERYWHERE:
        names.append("no keyword" if option.in_file else "no keyword, no key in a file")
    lines.append(f"- {', '.join(names)}")
    if option.variable is not None:
        lines.append(f"- default: `{option_type.show(option.default)}`")
        lines.append(f"- must be {option_type.requirement}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
