"""The commands of `glowjax`; `glowjax.cli` is their door."""
