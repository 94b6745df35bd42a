"What several tests share."
from collections.abc import Callable
from pathlib import Path

import forked
import pytest

SERVER = pytest.StashKey[Callable[[], None]]()
NOTEBOOKS = "notebooks.py" # its tests run where it is named, and with the whole folder where --notebooks is given
ran: set[str] = set() # notebooks


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--notebooks", action="store_true", help="with the tests of a folder, those of its notebooks.py: one a notebook")


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    "A path beside the folder that it lies in is nothing to pytest 9: `pytest tests/notebooks.py tests` ran no notebook, and said nothing."
    asked = file_path.name == NOTEBOOKS and parent.config.getoption("notebooks") and not parent.session.isinitpath(file_path)
    return pytest.Module.from_parent(parent, path=file_path) if asked else None


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if f"{NOTEBOOKS}::" in report.nodeid and report.when == "call": ran.add(report.nodeid)


def pytest_sessionfinish(session: pytest.Session) -> None:
    config = session.config
    if hasattr(config, "workerinput") or not config.getoption("notebooks") or config.option.collectonly or ran: return
    print("\n--notebooks: not one notebook was run")
    session.exitstatus = pytest.ExitCode.NO_TESTS_COLLECTED


def pytest_configure(config: pytest.Config) -> None:
    if hasattr(config, "workerinput"): return  # one server for all of xdist's workers, which imports while they collect
    config.stash[SERVER] = forked.offer(at_once=bool(config.getoption("numprocesses", 0)))


def pytest_unconfigure(config: pytest.Config) -> None:
    if SERVER in config.stash: config.stash[SERVER]()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    "With `--dist loadfile` a file's tests stay together, so that what they share is made once, but each notebook goes to whoever is free."
    if config.getoption("dist") != "loadfile": return None
    from xdist.scheduler import LoadFileScheduling

    class FilesAndNotebooks(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return nodeid if "/notebooks.py::" in nodeid or "/test_studies.py::" in nodeid else super()._split_scope(nodeid)
    return FilesAndNotebooks(config, log)


@pytest.fixture
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    "No test reads what another one, or the user, has cached. For a whole file: `pytestmark = pytest.mark.usefixtures(\"own_cache\")`."
    monkeypatch.setenv("FAKEFACE_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.delenv("FAKEFACE_DATA", raising=False)
