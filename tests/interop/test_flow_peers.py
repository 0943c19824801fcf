"""The flows of other libraries that `experiments.bench flows` times: they do what ours do."""

import numpy as np
import pytest

from experiments.bench.flow_peers import LIBRARIES

pytestmark = [pytest.mark.float32, pytest.mark.filterwarnings("ignore")]  # of torch and nflows


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["maf", "spline", "affine"])
@pytest.mark.parametrize("library", LIBRARIES)
def test_a_peer_has_densities_steps_and_samples(library, kind):
    pytest.importorskip(library)
    calls = LIBRARIES[library](kind, 4)
    x = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    log_p = np.asarray(calls.log_prob(x))
    assert log_p.shape == (5,) and np.all(np.isfinite(log_p))
    assert np.shape(calls.sample(3)) == (3, 4)
    calls.step(x)
    temporaries = calls.temporaries(x)
    assert temporaries is None or temporaries > 0
