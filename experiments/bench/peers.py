"""The same Glow in other libraries, on torch: what `--peers` measures ours against.

Each has L levels of K steps with nets of 3×3, 1×1 and 3×3 convolutions and ReLUs, from the parts
that the library brings. They train by Adam on noise images, dequantized anew in each step.
"""

import contextlib
import importlib.util
import math
import time
from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple

import numpy as np

from experiments.bench.common import Row, answers, forward_flops

LIBRARIES = ("nflows", "normflows")
WayName = Literal[
    "tf32",
    "bf16",
    "bf16 channels-last",
    "bf16 compiled",
    "bf16 graph",
    "bf16 channels-last graph",
]


class Way(NamedTuple):
    """How torch runs a library."""

    bf16: bool = False  # by autocast; else TF32
    channels_last: bool = False  # the layout of the nets' weights, and of images in training
    compiled: bool = False  # each step of flow by torch.compile; all at once takes too long
    graph: bool = False  # the whole training step as one CUDA graph


WAYS: dict[WayName, Way] = {
    "tf32": Way(),
    "bf16": Way(bf16=True),
    "bf16 channels-last": Way(bf16=True, channels_last=True),
    "bf16 compiled": Way(bf16=True, compiled=True),
    "bf16 graph": Way(bf16=True, graph=True),
    "bf16 channels-last graph": Way(bf16=True, channels_last=True, graph=True),
}


def check_installed() -> None:
    """Raises `ValueError` unless torch and both libraries are installed."""
    missing = [m for m in ("torch", *LIBRARIES) if importlib.util.find_spec(m) is None]
    if missing:
        raise ValueError(
            f"--peers needs {', '.join(missing)}, not installed: pip install 'glowjax[bench]'"
        )


def train(setting: dict[str, Any]) -> Iterator[Row]:
    """A row of a library's whole training step: dequantize, gradient, Adam."""
    import torch

    peer = Peer(setting)
    images = torch.randint(0, 256, peer.shape, dtype=torch.uint8, device=peer.device)
    images = images.to(memory_format=peer.layout)
    peer.initialize(images / 256 - 0.5)
    optimizer = torch.optim.Adam(peer.parameters, lr=1e-3, capturable=peer.way.graph)

    def step():
        x = (images + torch.rand(peer.shape, device=peer.device)) / 256 - 0.5
        optimizer.zero_grad(set_to_none=True)
        with peer.precision():
            loss = -peer.log_prob(x).mean()
        loss.backward()
        optimizer.step()

    first = peer.finish(step)
    call = peer.captured(step) if peer.way.graph else step
    row = peer.row(call, setting, passes=3)
    yield row | {"compile_seconds": first}


def sample(setting: dict[str, Any]) -> Iterator[Row]:
    """Rows of a library's samples, one a batch size, at weights initialised on one batch."""
    import torch

    peer = Peer(setting | {"batch": 8})
    peer.initialize(torch.rand(peer.shape, device=peer.device) - 0.5)

    def measure(setting):
        def draw():
            with torch.no_grad(), peer.precision():
                peer.sample(setting["batch"])

        first = peer.finish(draw)
        call = peer.captured(draw) if peer.way.graph else draw

        def wait():
            call()
            peer.synchronize()  # latency: each call waits for its result

        yield peer.row(wait, setting, passes=1) | {"compile_seconds": first}

    for batch in setting["batch_sizes"]:
        for row in answers(measure, setting | {"batch": batch}):
            yield {"batch": batch} | row


