"""Tests run in float64 on four fake CPU devices; those marked `float32` run in float32."""

import contextlib
import io
import os
import socket
import tempfile
from importlib.metadata import version
from pathlib import Path

os.environ["JAX_PLATFORMS"] = os.environ.get("JAX_PLATFORMS", "cpu")
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "")
    + " --xla_force_host_platform_device_count=4"
    # On busy cores a device may come to a sum later than after 40 s, and XLA would end the process.
    + " --xla_cpu_collective_call_terminate_timeout_seconds=600"
    # Halves the time to compile; later versions have no such flag. The older emitters would fuse
    # multiplications and additions in one program and not in another, were it not for AVX alone.
    + " --xla_cpu_use_fusion_emitters=false --xla_cpu_max_isa=AVX"
    * version("jax").startswith("0.10.")
)
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR", str(Path(tempfile.gettempdir()) / "glowjax-test-cache")
)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.01")

import jax
import jaxtyping
import pytest

# Calls of the pure functions, and of what is beside them, are held to the shapes that they state.
jaxtyping.install_import_hook(
    ["glowjax.arrays", "glowjax.bijections", "glowjax.densities", "glowjax.surjections"],
    "shapes.checked",
)

jax.config.update("jax_disable_most_optimizations", True)  # halves the time to compile


@pytest.fixture(autouse=True)
def precision(request):
    with jax.enable_x64("float32" not in request.keywords):
        yield


@pytest.fixture
def as_users_call():
    """Shapes are not held to their types, so that what refuses them is the code that users have."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(autouse=True, scope="module")
def bounded_memory():
    """Compiled programs of a module go when it ends: gigabytes otherwise."""
    yield
    jax.clear_caches()


@pytest.fixture(scope="session")
def digits_dir(tmp_path_factory):
    """A folder of tensorflow-datasets with `digits` prepared."""
    from glowjax.data.prepare import prepare  # slow to import

    folder = tmp_path_factory.mktemp("tfds")
    prepare("digits", data_dir=folder)
    return folder


@pytest.fixture(scope="session")
def config(digits_dir):
    """Of a run of seconds."""
    from glowjax.data.transform import Transform
    from glowjax.fitting.optim import Optimizer
    from glowjax.runs.config import Config, Data
    from glowjax.runs.models import Glow

    return Config(
        data=Data(name="digits", data_dir=digits_dir, transform=Transform(crop=4, shift=0.25)),
        model=Glow(levels=1, steps=1, width=4),
        optimizer=Optimizer(learning_rate=0.01, warmup_images=16),
        train_steps=6,
        batch_size=8,
        log_every=1,
        evaluate_every=2,
        evaluate_samples=1,
        sample_count=4,
    )


@pytest.fixture(scope="session")
def trained(config, tmp_path_factory):
    """Six steps in one go: folder, which stays as it is, result, and what it printed."""
    from glowjax.runs.training import train  # slow to import

    folder = tmp_path_factory.mktemp("runs") / "trained"
    with contextlib.redirect_stderr(io.StringIO()) as printed:
        result = train(config, folder)
    return folder, result, printed.getvalue()


@pytest.fixture
def no_network(monkeypatch):
    """Any look at the network fails at once."""

    def refuse(*args, **kwargs):
        raise OSError("no network in tests")

    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    for variable in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(variable, raising=False)
