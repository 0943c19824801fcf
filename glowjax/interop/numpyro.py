"""Flows in numpyro: a density as a distribution, a flow as a transform and as a guide.

    numpyro.sample("x", FlowDistribution(model, params, event_shape=(3,)))
    guide = AutoFlow(model, glowjax.iaf())

The guide is for `SVI`, and once trained for `NeuTraReparam`.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpyro
from numpyro import distributions as dist
from numpyro.distributions import constraints
from numpyro.distributions.transforms import Transform
from numpyro.infer.autoguide import AutoContinuous

from glowjax.densities.density import Density
from glowjax.flow import Flow, checked
from glowjax.interop.batches import over_batches


class FlowDistribution(dist.Distribution):
    """A density with its parameters as a distribution of numpyro.

    Args:
        model: the density.
        params: its parameters.
        event_shape: of one example, as given to `density`.
        support: a constraint; default: all real numbers.
    """

    pytree_data_fields = ("params",)
    pytree_aux_fields = ("model", "given_support")

    def __init__(
        self,
        model: Density,
        params: Any,
        event_shape: tuple[int, ...],
        *,
        support: Any = None,
        validate_args: bool | None = None,
    ):
        self.model, self.params = model, params
        real = constraints.independent(constraints.real, len(event_shape))
        self.given_support = real if support is None else support
        super().__init__((), tuple(event_shape), validate_args=validate_args)

    @constraints.dependent_property
    def support(self) -> Any:
        """Where the density is not zero."""
        return self.given_support

    def sample(self, key: Any, sample_shape: tuple[int, ...] = ()) -> jax.Array:
        """Draws of shape `[*sample_shape, *event_shape]`."""
        return self.model.sample(self.params, key, tuple(sample_shape))

    def log_prob(self, value: Any, intermediates: Any = None) -> jax.Array:
        """ln p of values of any batch shape."""
        return self.model.log_prob(self.params, jnp.asarray(value))


class FlowTransform(Transform):
    """x = flow.inverse(z), from latents to data, of vectors `[..., D]`."""

    domain = constraints.real_vector
    codomain = constraints.real_vector

    def __init__(self, flow: Flow, params: Any):
        self.flow, self.params = flow, params

    def __call__(self, x):
        """The data of latents."""
        return self.call_with_intermediates(x)[0]

    def call_with_intermediates(self, x: Any) -> tuple[jax.Array, jax.Array]:
        """The data of latents, and log|det|."""
        return over_batches(lambda z: self.flow.inverse(self.params, z), x, 1)

    def _inverse(self, y):
        return over_batches(lambda x: self.flow.forward(self.params, x), y, 1)[0]

    def log_abs_det_jacobian(self, x: Any, y: Any, intermediates: Any = None) -> jax.Array:
        """log|det ∂x/∂z|."""
        if intermediates is not None:
            return intermediates
        return self.call_with_intermediates(x)[1]

    def tree_flatten(self) -> tuple[tuple[Any], tuple[tuple[str], dict[str, Any]]]:
        """Parameters are data; the flow is not."""
        return (self.params,), (("params",), {"flow": self.flow})

    def __eq__(self, other):
        same = isinstance(other, FlowTransform) and self.flow is other.flow
        return same and jax.tree.all(
            jax.tree.map(lambda a, b: jnp.array_equal(a, b), self.params, other.params)
        )


class AutoFlow(AutoContinuous):
    """A guide over all latent variables of a model: a standard normal through a flow.

    For `SVI`, and once trained for `NeuTraReparam`. `iaf()` samples and scores in one pass.

    Args:
        model: of numpyro.
        flow: of vectors, as many as the model has unconstrained numbers.
        prefix, init_loc_fn: see `AutoContinuous`.
    """

    def __init__(self, model: Any, flow: Flow, **options: Any):
        self.flow = checked("flow", flow)
        super().__init__(model, **options)

    def _get_posterior(self):
        def init(key):
            z = jax.random.normal(key, (64, self.latent_dim))
            initialise = self.flow.init_inverse or self.flow.init
            return initialise(key, z)

        params = numpyro.param(f"{self.prefix}_flow", init)
        transform = FlowTransform(self.flow, params)
        return dist.TransformedDistribution(self.get_base_dist(), transform)

    def get_base_dist(self) -> dist.Distribution:
        """The distribution of the flow's latents."""
        return dist.Normal(jnp.zeros(self.latent_dim), 1).to_event(1)

    def get_transform(self, params: dict[str, Any]) -> FlowTransform:
        """From the flow's latents to the model's unconstrained numbers."""
        return FlowTransform(self.flow, params[f"{self.prefix}_flow"])

    def get_posterior(self, params: dict[str, Any]) -> dist.TransformedDistribution:
        """The distribution of the model's unconstrained numbers."""
        return dist.TransformedDistribution(self.get_base_dist(), self.get_transform(params))
