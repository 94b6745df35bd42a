"What several tests share."
import pytest


@pytest.fixture
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    "No test reads what another one, or the user, has cached. For a whole file: `pytestmark = pytest.mark.usefixtures(\"own_cache\")`."
    monkeypatch.setenv("FAKEFACE_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.delenv("FAKEFACE_DATA", raising=False)
