"""Builds the image of the Dockerfile without a registry, and tests the server that runs from it: `make test-container`.

The bases that the Dockerfile names come from a registry. Here debootstrap makes one of Debian's packages instead, of
the same suite and from the mirror that this machine's apt uses; buildah builds the same file on it and runs the
result, in a chroot on the network of the host, which needs root but neither a daemon nor a kernel's favours.

The base is kept below target/container, and whatever else is made is removed at the end.
"""

from __future__ import annotations

import configparser
import contextlib
import fcntl
import fnmatch
import http.client
import json
import os
import re
import shlex
import shutil
import signal
import socket
import ssl
import stat
import subprocess
import sys
import tempfile
import time
import urllib.request
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
# Everything of buildah's lies here, so that no image or container of anybody else's is seen or touched.
STORE = ROOT / "target" / "container"
LOG = STORE / "build.log"
IMAGE = "localhost/my-wsgi-server"
SITE_IMAGE = "localhost/my-site"
PORT = 8081
# What an image such as python:3.13-slim has beside the bare system, as far as the Dockerfile needs it.
PACKAGES = ["ca-certificates", "python3", "python3-venv"]
COMPILERS = ["cc", "c++", "gcc", "g++", "clang*", "*-gcc*", "*-g++*", "ld", "as", "rustc", "cargo", "maturin", "make"]
# Options of pip that say where packages come from. Others, such as a target, are about this machine alone.
PIP_SOURCES = {
    "cert", "client-cert", "default-timeout", "extra-index-url", "find-links", "index-url", "no-index", "proxy",
    "retries", "timeout", "trusted-host",
}  # fmt: skip
BUILDAH = [
    "buildah",
    f"--root={STORE / 'storage'}",
    f"--runroot={STORE / 'run'}",
    "--storage-driver=vfs",
]


class Failure(Exception):
    """What went wrong, in a line for the reader."""


def check(condition: object, problem: str) -> None:
    if not condition:
        raise Failure(problem)


def say(text: str) -> None:
    print(text, flush=True)


@contextlib.contextmanager
def step(name: str) -> Iterator[None]:
    began = time.monotonic()
    yield
    say(f"ok    {name} ({time.monotonic() - began:.1f} s)")


def until(holds: Callable[[], bool], seconds: float, problem: str) -> None:
    end = time.monotonic() + seconds
    while not holds():
        check(time.monotonic() < end, problem)
        time.sleep(0.05)


# Processes


def run(
    command: Sequence[str | Path], seconds: float = 120, log: bool = False, env: dict[str, str] | None = None
) -> str:
    """Runs a command that has to succeed and gives its output, or writes it to the log."""
    with contextlib.ExitStack() as stack:
        out = stack.enter_context(LOG.open("a")) if log else subprocess.PIPE
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT if log else subprocess.PIPE,
            text=True,
            env=env,
            start_new_session=True,
        )
        try:
            output, errors = process.communicate(timeout=seconds)
        except BaseException as error:
            # Its helpers go with it: the group is its own. TERM lets debootstrap take away what it has mounted.
            for number in (signal.SIGTERM, signal.SIGKILL):
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, number)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.communicate(timeout=10)
            if isinstance(error, subprocess.TimeoutExpired):
                raise Failure(f"not done after {seconds:.0f} s: {shlex.join(map(str, command))}") from None
            raise
    if process.returncode:
        if log:
            errors = "\n".join(LOG.read_text(errors="replace").splitlines()[-40:])
        raise Failure(f"exit code {process.returncode}: {shlex.join(map(str, command))}\n{errors.strip()}")
    return output or ""


def buildah(*arguments: str | Path, seconds: float = 120, log: bool = False) -> str:
    return run([*BUILDAH, *arguments], seconds=seconds, log=log).strip()


def descendants(parent: int) -> list[int]:
    """The processes below a process, each before its own children."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                # The name in parentheses may hold anything, so the fields are counted from its end.
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                children.setdefault(int(fields[1]), []).append(int(entry.name))
    found, front = [], [parent]
    while front:
        front = [child for process in front for child in children.get(process, [])]
        found += front
    return found


# The base


def image_id(name: str) -> str:
    """The number of an image, or nothing."""
    return buildah("images", "--quiet", "--filter", f"reference={name}")


def suite() -> str:
    """The suite of Debian that the Dockerfile's own bases are made of."""
    text = (ROOT / "Dockerfile").read_text()
    names: set[str] = set(re.findall(r"^ARG \w+_IMAGE=python:[\d.]+-slim-(\w+)$", text, re.MULTILINE))
    check(len(names) == 1, f"the Dockerfile's bases name {len(names)} suites of Debian instead of one")
    return names.pop()


