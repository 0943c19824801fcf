"""Particles that attract each other: a target without data, as Boltzmann generators learn."""

import jax
import jax.numpy as jnp
import numpy as np

from glowjax.arrays import promote
from glowjax.checks import POSITIVE, Interval, check_in, check_integer, check_positive, require
from glowjax.densities.targets import Target
from glowjax.expression import recorded


@recorded
def lennard_jones(
    particles: int = 3,
    dimensions: int = 2,
    *,
    temperature: float = 1.0,
    trap: float = 1.0,
    core: float = 0.8,
) -> Target:
    """Particles that attract each other from afar and repel each other when near, in a trap.

        ln p̃(x) = -U(x) / T,   U = Σ_{i<j} u(|x_i - x_j|) + trap/2·Σ_i |x_i|²
        u(r) = r⁻¹² - 2·r⁻⁶ if r ≥ core, else u(core) + (r² - core²)·du/d(r²) at the core

    Lengths are in units of the distance r_m at which u is least, and energies and T in units of
    ε = -u(r_m). Below the core u is a straight line in r², which touches it there: so u is finite
    and its gradient 0 where particles meet. The trap holds each particle, and so the centre of mass
    too, which is N(0, T / (n·trap)) in each dimension and independent of the rest. p is the same
    after particles are swapped, or all are turned. There are no exact samples.

    Args:
        particles: n, at least 2.
        dimensions: d, of space. Arrays are `[..., n·d]`, particle after particle.
        temperature: T.
        trap: in ε / r_m².
        core: in (0, 1), in r_m. At 0.8, u(core) is 6.9; the lower it is, the steeper u becomes.

    Raises:
        ValueError: an argument is not as above; x of another size.

    Source: Köhler et al. 2020, Equivariant flows, the experiment LJ13, where the trap is on the
    distances from the centre of mass.

    Examples:
        >>> target = glowjax.lennard_jones(2, 1, temperature=0.5, trap=0.1)
        >>> round(float(target.log_prob(jnp.array([-0.5, 0.5]))), 4)  # (1 - 0.05 · 0.5) / 0.5
        1.95
    """
    check_integer("particles", particles, 2)
    check_positive(dimensions=dimensions)
    check_in(POSITIVE, temperature=temperature, trap=trap)
    check_in(Interval(0, 1), core=core)
    size = particles * dimensions
    one, other = np.triu_indices(particles, 1)

    def log_prob(x):
        x = promote(x)
        require(x.shape[-1] == size, "x", x.shape, f"of shape [..., {size}]")
        places = x.reshape(*x.shape[:-1], particles, dimensions)
        square = jnp.sum(jnp.square(places[..., one, :] - places[..., other, :]), axis=-1)
        pairs = jnp.sum(_pair_energy(square, core), axis=-1)
        return -(pairs + 0.5 * trap * jnp.sum(jnp.square(x), axis=-1)) / temperature

    reach = 4 * float(np.sqrt(temperature / trap))
    return Target(log_prob, (-reach, reach))


def _pair_energy(square: jax.Array, core: float) -> jax.Array:
    """u of squared distances."""
    least = core**2
    power = jnp.maximum(square, least) ** -3
    slope = 6 * (least**-4 - least**-7)
    return power * power - 2 * power + slope * jnp.minimum(square - least, 0)
