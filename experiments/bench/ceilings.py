"""What the machine can do at best: the measure of the other figures of the same run."""

from collections.abc import Iterator

import jax

import glowjax
from experiments.bench.common import Row


def measure(setting: Row) -> Iterator[Row]:
    """The device, its bfloat16 matmul peak (FLOP/s) and its copy bandwidth (bytes/s), as facts."""
    small = setting["small"]
    yield {
        "facts": {
            "device": jax.devices()[0].device_kind,
            "devices": jax.device_count(),
            "matmul_peak": glowjax.matmul_peak(64 if small else None),
            "copy_bandwidth": glowjax.copy_bandwidth(2**20 if small else None),
        }
    }