def apt_option(name: str) -> str:
    return run(["apt-config", "dump", "--format", "%v", name]).strip()


def mirror(name: str) -> str:
    """Where the suite is to be had: the first of apt's sources that has it, if DEBIAN_MIRROR names no other."""
    if given := os.environ.get("DEBIAN_MIRROR"):
        return given
    lines = run(["apt-get", "indextargets", "--format", "$(REPO_URI) $(COMPONENT)", "Created-By: Packages"])
    for line in dict.fromkeys(lines.splitlines()):
        uri, _, component = line.partition(" ")
        if component == "main":
            with (
                contextlib.suppress(OSError, ValueError),
                urllib.request.urlopen(f"{uri}dists/{name}/InRelease") as page,
            ):
                if b"\nOrigin: Debian\n" in page.read():
                    return uri.rstrip("/")
    raise Failure(f"none of apt's sources has Debian {name}: name a mirror by DEBIAN_MIRROR=...")


def base(directory: Path) -> str:
    """The name of the base, which is made if it is not there."""
    name = suite()
    tag = f"localhost/base:{name}-{zlib.crc32(' '.join(PACKAGES).encode()):08x}"
    if image_id(tag):
        say(f"      {tag} stands ('make clean' removes it)")
        return tag
    environment = dict(os.environ)
    if proxy := apt_option("Acquire::http::Proxy"):
        environment.setdefault("http_proxy", proxy)
    with step(f"debootstrap: {name}"):
        container = buildah("from", "scratch")
        tree = Path(buildah("mount", container))
        # debootstrap knows no directories with spaces, as this tree may lie in one.
        link = directory / "tree"
        link.symlink_to(tree)
        source = mirror(name)
        run(
            ["debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}", name, link, source],
            seconds=1200,
            log=True,
            env=environment,
        )
        for kept in ("var/cache/apt", "var/lib/apt/lists"):
            shutil.rmtree(tree / kept)
        buildah("umount", container)
        buildah("commit", "--quiet", "--rm", container, tag, seconds=300)
    return tag


# What this machine's own tools are configured by, for their likes in the build


def pip_options() -> dict[str, str]:
    """Where pip takes packages from, by its files and, above them, its variables."""
    home = Path.home()
    files = [Path("/etc/pip.conf"), home / ".pip/pip.conf", home / ".config/pip/pip.conf"]
    if named := os.environ.get("PIP_CONFIG_FILE"):
        files.append(Path(named))
    parser = configparser.RawConfigParser()
    parser.read(files)
    found = {key: value for part in ("global", "install") if part in parser for key, value in parser[part].items()}
    for variable, value in os.environ.items():
        if variable.startswith("PIP_") and value:
            found[variable.removeprefix("PIP_").lower().replace("_", "-")] = value
    return {key: value for key, value in found.items() if key in PIP_SOURCES}


def volumes(directory: Path) -> list[str]:
    """What is mounted during the build, and so leaves nothing in the image: certificates, proxies, package sources."""
    mounted: dict[str, Path] = {}
    bundle = os.environ.get("SSL_CERT_FILE") or ssl.get_default_verify_paths().cafile
    if bundle and Path(bundle).is_file():
        mounted["/etc/ssl/certs/ca-certificates.crt"] = Path(bundle)
    options = pip_options()
    for value in " ".join(options.values()).split():
        if value.startswith("/") and Path(value).exists():
            mounted.setdefault(value, Path(value))
    if options:
        written = configparser.RawConfigParser()
        written["global"] = options
        with (directory / "pip.conf").open("w") as file:
            written.write(file)
        mounted["/etc/pip.conf"] = directory / "pip.conf"
    cargo = Path(os.environ.get("CARGO_HOME") or Path.home() / ".cargo")
    for name in ("config", "config.toml"):
        if (cargo / name).is_file():
            mounted["/root/.cargo/config.toml"] = cargo / name
    lines = run(["apt-config", "dump", "--format", '%F "%v";%n', "Acquire"]).splitlines()
    wanted = tuple(f"Acquire::{part}" for part in ("http", "https", "Check-", "Retries"))
    (directory / "apt.conf").write_text("".join(f"{line}\n" for line in lines if line.startswith(wanted)))
    mounted["/etc/apt/apt.conf.d/99host"] = directory / "apt.conf"
    return [f"--volume={path}:{target}:ro" for target, path in mounted.items()]


def build(tag: str, context: Path, mounted: list[str], **arguments: str) -> None:
    # Without the cache of layers: this driver copies the whole tree for each of them, which takes longer than it saves.
    # Health checks are kept by Docker's format alone.
    buildah(
        "build", "--isolation=chroot", "--format=docker", "--pull=never", "--layers=false", "--force-rm",
        *(f"--build-arg={name}={value}" for name, value in arguments.items()),
        *mounted, f"--tag={tag}", context,
        seconds=1800, log=True,
    )  # fmt: skip


