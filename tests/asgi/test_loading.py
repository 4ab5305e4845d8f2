from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from verser2_guest_python.asgi.loading import AppLoadError, load_app
from verser2_guest_python.errors import VerserConfigurationError

APP = """
async def app(scope, receive, send):
    await send({"type": "hello", "from": __name__})
"""

Write = Callable[[str, str], Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Write modules below an app directory, which is forgotten again after the test."""
    monkeypatch.setattr(sys, "path", sys.path.copy())
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.chdir(tmp_path)
    before = set(sys.modules)

    def write_module(name: str, text: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    yield write_module
    for name in set(sys.modules) - before:
        path = getattr(sys.modules[name], "__file__", None)
        if path is None or Path(path).is_relative_to(tmp_path):
            del sys.modules[name]


def refused(reference: str, **options: object) -> AppLoadError:
    with pytest.raises(AppLoadError) as caught:
        load_app(reference, **options)  # type: ignore[arg-type]
    message = str(caught.value)
    assert "\n" not in message
    assert message[-1] in ".?"
    assert caught.value.code == "configuration-error"
    return caught.value


async def first_message(reference: str, **options: object) -> dict[str, object]:
    """Load an app, call it, and return what it sends first."""
    sent: list[dict[str, object]] = []

    async def receive() -> dict[str, object]:
        return {"type": "nothing"}

    async def send(message: dict[str, object]) -> None:
        sent.append(message)

    loaded = load_app(reference, **options)  # type: ignore[arg-type]
    await loaded.app({"type": "test"}, receive, send)  # type: ignore[arg-type]
    return sent[0]


# --- what is found -------------------------------------------------------------------------


async def test_an_app_is_found_from_the_current_directory(write: Write) -> None:
    write("here_main.py", APP)
    assert (await first_message("here_main:app"))["from"] == "here_main"


async def test_an_app_in_a_package_is_found(write: Write) -> None:
    write("shop/__init__.py", "")
    write("shop/web.py", APP)
    assert (await first_message("shop.web:app"))["from"] == "shop.web"


async def test_the_attribute_may_have_dots(write: Write) -> None:
    write("dotted.py", f"{APP}\nclass site:\n    inner = type('X', (), {{'app': staticmethod(app)}})\n")
    assert (await first_message("dotted:site.inner.app"))["from"] == "dotted"


async def test_app_dir_comes_first_on_the_path(write: Write, tmp_path: Path) -> None:
    write("twice.py", APP.replace("__name__", "'here'"))
    write("other/twice.py", APP.replace("__name__", "'other'"))
    assert (await first_message("twice:app", app_dir="other"))["from"] == "other"
    assert sys.path[0] == str(tmp_path / "other")


async def test_loading_twice_puts_the_directory_on_the_path_once(write: Write, tmp_path: Path) -> None:
    write("again.py", APP)
    await first_message("again:app", app_dir=tmp_path)
    await first_message("again:app", app_dir=tmp_path)
    assert sys.path.count(str(tmp_path)) == 1


async def test_without_an_app_dir_the_path_is_left_alone(write: Write, tmp_path: Path) -> None:
    write("elsewhere.py", APP)
    before = sys.path.copy()
    error = refused("elsewhere_missing:app", app_dir=None)
    assert "sys.path" in error.message
    assert sys.path == before


async def test_the_app_can_import_its_neighbours_when_it_runs(write: Write) -> None:
    write("late.py", "VALUE = 7\n")
    write(
        "importer.py",
        "async def app(scope, receive, send):\n    import late\n    await send({'value': late.VALUE})\n",
    )
    assert (await first_message("importer:app"))["value"] == 7


async def test_a_factory_is_called_for_its_app(write: Write) -> None:
    write("made.py", f"{APP}\ndef create_app(config=None):\n    return app\n")
    assert (await first_message("made:create_app", factory=True))["from"] == "made"


async def test_a_class_may_be_the_factory(write: Write) -> None:
    write(
        "classy.py",
        "class App:\n    async def __call__(self, scope, receive, send):\n"
        "        await send({'from': 'App'})\n",
    )
    assert (await first_message("classy:App", factory=True))["from"] == "App"


def test_the_interface_is_told(write: Write) -> None:
    write("kinds.py", f"{APP}\ndef old(scope):\n    pass\n")
    assert load_app("kinds:app").interface == "asgi3"
    assert load_app("kinds:old").interface == "asgi2"


# --- the form ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reference", "hint"),
    [
        ("main", "main:app"),
        ("main.py", "main:app"),
        ("main.py:site", "main:site"),
        ("./shop/main.py:app", "shop.main:app"),
        ("shop\\main.py:app", "shop.main:app"),
        ("main:", "main:app"),
        ("main:app:more", "main:app"),
        (":app", "main:app"),
        ("", "main:app"),
        (".main:app", "main:app"),
        ("main:app()", "main:app"),
        ("main:a b", "main:app"),
        ("main..x:app", "main:app"),
    ],
)
def test_a_wrong_form_is_answered_with_the_right_one(reference: str, hint: str) -> None:
    error = refused(reference)
    assert repr(reference) in error.message
    assert f"write module:attribute, for example {hint}" in error.message
    assert error.details == ""


# --- the module is missing -----------------------------------------------------------------


def test_a_missing_module_is_named_with_the_place_searched(write: Write, tmp_path: Path) -> None:
    error = refused("nowhere_to_be_found:app")
    assert "no module 'nowhere_to_be_found'" in error.message
    assert str(tmp_path) in error.message
    assert "--app-dir" in error.message
    assert error.details == ""


def test_a_missing_module_with_a_near_name_is_guessed(write: Write) -> None:
    write("webapp.py", APP)
    assert "did you mean 'webapp'?" in refused("wepapp:app").message


def test_a_module_below_src_is_found_out(write: Write) -> None:
    write("src/hidden.py", APP)
    assert "add --app-dir src" in refused("hidden:app").message


def test_a_missing_module_in_a_package_is_guessed(write: Write) -> None:
    write("store/__init__.py", "")
    write("store/server.py", APP)
    error = refused("store.sever:app")
    assert "the package store has no module 'sever'" in error.message
    assert "did you mean 'store.server'?" in error.message


def test_a_module_that_is_no_package_is_called_so(write: Write) -> None:
    write("plain.py", APP)
    assert "plain is a module, not a package" in refused("plain.app:app").message


def test_a_missing_app_directory_is_named(write: Write, tmp_path: Path) -> None:
    error = refused("main:app", app_dir="gone")
    assert str(tmp_path / "gone") in error.message
    assert "does not exist" in error.message


# --- the app's own errors ------------------------------------------------------------------


def test_an_import_that_fails_inside_the_app_is_the_apps_error(write: Write) -> None:
    write("needs.py", "import sys\nimport no_such_library_here\n" + APP)
    error = refused("needs:app")
    assert "importing needs failed" in error.message
    assert "ModuleNotFoundError: No module named 'no_such_library_here'" in error.message
    assert "(needs.py, line 2)" in error.message
    assert isinstance(error.__cause__, ModuleNotFoundError)
    assert "needs.py" in error.details
    assert "import no_such_library_here" in error.details
    assert "importlib" not in error.details
    assert "loading.py" not in error.details


def test_a_package_that_fails_to_import_its_missing_part_is_the_apps_error(write: Write) -> None:
    # The missing name is the one that was asked for, but it is the app that asked first
    write("half/__init__.py", "from half.main import app\n")
    error = refused("half.main:app")
    assert "importing half.main failed with ModuleNotFoundError" in error.message
    assert f"({Path('half/__init__.py')}, line 1)" in error.message


def test_an_error_in_the_app_is_shown_with_its_line(write: Write) -> None:
    write("inner_part.py", "def make():\n    return 1 / 0\n")
    write("outer.py", "import inner_part\n\napp = inner_part.make()\n")
    error = refused("outer:app")
    assert "ZeroDivisionError: division by zero (inner_part.py, line 2)" in error.message
    assert "outer.py" in error.details
    assert error.details.startswith("Traceback (most recent call last)")


def test_an_error_raised_by_a_library_is_shown_where_the_app_called_it(write: Write) -> None:
    write("callslib.py", "import json\n\napp = json.loads('{')\n")
    error = refused("callslib:app")
    assert "JSONDecodeError" in error.message
    assert "(callslib.py, line 3)" in error.message
    assert "decoder.py" in error.details


def test_an_error_of_many_lines_is_told_in_one(write: Write) -> None:
    write("wordy.py", "raise ValueError('one\\ntwo\\n' + 'x' * 1000)\n")
    error = refused("wordy:app")
    assert "ValueError: one two xxx" in error.message
    assert len(error.message) < 500
    assert "x" * 1000 in error.details


def test_a_syntax_error_is_shown_with_file_and_line(write: Write) -> None:
    write("broken.py", "x = 1\ndef app(:\n")
    error = refused("broken:app")
    assert "SyntaxError: invalid syntax (broken.py, line 2)" in error.message
    assert "def app(:" in error.details


def test_a_syntax_error_in_a_neighbour_is_shown_where_it_is(write: Write) -> None:
    write("bad_part.py", "if True\n    pass\n")
    write("good_main.py", "import bad_part\n" + APP)
    error = refused("good_main:app")
    assert "SyntaxError: expected ':' (bad_part.py, line 1)" in error.message


def test_an_app_that_exits_while_it_is_imported_does_not_end_us(write: Write) -> None:
    write("exits.py", "import sys\nsys.exit('no licence')\n")
    assert "SystemExit: no licence (exits.py, line 2)" in refused("exits:app").message


def test_an_interrupt_while_importing_is_passed_on(write: Write) -> None:
    write("interrupted.py", "raise KeyboardInterrupt\n")
    with pytest.raises(KeyboardInterrupt):
        load_app("interrupted:app")


# --- the attribute -------------------------------------------------------------------------


def test_a_missing_attribute_with_a_near_name_is_guessed(write: Write) -> None:
    write("named.py", "application = lambda scope, receive, send: None\n")
    error = refused("named:aplication")
    assert "named has no attribute 'aplication'" in error.message
    assert "did you mean 'application'?" in error.message


def test_a_missing_attribute_in_a_module_with_an_app_names_the_app(write: Write) -> None:
    write("other_name.py", APP.replace("def app", "def site"))
    assert "did you mean 'site'?" in refused("other_name:app").message


def test_a_missing_inner_attribute_is_named_with_its_owner(write: Write) -> None:
    write("owner.py", "class site:\n    pass\n")
    assert "owner.site has no attribute 'app'" in refused("owner:site.app").message


def test_what_cannot_be_called_is_no_app(write: Write) -> None:
    write("values.py", f"app = 5\n{APP.replace('def app', 'def site')}")
    error = refused("values:app")
    assert "it is an int, which cannot be called" in error.message
    assert "did you mean 'site'?" in error.message


def test_a_module_is_no_app(write: Write) -> None:
    write("pack/__init__.py", "from pack import main\n")
    write("pack/main.py", APP)
    assert "it is a module" in refused("pack:main").message


# --- factories -----------------------------------------------------------------------------


def test_a_factory_without_the_flag_is_found_out(write: Write) -> None:
    write("factory_one.py", f"{APP}\ndef create_app(config=None):\n    return app\n")
    error = refused("factory_one:create_app")
    assert "looks like a factory" in error.message
    assert "add --factory" in error.message


def test_a_class_without_the_flag_is_found_out(write: Write) -> None:
    write(
        "factory_two.py",
        "class App:\n    async def __call__(self, scope, receive, send):\n        pass\n",
    )
    assert "add --factory" in refused("factory_two:App").message


def test_an_app_with_the_flag_is_found_out(write: Write) -> None:
    write("factory_three.py", APP)
    assert (
        "an app already, not a factory; leave out --factory"
        in refused("factory_three:app", factory=True).message
    )


def test_a_factory_that_needs_arguments_is_refused(write: Write) -> None:
    write("factory_four.py", "def create_app(config, *, debug, more=1, **rest):\n    pass\n")
    assert "this one needs (config, debug)" in refused("factory_four:create_app", factory=True).message


def test_a_factory_that_cannot_be_called_is_refused(write: Write) -> None:
    write("factory_five.py", "create_app = 'x'\n")
    assert "it is a str, not a factory" in refused("factory_five:create_app", factory=True).message


def test_a_factory_that_forgets_to_return_is_refused(write: Write) -> None:
    write("factory_six.py", "def create_app():\n    pass\n")
    assert (
        "the factory returned None instead of an app"
        in refused("factory_six:create_app", factory=True).message
    )


@pytest.mark.parametrize("factory", [True, False])
def test_an_async_factory_is_refused(write: Write, factory: bool) -> None:
    write("factory_seven.py", "async def create_app():\n    pass\n")
    error = refused("factory_seven:create_app", factory=factory)
    assert ("plain function" if factory else "(scope, receive, send)") in error.message


def test_a_factory_that_returns_a_coroutine_is_refused(write: Write) -> None:
    write("factory_eight.py", "async def make():\n    pass\n\ndef create_app():\n    return make()\n")
    assert "returned a coroutine" in refused("factory_eight:create_app", factory=True).message


def test_an_error_in_a_factory_is_the_apps_error(write: Write) -> None:
    write("factory_nine.py", "def create_app():\n    raise KeyError('DATABASE_URL')\n")
    error = refused("factory_nine:create_app", factory=True)
    assert (
        "calling create_app() failed with KeyError: 'DATABASE_URL' (factory_nine.py, line 2)" in error.message
    )
    assert isinstance(error.__cause__, KeyError)
    assert error.details


# --- the interface -------------------------------------------------------------------------


def test_an_unknown_interface_is_refused(write: Write) -> None:
    write("iface.py", APP)
    with pytest.raises(VerserConfigurationError, match="auto, asgi3, asgi2, wsgi"):
        load_app("iface:app", interface="asgi4")


def test_an_app_that_takes_too_few_arguments_is_refused_by_name(write: Write) -> None:
    write("short.py", "async def app(scope, receive):\n    pass\n")
    with pytest.raises(
        VerserConfigurationError, match=r"short:app .*\(scope, receive, send\).*\(scope, receive\)"
    ):
        load_app("short:app")