class Peer:
    """A library's Glow on the device that torch has."""

    def __init__(self, setting: dict[str, Any]):
        import torch

        check_installed()
        self.torch = torch
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.way = WAYS[setting["dtype"]]
        self.layout = torch.channels_last if self.way.channels_last else torch.contiguous_format
        torch.backends.cuda.matmul.allow_tf32 = True
        torch.backends.cudnn.allow_tf32 = True
        torch.backends.cudnn.benchmark = True
        torch.manual_seed(0)
        size = setting["size"]
        self.shape = (setting["batch"], 3, size, size)
        make = {"nflows": nflows_glow, "normflows": normflows_glow}[setting["library"]]
        self.model, self.steps, self.log_prob, self.sample = make(
            levels=setting["levels"],
            steps=setting["steps"],
            width=setting["width"],
            size=size,
            additive=setting["coupling"] == "additive",
        )
        self.flops = forward_flops(setting)
        self.model.to(self.device, memory_format=self.layout)
        self.parameters = list(self.model.parameters())

    def initialize(self, x: Any) -> None:
        """Initialises ActNorm, in training mode, and compiles after that where it is asked.

        In the other mode, in which gradients are the same, nflows asks no more whether to do so,
        which would wait for the GPU in each step.
        """
        self.model.train()
        with self.torch.no_grad():
            self.log_prob(x)
        self.model.eval()
        if self.way.compiled:
            self.torch._dynamo.config.recompile_limit = 64  # one a level, and what else differs
            for step in self.steps:
                step.forward = self.torch.compile(step.forward, dynamic=False)
                step.inverse = self.torch.compile(step.inverse, dynamic=False)

    def precision(self) -> Any:
        """The context of the forward pass: autocast for bf16; TF32 needs none."""
        if not self.way.bf16:
            return contextlib.nullcontext()
        return self.torch.autocast(self.device, dtype=self.torch.bfloat16)

    def captured(self, call: Callable[[], None]) -> Callable[[], None]:
        """A call as a CUDA graph; an error if it copies from the host, as nflows does."""
        side = self.torch.cuda.Stream()
        side.wait_stream(self.torch.cuda.current_stream())
        with self.torch.cuda.stream(side):  # as torch asks: what is made once is made before
            for _ in range(3):
                call()
        self.torch.cuda.current_stream().wait_stream(side)
        graph = self.torch.cuda.CUDAGraph()
        with self.torch.cuda.graph(graph):
            call()
        return graph.replay

    def synchronize(self) -> None:
        """Waits for the device."""
        if self.device == "cuda":
            self.torch.cuda.synchronize()

    def finish(self, call: Callable[[], None], calls: int = 1) -> float:
        """Seconds of some calls, to their very end."""
        start = time.perf_counter()
        for _ in range(calls):
            call()
        self.synchronize()
        return time.perf_counter() - start

    def row(self, call: Callable[[], None], setting: dict[str, Any], passes: int) -> Row:
        """Times a call, after a warm-up in which cuDNN finds its kernels.

        Its operations count as `passes` times those of the forward pass.
        """
        repetitions, seconds = setting["repetitions"], setting["seconds"]
        examples = setting["batch"]
        self.finish(call, 3 if seconds else 1)
        if self.device == "cuda" and not self.way.graph:  # a graph's memory counts as it is made
            self.torch.cuda.reset_peak_memory_stats()
        calls = max(1, math.ceil(seconds / self.finish(call)))
        times = [self.finish(call, calls) / calls for _ in range(repetitions)]
        median = float(np.median(times))
        row = {
            "milliseconds": 1e3 * median,
            "least": 1e3 * min(times),
            "most": 1e3 * max(times),
            "images_per_second": examples / median,
            "tflops": passes * self.flops * examples / median / 1e12,
            "device": self.device,
        }
        if self.device == "cuda":
            row["peak_bytes"] = self.torch.cuda.max_memory_allocated()
        return row


def nflows_glow(*, levels: int, steps: int, width: int, size: int, additive: bool) -> tuple:
    """nflows: its transforms and a net of our own; (model, its steps, log_prob, sample)."""
    from nflows import distributions, transforms
    from nflows.flows import Flow
    from nflows.utils.torchutils import create_mid_split_binary_mask
    from torch import nn

    class Net(nn.Sequential):
        def forward(self, x, context=None):
            return super().forward(x)

    def net(inputs, outputs):
        last = nn.Conv2d(width, outputs, 3, padding=1)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        return Net(
            nn.Conv2d(inputs, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, width, 1),
            nn.ReLU(),
            last,
        )

    kind = transforms.AdditiveCouplingTransform if additive else transforms.AffineCouplingTransform

    def step(channels):
        parts = [
            transforms.ActNorm(channels),
            transforms.OneByOneConvolution(channels),
            kind(create_mid_split_binary_mask(channels), net),
        ]
        return transforms.CompositeTransform(parts)

    every = []
    whole: Any = transforms.MultiscaleCompositeTransform(num_transforms=levels)
    shape: Any = (3, size, size)
    for _ in range(levels):
        squeeze = transforms.SqueezeTransform()
        shape = squeeze.get_output_shape(*shape)
        level = [step(shape[0]) for _ in range(steps)]
        every += level
        shape = whole.add_transform(transforms.CompositeTransform([squeeze, *level]), shape)
    model = Flow(whole, distributions.StandardNormal([3 * size * size]))
    return model, every, model.log_prob, model.sample


def normflows_glow(*, levels: int, steps: int, width: int, size: int, additive: bool) -> tuple:
    """normflows: its GlowBlocks as they stand; (model, those, log_prob, sample)."""
    import normflows

    bases, flows, merges, every = [], [], [], []
    for level in range(levels):  # the smallest images first, as its samples go
        channels = 3 * 2 ** (levels + 1 - level)
        blocks = [
            normflows.flows.GlowBlock(channels, width, scale=not additive) for _ in range(steps)
        ]
        every += blocks
        flows.append([*blocks, normflows.flows.Squeeze()])
        if level > 0:
            merges.append(normflows.flows.Merge())
        side = size // 2 ** (levels - level)
        shape = (channels // 2 if level > 0 else channels, side, side)
        bases.append(normflows.distributions.DiagGaussian(shape))
    model = normflows.MultiscaleFlow(bases, flows, merges, class_cond=False)
    return model, every, lambda x: model.log_prob(x, None), lambda n: model.sample(n)[0]
