"""Strided depthwise convolutions give the same outputs and gradients when they are trained at stride 1."""

import copy

import pytest
import torch
from torch import nn

from trainer.devices import StridedDepthwiseConv2d, train_strided_depthwise_at_stride_one


@pytest.mark.parametrize("side", [7, 8])
@pytest.mark.parametrize(
    "options", [{}, {"padding": 1}, {"stride": (2, 3)}, {"dilation": 2, "padding": 2, "bias": False}]
)
def test_outputs_and_gradients_are_the_same(options: dict, side: int):
    torch.manual_seed(0)
    convolution = nn.Conv2d(6, 12, 3, **{"stride": 2, "groups": 6} | options).double()
    changed = copy.deepcopy(convolution)
    train_strided_depthwise_at_stride_one(changed)
    assert type(changed) is StridedDepthwiseConv2d
    pixels = torch.randn(2, 6, side, side, dtype=torch.double)

    results = []
    for module in (convolution, changed):
        seen = pixels.clone().requires_grad_()
        output = module(seen)
        output.square().sum().backward()
        results.append([output, seen.grad, *(parameter.grad for parameter in module.parameters())])
    torch.testing.assert_close(results[1], results[0])
    torch.testing.assert_close(changed.eval()(pixels), convolution(pixels), rtol=0, atol=0)


def test_other_convolutions_stay_as_they_are():
    model = nn.Sequential(
        nn.Conv2d(6, 6, 3, groups=6),
        nn.Conv2d(6, 6, 3, stride=2),
        nn.Conv2d(6, 6, 3, stride=2, groups=2),
        nn.Conv2d(1, 6, 3, stride=2),
        nn.Conv2d(6, 6, 3, stride=2, groups=6, padding=1, padding_mode="reflect"),
    )
    train_strided_depthwise_at_stride_one(model)
    assert {type(module) for module in model} == {nn.Conv2d}
