from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from tightbound.networks import (
    ACTIVATIONS,
    MLP,
    ChannelNorm,
    ConvDecoder,
    ConvEncoder,
    Residual,
    Standardized,
    activation,
    start_at,
    xavier_,
)

SHAPES = [(1, 1, 1), (1, 2, 3), (2, 5, 5), (1, 6, 6), (3, 3, 40), (1, 28, 28), (3, 37, 53), (1, 105, 105)]
IDS = ["x".join(map(str, shape)) for shape in SHAPES]
every_shape = pytest.mark.parametrize("shape", SHAPES, ids=IDS)
blocks = pytest.mark.parametrize("blocks", [0, 1])


def all_used(network: nn.Module, x: Tensor) -> bool:
    """Whether each parameter and each input takes part in the output."""
    x = x.clone().requires_grad_()
    out = network(x)
    (out * torch.randn_like(out)).sum().backward()
    gradients = [x.grad, *(p.grad for p in network.parameters())]
    return all(g is not None and bool((g != 0).any()) for g in gradients) and bool((x.grad != 0).all())


def waken(network: nn.Module) -> nn.Module:
    """Take the zeros out of fresh residual blocks, which block gradients at the very first step."""
    for module in network.modules():
        if isinstance(module, Residual):
            for p in module.parameters():
                nn.init.normal_(p, std=0.1)
    return network


@blocks
@every_shape
def test_encoder_sees_every_pixel_of_any_shape(shape: tuple[int, int, int], blocks: int) -> None:
    network = waken(ConvEncoder(shape, 4, base=2, blocks=blocks, act="softplus"))
    x = torch.randn(2, *shape)
    assert network(x).shape == (2, 4)
    assert all_used(network, x)


@blocks
@every_shape
@pytest.mark.parametrize("planes", [(), (2,)])
def test_decoder_reaches_any_shape(shape: tuple[int, int, int], blocks: int, planes: tuple[int, ...]) -> None:
    network = waken(ConvDecoder(4, (*planes, *shape), base=2, blocks=blocks, act="softplus")).double()
    z = torch.randn(2, 4, dtype=torch.float64)
    assert network(z).shape == (2, *planes, *shape)
    assert all_used(network, z)
    assert (network(z)[0] != network(z)[1]).all()


@pytest.mark.parametrize("lead", [(), (3,), (5, 3), (2, 5, 3)])
@pytest.mark.parametrize(
    ("network", "shape"),
    [
        (MLP((2, 7, 6), (3, 4), hidden=(8,)), (2, 7, 6)),
        (MLP((5,), (3,), hidden=()), (5,)),
        (ConvEncoder((2, 7, 6), 3, base=2, blocks=1), (2, 7, 6)),
        (ConvDecoder(5, (2, 7, 6), base=2, blocks=1), (5,)),
        (ConvDecoder(5, (2, 1, 7, 6), base=2), (5,)),
    ],
    ids=["mlp", "linear", "encoder", "decoder", "decoder-of-two"],
)
def test_leading_axes_pass_through(network: nn.Module, shape: tuple[int, ...], lead: tuple[int, ...]) -> None:
    x = torch.randn(*lead, *shape)
    out = network(x)
    one_by_one = torch.stack([network(row) for row in x.reshape(-1, *shape)])
    torch.testing.assert_close(out, one_by_one.reshape(*lead, *one_by_one.shape[1:]), rtol=1e-4, atol=1e-5)


def test_mlp_without_hidden_layers_is_linear() -> None:
    network = MLP((2, 3), (4,), hidden=())
    x, y = torch.randn(5, 2, 3), torch.randn(5, 2, 3)
    torch.testing.assert_close(network(x) + network(y), network(x + y) + network(torch.zeros_like(x)))


def test_a_fresh_residual_block_is_the_identity() -> None:
    x = torch.randn(2, 3, 5, 5)
    assert torch.equal(Residual(3, act="relu")(x), x)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_each_activation_is_not_linear(name: str) -> None:
    act, x = activation(name), torch.tensor([-1.0, 0.5, 2.0])
    assert act(x)[0] + act(x)[2] != 2 * act(x)[1]


def test_xavier_sets_weights_biases_and_spares_zeroed_layers() -> None:
    network = ConvEncoder((1, 40, 40), 100, base=32, blocks=1)
    xavier_(network)
    weight = network.last.weight
    limit = math.sqrt(6 / (weight.shape[0] + weight.shape[1]))
    assert 0.99 * limit < weight.abs().max() <= limit
    assert all((m.bias == 0).all() for m in network.modules() if isinstance(m, (nn.Linear, nn.Conv2d)))
    x = torch.randn(1, 32, 5, 5)
    assert all(
        torch.equal(m(x), x) for m in network.modules() if isinstance(m, Residual) and m.body[2].in_channels == 32
    )


def test_start_at_sets_the_first_outputs() -> None:
    dense = MLP((2,), (2, 3), hidden=(4,))
    output = torch.randn(2, 3)
    start_at(dense, output)
    nn.init.zeros_(dense.last.weight)
    torch.testing.assert_close(dense(torch.randn(2)), output)

    image = ConvDecoder(2, (2, 3, 7, 7), base=2)
    output = torch.randn(2, 3, 1, 1).expand(2, 3, 7, 7)
    start_at(image, output)
    nn.init.zeros_(image.last.weight)
    torch.testing.assert_close(image(torch.randn(2)), output)


