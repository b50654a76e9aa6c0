"""MODULE:APP: what is found, under which name, and what is said where nothing is."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import sysconfig
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import wsgi
from tests.support import Command, RawClient, run
from wsgi.errors import LoadError
from wsgi.loading import load
from wsgi.settings import Settings
from wsgi_server import user_module

pytestmark = pytest.mark.usefixtures("clean_imports")

Tree = Callable[[dict[str, str]], Path]

APP = "def app(environ, start_response):\n    return [__name__.encode()]\n"


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """Writes files and gives their directory."""

    def write(files: dict[str, str]) -> Path:
        for name, content in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        return tmp_path

    return write


def loaded(target: str, directory: Path) -> Any:
    return load(target, directory)


def refusal(target: str, directory: Path) -> LoadError:
    with pytest.raises(LoadError) as caught:
        load(target, directory)
    assert "\n" not in str(caught.value)
    return caught.value


FACTORIES = """
def make(*args, **kwargs):
    return lambda environ, start_response: (args, kwargs)
class site:
    web = staticmethod(make)
"""


@pytest.mark.parametrize(
    ("target", "result"),
    [
        ("mod:make()", ((), {})),
        ("mod:make('prod', 2)", (("prod", 2), {})),
        ("mod:make(debug=True, hosts=['a:1', 'b'])", ((), {"debug": True, "hosts": ["a:1", "b"]})),
        ("mod:site.web(None)", ((None,), {})),
        ("mod: make( -1 ) ", ((-1,), {})),
    ],
)
def test_factory_is_called_with_its_literals(target: str, result: object, tree: Tree) -> None:
    app = loaded(target, tree({"mod.py": FACTORIES}))
    assert app({}, None) == result


@pytest.mark.parametrize(
    ("target", "files", "module"),
    [
        ("hello:app", {"hello.py": APP}, "hello"),
        ("hello", {"hello.py": APP}, "hello"),
        ("hello", {"hello.py": APP.replace("app", "application")}, "hello"),
        ("hello:a.b", {"hello.py": APP + "class a:\n    b = staticmethod(app)\n"}, "hello"),
        ("shop.web:app", {"shop/__init__.py": "", "shop/web.py": APP}, "shop.web"),
        ("space.web:app", {"space/web.py": APP}, "space.web"),
        ("mysite.wsgi:app", {"mysite/__init__.py": "", "mysite/wsgi.py": APP}, "mysite.wsgi"),
        ("hello.py:app", {"hello.py": APP}, "hello"),
        ("./hello.py", {"hello.py": APP}, "hello"),
        ("sub/hello.py:app", {"sub/hello.py": "import near\n" + APP, "sub/near.py": ""}, "hello"),
        ("sub/pkg/a.py:app", {"sub/pkg/__init__.py": "", "sub/pkg/a.py": "from . import b\n" + APP, "sub/pkg/b.py": ""},
            "pkg.a"),
        ("sub/pkg/__init__.py:app", {"sub/pkg/__init__.py": APP}, "pkg"),
        # Names that importlib takes, though no statement could say them.
        ("my-app:app", {"my-app.py": APP}, "my-app"),
        ("2024app", {"2024app.py": APP}, "2024app"),
        ("class:app", {"class.py": APP}, "class"),
        ("an app:app", {"an app.py": APP}, "an app"),
        ("my-site.2024.web-app:app", {"my-site/2024/web-app.py": APP}, "my-site.2024.web-app"),
        ("my-site/2024app.py:app", {"my-site/2024app.py": "import near\n" + APP, "my-site/near.py": ""}, "2024app"),
        ("my-site/2024app.py:app",
            {"my-site/__init__.py": "", "my-site/2024app.py": "from . import b\n" + APP, "my-site/b.py": ""},
            "my-site.2024app"),
        # The user's file, though a module of that name is imported already.
        ("wsgi:app", {"wsgi.py": APP}, "wsgi"),
        ("wsgi", {"wsgi.py": APP}, "wsgi"),
        ("wsgi.py:app", {"wsgi.py": APP}, "wsgi"),
        ("deploy/wsgi.py:app", {"deploy/wsgi.py": APP}, "wsgi"),
        ("wsgi:app", {"wsgi/__init__.py": "from .main import app", "wsgi/main.py": APP}, "wsgi.main"),
        ("wsgi:app", {"wsgi/__init__.py": "from wsgi.main import app", "wsgi/main.py": APP}, "wsgi.main"),
        ("wsgi.main:app", {"wsgi/__init__.py": "", "wsgi/main.py": "from . import near\n" + APP, "wsgi/near.py": ""},
            "wsgi.main"),
        ("wsgi.main:app", {"wsgi/main.py": APP}, "wsgi.main"),
        ("logging:app", {"logging.py": APP}, "user_logging"),
        ("logging:app", {"logging.py": APP, "user_logging.py": ""}, "user_logging_"),
    ],
)  # fmt: skip
def test_target_is_imported_under_a_name_that_pickle_finds(
    target: str, files: dict[str, str], module: str, tree: Tree
) -> None:
    app = loaded(target, tree(files))
    assert app({}, None) == [module.encode()]
    assert app.__module__ == module
    if app.__qualname__ == app.__name__ and hasattr(sys.modules[module], app.__name__):
        assert pickle.loads(pickle.dumps(app)) is app


def test_app_dir_is_first_on_the_path_and_once(tree: Tree) -> None:
    directory = tree({"hello.py": APP})
    load("hello:app", directory)
    load("hello:app", directory)
    assert sys.path[0] == str(directory)
    assert sys.path.count(str(directory)) == 1


def test_app_dir_relative_is_made_absolute(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tree({"src/hello.py": APP}))
    assert loaded("hello:app", Path("src"))({}, None) == [b"hello"]
    assert Path(sys.path[0]).is_absolute()


def test_app_loaded_twice_is_the_same(tree: Tree) -> None:
    directory = tree({"wsgi.py": APP})
    assert load("wsgi:app", directory) is load("wsgi:app", directory)


def test_own_package_wins_inside_a_users_wsgi_py(tree: Tree) -> None:
    content = "import wsgi.settings\nfrom wsgi.errors import LoadError\nfrom wsgi import __version__\n"
    app = loaded("wsgi:app", tree({"wsgi.py": content + APP}))
    module = sys.modules[app.__module__]
    assert module.LoadError is LoadError
    assert module.__version__ == wsgi.__version__
    assert module.wsgi is module
    assert module.wsgi.settings.Settings is Settings


def test_own_package_is_reached_beside_a_users_wsgi_py(tree: Tree) -> None:
    directory = tree({"wsgi.py": APP})
    assert loaded("wsgi.settings:Settings", directory).__module__ == "wsgi.settings"


def test_other_modules_reach_the_served_module_as_wsgi(tree: Tree) -> None:
    files = {
        "wsgi.py": "registry = {}\nvalue = 0\nimport routes\n" + APP,
        "routes.py": "import wsgi\nfrom wsgi import registry, settings\n"
        "wsgi.value = 1\nregistry['a'] = wsgi.__file__\n",
    }
    directory = tree(files)
    app = loaded("wsgi:app", directory)
    module = sys.modules[app.__module__]
    assert sys.modules["routes"].wsgi is module
    assert app.__globals__["value"] == module.value == 1
    assert module.registry == {"a": str(directory / "wsgi.py")}
    assert sys.modules["routes"].settings is sys.modules["wsgi.settings"]
    with pytest.raises(AttributeError, match="'wsgi' has no attribute 'nonsense'"):
        _ = module.nonsense


NAMED = """
import sys
application = server = charsets = _core = logging = __version__ = "mine"

