"""Training of images from a config to pictures, on any number of hosts."""

from glowjax.data import Transform
from glowjax.fitting.optim import Optimizer
from glowjax.runs.config import Config, Data
from glowjax.runs.models import Autoregressive, FlowPP, Glow, RealNVP
from glowjax.runs.transformers import Jet, TarFlow

__all__ = [
    "Autoregressive",
    "Config",
    "Data",
    "FlowPP",
    "Glow",
    "Jet",
    "Optimizer",
    "RealNVP",
    "TarFlow",
    "Transform",
]
