"""`python -m examples.notes` serves the notes; `python -m examples.notes add-user NAME` adds a user."""

from __future__ import annotations

import argparse
import getpass
import sys

from . import create_app, data_directory
from .database import Database, NameTaken
from .passwords import hash_password
from .validation import account_problems, clean_line


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m examples.notes", description="Notes, an example.")
    commands = parser.add_subparsers(dest="command")
    serve = commands.add_parser("serve", help="serve the notes (default)")
    serve.add_argument("--host", default="127.0.0.1")
    serve.add_argument("--port", type=int, default=8000)
    add = commands.add_parser("add-user", help="add a user; the password is asked for, or read from standard input")
    add.add_argument("name")
    arguments = parser.parse_args(sys.argv[1:] or ["serve"])
    if arguments.command == "add-user":
        return add_user(clean_line(arguments.name))
    create_app().run(arguments.host, arguments.port)
    return 0


def add_user(name: str) -> int:
    if sys.stdin.isatty():
        password = getpass.getpass(f"Password for {name}: ")
        repeated = getpass.getpass("Once more: ")
    else:
        password = repeated = sys.stdin.readline().rstrip("\n")
    problems = list(account_problems(name, password, repeated).values())
    if not problems:
        database = Database(data_directory())
        try:
            database.add_user(name, hash_password(password))
        except NameTaken:
            problems.append("Somebody has this name already.")
        finally:
            database.close()
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
