"What several tests share."
from collections.abc import Callable

import forked
import pytest

SERVER = pytest.StashKey[Callable[[], None]]()


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
