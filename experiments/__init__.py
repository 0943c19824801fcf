"""Experiments: configs for `glowjax train`, and scripts that print and draw what they measured."""

from glowjax.progress import show_what_can_be_shown

show_what_can_be_shown()
