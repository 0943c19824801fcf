"""glowjax export."""

from dataclasses import dataclass
from pathlib import Path

from glowjax.commands.options import Weights, parse
from glowjax.runs import exporting


@dataclass(frozen=True, kw_only=True)
class Export(Weights):
    """Write a run's model to hand on: safetensors, config, StableHLO programs and a model card."""

    out: Path | None = None
    """A new or empty folder; default: exported in the run's folder."""
    license: str = "other"
    """Of the weights, as the Hugging Face Hub names licences: mit, cc-by-4.0, …"""
    programs: bool = True
    """Whether to write the programs that run without glowjax."""
    dtype: exporting.Stored = "float32"
    """Of the stored weights of the nets. float16 halves the file."""


def export(arguments: list[str]) -> None:
    """Exports a run's model."""
    options = parse(Export, "export", arguments)
    out = (options.out or options.run / "exported").expanduser()
    exporting.export(
        options.run,
        out,
        checkpoint=options.checkpoint,
        weights=options.weights,
        license=options.license,
        programs=options.programs,
        dtype=options.dtype,
    )
    for file in sorted(out.iterdir()):
        print(f"{file}  {file.stat().st_size:,} bytes")
