"""Options that are stated in several places stay in step."""

import dataclasses
import inspect

import pytest

import glowjax
from glowjax.runs import FlowPP, Glow, Jet, RealNVP, TarFlow


def options(function):
    """Names of the keyword options of a function, with their defaults."""
    parameters = inspect.signature(function).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}


def fields(kind):
    return {field.name: field.default for field in dataclasses.fields(kind)}


def test_a_backbone_has_the_options_of_its_glow():
    whole, backbone = options(glowjax.glow), options(glowjax.glow_backbone)
    assert whole == backbone | {"num_classes": None}


def test_the_two_directions_of_a_masked_autoregressive_flow_have_the_same_options():
    maf, iaf = options(glowjax.maf), options(glowjax.iaf)
    assert maf | {"activation": "silu", "order": "alternate"} == iaf


@pytest.mark.parametrize(
    ("kind", "function", "own", "left_out"),
    [
        (Glow, glowjax.glow, {"logit", "conditional"}, {"num_classes", "output_init"}),
        (RealNVP, glowjax.realnvp, {"architecture", "logit", "conditional"}, set()),
        (
            FlowPP,
            glowjax.flowpp,
            {"noise_steps", "noise_width", "noise_blocks", "logit", "conditional"},
            set(),
        ),
        (Jet, glowjax.jet, {"logit", "conditional"}, set()),
        (TarFlow, glowjax.tarflow, {"logit", "conditional", "label_dropout"}, {"guidance"}),
    ],
)
def test_the_model_of_a_config_has_the_options_of_its_function(kind, function, own, left_out):
    of_config, of_function = fields(kind), options(function)
    assert of_config.keys() - {"kind"} - own == of_function.keys() - left_out
    for name in of_function.keys() - left_out - {"dtype"}:  # a string in a config
        assert of_config[name] == of_function[name], name