# The server


def free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("0.0.0.0", port))
        except OSError:
            return False
    return True


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def get(port: int, path: str = "/") -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    with contextlib.closing(connection):
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode()


class Container:
    """A container of an image: its files, and its command while `serving`."""

    def __init__(self, image: str) -> None:
        self.config: dict[str, Any] = json.loads(buildah("inspect", "--type=image", image))["Docker"]["config"]
        self.name = buildah("from", "--pull-never", image)
        self.tree = Path(buildah("mount", self.name))
        self.port = PORT
        self.environment: list[str] = []
        if not free(PORT):
            self.port = free_port()
            self.environment = [f"--env=WSGI_PORT={self.port}"]
            say(f"      port {PORT} is taken: {self.port} it is, by WSGI_PORT")

    def command(self, *arguments: str) -> list[str]:
        return [*BUILDAH, "run", "--isolation=chroot", *self.environment, self.name, "--", *arguments]

    def health(self) -> tuple[int, str]:
        """The exit code of the image's own check, and what it says."""
        done = subprocess.run(
            self.command(*self.config["Healthcheck"]["Test"][1:]),
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
        )
        return done.returncode, done.stdout.partition("\n")[0]

    @contextlib.contextmanager
    def serving(self) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
        """Runs the image's command as the image's user, and gives the process in front and the number of the server."""
        with tempfile.TemporaryFile() as output:
            front = subprocess.Popen(
                self.command(*self.config["Entrypoint"], *self.config["Cmd"]),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
            try:

                def answers() -> bool:
                    check(front.poll() is None, f"the server ended with code {front.returncode} at its start")
                    with contextlib.suppress(OSError, http.client.HTTPException):
                        return bool(get(self.port))
                    return False

                until(answers, 30, "the server does not answer")
                # buildah keeps processes of its own in front; the last in the row is the server.
                server = descendants(front.pid)[-1]
                yield front, server
            except BaseException:
                output.seek(0)
                say(output.read().decode(errors="replace").rstrip())
                raise
            finally:
                if front.poll() is None:
                    for process in reversed(descendants(front.pid)):
                        with contextlib.suppress(ProcessLookupError):
                            os.kill(process, signal.SIGKILL)
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        front.wait(10)
                    front.kill()
                    front.wait()

    def __enter__(self) -> Container:
        return self

    def __exit__(self, *_: object) -> None:
        buildah("umount", self.name)
        buildah("rm", self.name)


def stop(front: subprocess.Popen[bytes], server: int, seconds: float) -> None:
    began = time.monotonic()
    os.kill(server, signal.SIGTERM)
    until(lambda: front.poll() is not None, seconds, f"the server has not ended {seconds:.0f} s after SIGTERM")
    check(front.returncode == 0, f"the server ended with code {front.returncode} after SIGTERM")
    say(f"      ended with code 0, {time.monotonic() - began:.1f} s after SIGTERM")


# What is tested


def test_config(container: Container) -> None:
    config = container.config
    check(re.fullmatch(r"[1-9]\d*:[1-9]\d*", config["User"]), f"the user is {config['User']!r}, not two numbers")
    check(list(config["ExposedPorts"]) == [f"{PORT}/tcp"], f"the exposed ports are {config['ExposedPorts']}")
    # A shell form would appear as ["/bin/sh", "-c", ...].
    check(config["Entrypoint"] == ["wsgi"], f"the entry point is {config['Entrypoint']}")
    check(config["Cmd"] == ["app:app"], f"the command is {config['Cmd']}")
    check(config["StopSignal"] == "SIGTERM", f"the stop signal is {config['StopSignal']!r}")
    check(config["Healthcheck"]["Test"][0] == "CMD", "the health check is missing, or not in exec form")
    check("PYTHONUNBUFFERED=1" in config["Env"], "PYTHONUNBUFFERED is missing")


def test_files(container: Container) -> None:
    tree = container.tree
    for directory in ("bin", "sbin", "usr/bin", "usr/sbin", "usr/local/bin", "opt/wsgi/bin", "root/.cargo/bin"):
        if (tree / directory).is_dir():
            names = os.listdir(tree / directory)
            found = [name for pattern in COMPILERS for name in fnmatch.filter(names, pattern)]
            check(not found, f"the image has compilers in /{directory}: {found}")
    for directory in ("build", "wheels", "root/.cache", "root/.cargo", "var/lib/apt/lists"):
        left = tree / directory
        check(not left.exists() or not os.listdir(left), f"the build has left /{directory} behind")
    cores = [path.name for path in (tree / "opt/wsgi").rglob("_core*.so")]
    check(len(cores) == 1, f"the package has {cores} instead of the one that the builder has compiled")
    for top in ("app", "opt/wsgi"):
        for path in [tree / top, *(tree / top).rglob("*")]:
            found_stat = path.lstat()
            writable = not stat.S_ISLNK(found_stat.st_mode) and found_stat.st_mode & stat.S_IWOTH
            check(found_stat.st_uid == 0 and not writable, f"the server could write to {path}")


def test_tutorial(container: Container) -> None:
    source = (ROOT / "examples" / "app.py").read_text()
    with container.serving() as (front, server):
        status, text = get(container.port)
        check(status == 200, f"GET / is answered by {status}")
        check(text.strip() and text.strip() in source, f"GET / is answered by {text!r}, which is not the tutorial's")
        say(f"      GET / answers {status} {text.strip()!r}")

        facts = dict(line.split(":\t", 1) for line in Path(f"/proc/{server}/status").read_text().splitlines())
        user, group = container.config["User"].split(":")
        check(facts["Uid"].split() == [user] * 4, f"the server runs as {facts['Uid']}")
        check(facts["Gid"].split() == [group] * 4, f"the server's group is {facts['Gid']}")
        check(int(facts["CapEff"], 16) == 0, f"the server has privileges: {facts['CapEff']}")
        say(f"      runs as {user}:{group} without privileges")

        began = time.monotonic()
        code, text = container.health()
        check(code == 0, f"the health check of a running server ends with code {code}: {text}")
        say(f"      {text} ({time.monotonic() - began:.1f} s, most of it buildah's)")
        stop(front, server, 10)
    code, text = container.health()
    check((code, text[:9]) == (1, "unhealthy"), f"the health check of a stopped server ends with code {code}: {text}")
    say(f"      {text}")


def test_site(container: Container) -> None:
    with container.serving() as (front, server):
        check(get(container.port) == (200, "The shop is open.\n"), "the site does not answer")
        connection = http.client.HTTPConnection("127.0.0.1", container.port, timeout=10)
        with contextlib.closing(connection):
            connection.request("GET", "/slow")
            response = connection.getresponse()
            check(response.readline() == b"first\n", "the slow answer does not begin")
            os.kill(server, signal.SIGTERM)
            rest = response.read()
            check(rest == b"last\n", f"SIGTERM cut the answer off: {rest!r} instead of b'last\\n'")
        until(lambda: front.poll() is not None, 10, "the server has not ended 10 s after SIGTERM")
        check(front.returncode == 0, f"the server ended with code {front.returncode} after SIGTERM")
        say("      SIGTERM during an answer: the answer is complete, and the server ended with code 0")


def tidy() -> None:
    """Removes every container and every image but the base, of this run or of one that was killed."""
    buildah("rm", "--all")
    for name in (SITE_IMAGE, IMAGE):
        if image_id(name):
            buildah("rmi", name)
    buildah("rmi", "--prune")


def main() -> None:
    began = time.monotonic()
    STORE.mkdir(parents=True, exist_ok=True)
    with (STORE / "lock").open("w") as lock, tempfile.TemporaryDirectory() as temporary:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise Failure(f"another run is under way in {STORE}") from None
        LOG.write_text("")
        tidy()
        try:
            image = base(Path(temporary))
            mounted = volumes(Path(temporary))
            with step("build: Dockerfile"):
                build(IMAGE, ROOT, mounted, BUILDER_IMAGE=image, RUNTIME_IMAGE=image)
            with step("build: tests/container/site, on top of it"):
                build(SITE_IMAGE, HERE / "site", mounted, SERVER_IMAGE=IMAGE)
            with Container(IMAGE) as container:
                with step("the image's configuration"):
                    test_config(container)
                with step("the image's files: no compiler, no leavings, nothing that the server may write to"):
                    test_files(container)
                with step("the tutorial program"):
                    test_tutorial(container)
            with Container(SITE_IMAGE) as container, step("an application in an image of its own"):
                test_site(container)
            for name in (image, IMAGE):
                size = buildah("images", "--format", "{{.Size}}", "--filter", f"reference={name}")
                say(f"      {name}: {size}")
        finally:
            tidy()
        check(not descendants(os.getpid()), "processes are left behind")
        check(str(STORE) not in Path("/proc/mounts").read_text(), f"mounts are left behind below {STORE}")
    say(f"ok    all of it ({time.monotonic() - began:.0f} s)")


if __name__ == "__main__":
    # A run that is told to end takes away what it has made, as after Ctrl-C.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("test-container: ended by SIGTERM"))
    try:
        main()
    except Failure as failure:
        sys.exit(f"test-container: {failure}")
