"Answers of other people's detectors: what is kept of them is counted right, names no sample, and is what the installed package gives."
import importlib.util

import pandas as pd
import pytest

from fakeface.core.basics import data_manifests
from fakeface.core.stats import wilson
from fakeface.evaluate import deepsafe
from fakeface.evaluate.cells import detector_ranks
from fakeface.evaluate.deepsafe import REFERENCE, DeepsafeError, deepsafe_file, deepsafe_sources, keep_deepsafe


@pytest.fixture
def absent(monkeypatch: pytest.MonkeyPatch) -> None:
    "As where the package is not installed."
    monkeypatch.setattr(deepsafe, "find_spec", lambda name: None)


def test_without_the_package_its_licence_is_named_and_the_kept_figures_are_shown(absent):
    with pytest.raises(DeepsafeError, match=r"pip install deepsafe-bench==1.0.0 .*PolyForm Noncommercial 1.0.0"): deepsafe_file()
    table = deepsafe_sources()
    assert not table.attrs["counted"] and table.attrs["said"].startswith("deepsafe-bench is not installed")
    assert detector_ranks(table.assign(fake="all")).attrs["cells"] == table["real"].nunique() == table.attrs["order"]["sources"]


def test_the_kept_rates_are_their_counts_with_wilsons_interval_and_no_row_is_a_sample(absent):
    table = deepsafe_sources()
    assert table["n_real"].min() > 50 and table["worst_n"].min() > 50 and "path" not in table and len(table) == 8 * 7
    for r in table.itertuples():
        assert (r.fpr, r.fpr_lo, r.fpr_hi) == pytest.approx((r.called_fake / r.n_real, *wilson(r.called_fake, r.n_real)), abs=1e-5)
        assert r.auc_lo <= r.auc <= r.auc_hi and r.worst_auc <= r.auc + 1e-6 and r.frozen_fpr_lo <= r.frozen_fpr <= r.frozen_fpr_hi


@pytest.mark.skipif(importlib.util.find_spec("deepsafe") is None, reason="deepsafe-bench is not installed")
def test_the_kept_figures_are_those_of_the_installed_package(tmp_path):
    for file in keep_deepsafe(to=tmp_path):
        pd.testing.assert_frame_equal(pd.read_csv(file), pd.read_csv(data_manifests()/"reference"/file.name), rtol=1e-4)
    assert {p.name for p in tmp_path.iterdir()} == set(REFERENCE.values())