async def answer(scope, receive, send):
    import wsgi.application.charsets, wsgi.logging, late
    names = application, server, charsets, _core, logging, __version__, late.server
    assert scope["type"] != "http" or names == ("mine",) * 7, names
    assert late.app is app and late.WSGIApplication.__name__ == "WSGIApplication"
    assert wsgi.__version__ == "mine" and wsgi.settings.Settings is sys.modules["wsgi.settings"].Settings
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"right"})

def wsgi_app(environ, start_response):
    def send(status, headers, content):
        start_response(status, headers)
        return [content]
    import wsgi.application.charsets, late
    assert (application, server, charsets, late.server) == ("mine",) * 4
    return send("200 OK", [], b"right")
"""


@pytest.mark.parametrize("kind", ["answer", "wsgi_app"])
def test_names_of_a_users_wsgi_py_and_those_of_the_package_stay_apart(kind: str, tree: Tree) -> None:
    late = "from wsgi.application import WSGIApplication\nfrom wsgi.server import WSGIServer\nfrom wsgi import *\n"
    files = {"wsgi.py": f"{NAMED}\napp = {kind}\n", "late.py": late}
    with Command("wsgi:app", cwd=tree(files)) as command:
        with RawClient(command.address) as client:
            client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert client.receive().body == b"right"
        assert command.stop() == 0


def test_package_of_the_user_that_hides_a_part_of_the_servers_is_refused(tree: Tree) -> None:
    directory = tree({"wsgi/__init__.py": "", "wsgi/settings.py": "", "wsgi/main.py": APP})
    error = refusal("wsgi.main:app", directory)
    assert str(error) == (
        f"the package '{directory}/wsgi' has the name of the server's package, and both have a module 'settings': "
        "rename the directory"
    )
    assert sys.modules["wsgi"] is wsgi


POOLED = """
import concurrent.futures, logging, multiprocessing
from wsgi.application import WSGIApplication