@pytest.mark.parametrize("shape", [(3, 7, 5), (2, 1, 9, 8), (1, 4, 4)])
def test_a_convolutional_decoder_starts_near_the_mean_image(shape: tuple[int, ...]) -> None:
    output, z = torch.randn(shape), torch.randn(500, 2)
    for image in (ConvDecoder(2, shape, base=8), xavier_(ConvDecoder(2, shape, base=8))):
        start_at(image, output)
        off = image(z).detach() - output
        assert 0 < float(off.square().mean()) < 0.05
        image.last.weight.data.zero_()
        assert torch.equal(image(z), output.expand(500, *shape))


def test_standardized_sees_zero_mean_and_unit_deviation() -> None:
    data = 5 + 3 * torch.randn(1000, 4)
    data[:, 1] = 7.0
    network = Standardized(nn.Identity(), data.mean(0), data.std(0))
    out = network(data)
    torch.testing.assert_close(out.mean(0), torch.zeros(4), rtol=0, atol=1e-5)
    torch.testing.assert_close(out.std(0), torch.tensor([1.0, 0.0, 1.0, 1.0]))


def test_standardized_keeps_its_constants_with_the_model() -> None:
    mean = torch.tensor([1.0, 2.0])
    saved = Standardized(nn.Identity(), mean + 4, torch.ones(2)).state_dict()
    assert set(saved) == {"mean", "deviation"}
    Standardized(nn.Identity(), mean, torch.ones(2)).load_state_dict(saved)
    assert mean.tolist() == [1.0, 2.0]


@pytest.mark.parametrize("shape", [(), (5,), (28, 28), (0, 4, 4), (1, 4, 0), (1, 1, 4, 4)])
def test_encoder_refuses_what_is_no_image(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r'Expected images of shape \(channels, height, width\); got .*network="mlp"'):
        ConvEncoder(shape, 3)


@pytest.mark.parametrize("shape", [(), (5,), (28, 28), (2, 0, 4, 4)])
def test_decoder_refuses_what_is_no_image(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"Expected images of shape \(channels, height, width\); got"):
        ConvDecoder(3, shape)


@pytest.mark.parametrize("given", [(3, 4), (4,), (1, 5, 4), (2, 4, 5)])
@pytest.mark.parametrize("network", [MLP((1, 4, 5), (3,)), ConvEncoder((1, 4, 5), 3)])
def test_refuses_input_of_another_shape(network: nn.Module, given: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"Expected input of shape \(..., 1, 4, 5\); got"):
        network(torch.zeros(given))


def test_decoder_refuses_latents_of_another_length() -> None:
    with pytest.raises(ValueError, match=r"Expected input of shape \(..., 4\); got \(2, 8\)"):
        ConvDecoder(4, (1, 6, 6))(torch.zeros(2, 8))


def test_unknown_activation_gets_a_hint() -> None:
    with pytest.raises(ValueError, match=r"Expected an activation among relu, .*; got 'rellu'. Did you mean 'relu'\?"):
        MLP((3,), (2,), act="rellu")
    with pytest.raises(ValueError, match=r"got 'zzz'\.$"):
        activation("zzz")


@pytest.mark.parametrize("set_", [lambda network: network, xavier_], ids=["fresh", "xavier"])
def test_the_four_pixels_that_unfold_from_one_place_start_alike(set_) -> None:
    """So a fresh decoder draws no checkerboard."""
    image = set_(ConvDecoder(3, (2, 1, 8, 12), base=4))(torch.randn(5, 3))
    squares = image.unflatten(-2, (4, 2)).unflatten(-1, (6, 2))
    assert torch.equal(squares, squares[..., :1, :, :1].expand_as(squares))
    assert image.std() > 0


def test_a_pixel_s_channels_are_normalised_by_themselves() -> None:
    norm, x = ChannelNorm(16), 3 + 5 * torch.randn(2, 16, 4, 3)
    expected = (x - x.mean(1, keepdim=True)) / x.var(1, correction=0, keepdim=True).add(norm.eps).sqrt()
    torch.testing.assert_close(norm(x), expected)
    x[1, :, 2, 1] += 100 * torch.randn(16)
    others = torch.ones(2, 4, 3, dtype=torch.bool)
    others[1, 2, 1] = False
    changed = norm(x).permute(0, 2, 3, 1)
    torch.testing.assert_close(changed[others], expected.permute(0, 2, 3, 1)[others])


def test_convolutions_run_channels_last() -> None:
    """Which costs a fifth less than torch's own order."""
    seen = []
    for network, given in ((ConvEncoder((3, 16, 16), 4, blocks=1), (3, 16, 16)), (ConvDecoder(4, (3, 16, 16)), (4,))):
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                module.register_forward_hook(
                    lambda m, x, y: seen.append(x[0].is_contiguous(memory_format=torch.channels_last))
                )
        network(torch.randn(2, *given))
    assert len(seen) == 8
    assert all(seen)
