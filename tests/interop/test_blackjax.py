"""A flow as a proposal and as a preconditioner of blackjax, as docs/other-libraries.md does it."""

import re
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.stats import norm

import glowjax

blackjax = pytest.importorskip("blackjax")
PAGE = Path(__file__).parents[2] / "docs" / "other-libraries.md"
pytestmark = pytest.mark.float32


def chain(kernel, n):
    """Positions `[n, ...]` from 1 on, and which proposals were accepted."""
    run = blackjax.util.run_inference_algorithm
    _, (states, info) = run(jax.random.key(0), kernel, n, initial_position=jnp.ones(1))
    return states.position, info


@pytest.mark.slow
def test_example_of_the_page():
    examples = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    (example,) = (e for e in examples if "import blackjax" in e)
    assert "steps=1000" in example
    names: dict[str, Any] = {}
    exec(example, names)
    by_nuts, _ = names["flow"].inverse(names["params"], names["by_nuts"].position)
    for x in (by_nuts, names["x"]):  # x1 ~ N(0, 1), x2 ~ N((x1² - 1)/2, 0.3²)
        assert x.shape == (2000, 2)
        np.testing.assert_allclose(jnp.mean(x, axis=0), 0, atol=0.15)
        np.testing.assert_allclose(jnp.std(x[:, 0]), 1, atol=0.15)
        rest = x[:, 1] - (x[:, 0] ** 2 - 1) / 2
        np.testing.assert_allclose(jnp.std(rest), 0.3, atol=0.03)
    assert names["info"].is_accepted.mean() > 0.8, "the proposal is near the target"


@pytest.mark.parametrize("right", [True, False])
def test_a_proposal_tells_the_density_of_the_second_state(right):
    """N(1, 0.5²) by proposals from N(0, 1): as the page says, the first state's gives another."""

    def log_proposal(current, proposed):
        return norm.logpdf((proposed if right else current).position).sum()

    def propose(key):
        return jax.random.normal(key, (1,))

    kernel = blackjax.irmh(lambda x: norm.logpdf(x, 1, 0.5).sum(), propose, log_proposal)
    x, _ = chain(kernel, 20_000)
    found = abs(jnp.mean(x) - 1) < 0.03 and abs(jnp.std(x) - 0.5) < 0.03
    assert found == right


@pytest.mark.slow
def test_proposals_in_latents_are_those_of_the_flow():
    """One step accepts with one probability, whether the flow proposes z or its x."""
    target = glowjax.targets.banana()
    flow = glowjax.iaf(steps=2, width=8)
    model = glowjax.density(flow, (2,))
    params = model.init_from_base(jax.random.key(0), 64)
    params = jax.tree.map(lambda p: p + 0.05 * jnp.cos(jnp.arange(p.size)).reshape(p.shape), params)

    def log_prob(z):
        x, log_det = flow.inverse(params, z[None])
        return target.log_prob(x)[0] + log_det[0]

    in_latents = blackjax.irmh(
        log_prob,
        lambda key: jax.random.normal(key, (2,)),
        lambda current, proposed: norm.logpdf(proposed.position).sum(),
    )
    of_data = blackjax.irmh(
        target.log_prob,
        lambda key: flow.inverse(params, jax.random.normal(key, (1, 2)))[0][0],
        lambda current, proposed: model.log_prob(params, proposed.position),
    )
    z = jnp.array([0.3, -0.2])
    x = flow.inverse(params, z[None])[0][0]
    keys = jax.random.split(jax.random.key(1), 50)
    latent, latent_info = jax.vmap(in_latents.step, (0, None))(keys, in_latents.init(z))
    data, data_info = jax.vmap(of_data.step, (0, None))(keys, of_data.init(x))
    accepted = latent_info.acceptance_rate
    assert 0.01 < accepted.mean() < 0.99
    np.testing.assert_allclose(accepted, data_info.acceptance_rate, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(
        flow.inverse(params, latent.position)[0], data.position, rtol=1e-3, atol=1e-4
    )