log = logging.getLogger(__name__)
site = WSGIApplication()
site.value = 0

def double(number):
    import wsgi
    return number * 2, __name__, wsgi.__file__ == __file__, type(wsgi.site).__name__

def app(environ, start_response):
    start_response("200 OK", [])
    context = multiprocessing.get_context(environ["PATH_INFO"][1:])
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
        return [repr([log.name, *pool.submit(double, 21).result()]).encode()]
"""


@pytest.mark.parametrize("start", [[sys.executable, "-m", "wsgi_server"], [sysconfig.get_path("scripts") + "/wsgi"]])
def test_functions_of_a_users_wsgi_py_run_in_processes_that_it_starts(start: list[str], tree: Tree) -> None:
    with Command("wsgi:app", cwd=tree({"wsgi.py": POOLED}), start=start) as command:
        for method in ("spawn", "forkserver"):
            with RawClient(command.address) as client:
                client.send(f"GET /{method} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
                body = client.receive().body
            assert body == b"['wsgi', 42, 'wsgi', True, 'WSGIApplication']", method
        assert command.stop() == 0


@pytest.mark.parametrize(
    ("target", "files", "message"),
    [
        ("", {}, "'' does not name an application: write MODULE:APP, such as hello:app"),
        (":app", {}, "':app' does not name an application: write MODULE:APP, such as hello:app"),
        ("hello:", {}, "'hello:' does not name an application: write MODULE:APP, such as hello:app"),
        ("he llo:app", {}, "cannot find the module 'he llo' in '{dir}'"),
        ("he\0llo:app", {}, "'he\\x00llo' is not the name of a module: write MODULE:APP, such as hello:app"),
        ("my-ap:app", {"my-app.py": APP}, "cannot find the module 'my-ap' in '{dir}': did you mean 'my-app'?"),
        ("hello..x:app", {}, "'hello..x' is not the name of a module: write MODULE:APP, such as hello:app"),
        ("helo:app", {"hello.py": APP}, "cannot find the module 'helo' in '{dir}': did you mean 'hello'?"),
        ("Hello:app", {"hello.py": APP}, "cannot find the module 'Hello' in '{dir}': did you mean 'hello'?"),
        ("zzz:app", {"hello.py": APP}, "cannot find the module 'zzz' in '{dir}'"),
        ("shop.wbe:app", {"shop/__init__.py": "", "shop/web.py": APP},
            "cannot find the module 'shop.wbe' in the package 'shop': did you mean 'shop.web'?"),
        ("shp.web:app", {"shop/__init__.py": "", "shop/web.py": APP},
            "cannot find the module 'shp' in '{dir}': did you mean 'shop'?"),
        ("hello.app", {"hello.py": APP},
            "cannot find the module 'hello.app', because '{dir}/hello.py' is not a package: did you mean 'hello:app'?"),
        ("hello:ap", {"hello.py": APP}, "cannot import 'ap' from '{dir}/hello.py': did you mean 'app'?"),
        ("hello:app.nonsense", {"hello.py": APP}, "cannot import 'nonsense' from 'app' in '{dir}/hello.py'"),
        ("hello:app(", {"hello.py": APP}, "'app(' is neither a name nor a call with literals, "
            "such as create('prod', debug=True)"),
        ("hello:app(x)", {"hello.py": APP}, "'app(x)' is neither a name nor a call with literals, "
            "such as create('prod', debug=True)"),
        ("hello:app(**{})", {"hello.py": APP}, "'app(**{{}})' is neither a name nor a call with literals, "
            "such as create('prod', debug=True)"),
        ("hello:app['x']()", {"hello.py": APP}, "\"app['x']()\" is neither a name nor a call with literals, "
            "such as create('prod', debug=True)"),
        ("hello:app()", {"hello.py": APP},
            "'app()' in '{dir}/hello.py' cannot be called with these arguments: app() missing 2 required positional "
            "arguments: 'environ' and 'start_response'"),
        ("hello:app()", {"hello.py": "app = 1"}, "'app' in '{dir}/hello.py' cannot be called: it is of type int"),
        ("hello:app", {"hello.py": "app = 'text'"}, "'app' in '{dir}/hello.py' is not callable: it is of type str"),
        ("hello:make()", {"hello.py": "def make(): pass"},
            "'make()' in '{dir}/hello.py' is not callable: it is of type NoneType"),
        ("hello", {"hello.py": ""}, "'{dir}/hello.py' has neither 'app' nor 'application': write MODULE:NAME"),
        ("hello", {"hello.py": "def create_app(): pass"},
            "'{dir}/hello.py' has neither 'app' nor 'application': did you mean 'hello:create_app()'?"),
        ("sub/helo.py:app", {"sub/hello.py": APP}, "there is no file '{dir}/sub/helo.py': did you mean 'hello.py'?"),
        ("nowhere/hello.py:app", {}, "there is no file '{dir}/nowhere/hello.py'"),
        ("my.app.py:app", {"my.app.py": APP},
            "'{dir}/my.app.py' cannot be imported: the name of a module has no dots, but 'my.app' has"),
        ("wsgi:ap", {"wsgi.py": APP}, "cannot import 'ap' from '{dir}/wsgi.py': did you mean 'app'?"),
        ("wsgi.main:app", {"wsgi.py": APP}, "cannot find the module 'wsgi.main' in the package 'wsgi'"),
    ],
)  # fmt: skip
def test_target_that_is_not_there_is_refused_with_the_nearest(
    target: str, files: dict[str, str], message: str, tree: Tree
) -> None:
    directory = tree(files)
    error = refusal(target, directory)
    assert str(error) == message.format(dir=directory)
    assert error.__cause__ is None


@pytest.mark.parametrize(
    ("target", "files", "kind", "frames"),
    [
        ("hello:app", {"hello.py": "import nonsense_module\n"}, ModuleNotFoundError, ["hello.py"]),
        ("hello:app", {"hello.py": "import hello.sub\n"}, ModuleNotFoundError, ["hello.py"]),
        ("hello:app", {"hello.py": "import near\n", "near.py": "1 / 0\n"}, ZeroDivisionError, ["hello.py", "near.py"]),
        ("hello:app", {"hello.py": "from os import nonsense\n"}, ImportError, ["hello.py"]),
        ("hello:app", {"hello.py": "def app(:\n"}, SyntaxError, []),
        ("hello:app", {"hello.py": "raise SystemExit(0)\n"}, SystemExit, ["hello.py"]),
        ("hello:make()", {"hello.py": "def make():\n    raise TypeError('mine')\n"}, TypeError, ["hello.py"]),
        ("hello:lazy", {"hello.py": "def __getattr__(name):\n    raise AttributeError(name)\n"}, AttributeError,
            ["hello.py"]),
        ("pkg.a:app", {"pkg/__init__.py": "import pkg.b", "pkg/a.py": APP}, ModuleNotFoundError, ["__init__.py"]),
        ("wsgi:app", {"wsgi.py": "1 / 0\n"}, ZeroDivisionError, ["wsgi.py"]),
    ],
)  # fmt: skip
def test_error_of_the_application_is_kept_from_its_first_frame_on(
    target: str, files: dict[str, str], kind: type[BaseException], frames: list[str], tree: Tree
) -> None:
    error = refusal(target, tree(files))
    assert str(error).startswith(f"cannot load {target!r}: it raised {kind.__name__}")
    assert type(error.__cause__) is kind
    found = [Path(frame.filename).name for frame in traceback.extract_tb(error.__cause__.__traceback__)]
    assert [name for name in found if not name.startswith("<frozen")] == frames
    assert found[:1] == frames[:1]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"hello.py": "import os\nos.environ['NO_SUCH_KEY']\n"}, "KeyError: 'NO_SUCH_KEY' ({dir}/hello.py, line 2)"),
        ({"hello.py": "import near\n", "near.py": "\nassert 0\n"}, "AssertionError ({dir}/near.py, line 2)"),
        ({"hello.py": "raise ValueError('a\\nb  c' + 'd' * 200)\n"},
            "ValueError: a b c" + "d" * 152 + "... ({dir}/hello.py, line 1)"),
        ({"hello.py": "import json\njson.loads('{')\n"},
            "JSONDecodeError: Expecting property name enclosed in double quotes: line 1 column 2 (char 1) "
            "({dir}/hello.py, line 2)"),
        ({"hello.py": "def app(:\n"}, "SyntaxError: invalid syntax (hello.py, line 1)"),
        ({"hello.py": "class E(Exception):\n    def __str__(self): 1 / 0\nraise E\n"}, "E ({dir}/hello.py, line 3)"),
    ],
)  # fmt: skip
def test_error_of_the_application_is_named_with_message_and_place(
    files: dict[str, str], message: str, tree: Tree
) -> None:
    directory = tree(files)
    error = refusal("hello:app", directory)
    assert str(error) == f"cannot load 'hello:app': it raised {message.format(dir=directory)}"


def test_file_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    (tmp_path / "hello.py").write_bytes("app = 'é'\n".encode("latin-1"))
    error = refusal("hello:app", tmp_path)
    assert str(error) == f"cannot load 'hello:app': '{tmp_path}/hello.py' is not UTF-8 text: save it as UTF-8"


@pytest.mark.parametrize(
    ("files", "hiding"),
    [
        ({"hello.py": "from quopri import encode\n", "quopri.py": "", "random.py": ""}, "quopri.py"),
        ({"hello.py": "import quopri\nquopri.encode\n", "quopri.py": ""}, "quopri.py"),
        ({"hello.py": "import wave.chunk\n", "wave.py": ""}, "wave.py"),
        ({"hello.py": "import wave.chunk\n", "wave/__init__.py": ""}, "wave"),
        # The file has such a name, and the error is about something else.
        ({"hello.py": "import quopri\n", "quopri.py": "import no_such_module\n"}, None),
        ({"hello.py": "import quopri\n", "quopri.py": "''.no_such_attribute\n"}, None),
    ],
)
def test_file_that_hides_a_standard_module_is_named_if_the_error_is_about_it(
    files: dict[str, str], hiding: str | None, tree: Tree
) -> None:
    # In a process of its own: here the module may be imported already.
    directory = tree(files)
    done = run("hello:app", cwd=directory)
    assert done.returncode == 1
    name = hiding and hiding.removesuffix(".py")
    told = f"'{directory}/{hiding}' shadows the standard library's module {name!r}: rename it\n" if hiding else ""
    assert done.stderr.splitlines(keepends=True)[-1].partition("); ")[2] == told


def test_error_in_a_users_wsgi_py_leaves_no_half_module(tree: Tree) -> None:
    refusal("wsgi:app", tree({"wsgi.py": "1 / 0\n"}))
    assert sys.modules["wsgi"] is wsgi
    assert user_module.DIRECTORY not in sys.path


def test_interrupt_during_the_import_passes(tree: Tree) -> None:
    with pytest.raises(KeyboardInterrupt):
        load("hello:app", tree({"hello.py": "raise KeyboardInterrupt\n"}))


@pytest.mark.parametrize(
    "variables",
    [{}, {"PYTHONPATH": os.pathsep.join([".", os.environ.get("PYTHONPATH", "")])}, {"PYTHONSAFEPATH": "1"}],
    ids=["plain", "pythonpath", "safe"],
)
def test_command_serves_a_users_wsgi_py(variables: dict[str, str], tree: Tree) -> None:
    content = "import wsgi.settings\nassert wsgi.settings.Settings\n" + APP
    done = run("wsgi:app", "--check-config", cwd=tree({"wsgi.py": content}), env=variables)
    assert (done.stderr, done.returncode) == ("", 0)


def test_python_m_wsgi_beside_a_users_wsgi_py_runs_that_file(tree: Tree) -> None:
    # This is Python's rule; the documentation names the command instead.
    directory = tree({"wsgi.py": "print('the file of the user')\n" + APP})
    done = subprocess.run(
        [sys.executable, "-m", "wsgi", "wsgi:app"],
        cwd=directory,
        capture_output=True,
        text=True,
        check=True,
        timeout=20,
    )
    assert done.stdout == "the file of the user\n"
