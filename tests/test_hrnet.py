"""The backbone is the official HRNet where it should be, and a faithful smaller one elsewhere."""

import pytest
import torch

from hmdiff.hrnet import HRNet, Module


def conv(c_in, c_out, kernel):
    """Parameters of a convolution without bias and its batch norm."""
    return c_in * c_out * kernel**2 + 2 * c_out


def bottleneck(c_in, planes):
    shortcut = 0 if c_in == 4 * planes else conv(c_in, 4 * planes, 1)
    return conv(c_in, planes, 1) + conv(planes, planes, 3) + conv(planes, 4 * planes, 1) + shortcut


def exchange(widths):
    """Parameters of all fuse layers of one module."""
    total = 0
    for target, c_t in enumerate(widths):
        for source, c_s in enumerate(widths):
            if source > target:
                total += conv(c_s, c_t, 1)
            elif source < target:
                total += (target - source - 1) * conv(c_s, c_s, 3) + conv(c_s, c_t, 3)
    return total


def count(width, blocks, modules, context):
    """Parameters of the trunk, by the arithmetic of the HRNet paper's figure."""
    widths = [width * 2**i for i in range(4)]
    total = conv(3, width, 3) + conv(width, width, 3)
    total += bottleneck(width, width) + (blocks - 1) * bottleneck(4 * width, width)
    total += conv(4 * width, widths[0], 3) + conv(4 * width, widths[1], 3)
    total += conv(widths[1], widths[2], 3) + conv(widths[2], widths[3], 3)
    for n, repeats in zip((2, 3, 4), modules, strict=True):
        residual = sum(blocks * 2 * conv(c, c, 3) for c in widths[:n])
        total += repeats * (residual + exchange(widths[:n]))
    heads = [width // 2 * 2**i for i in range(4)]
    total += sum(bottleneck(c, h) for c, h in zip(widths, heads, strict=True))
    total += sum(conv(4 * h, 8 * h, 3) + 8 * h for h in heads[:3])
    return total + conv(4 * heads[3], context, 1) + context


@pytest.fixture(scope="module")
def official():
    with torch.device("meta"):
        return HRNet()


def parameters(net):
    return sum(p.numel() for p in net.parameters())


def test_w64_has_the_published_number_of_parameters(official):
    """128.06 M with the 1000-class layer that we do not carry."""
    classifier = 2048 * 1000 + 1000
    assert (parameters(official) + classifier) / 1e6 == pytest.approx(128.06, abs=0.005)


@pytest.mark.parametrize(
    "setting", [(64, 4, (1, 4, 3), 2048), (8, 1, (1, 1, 1), 256), (16, 2, (1, 2, 1), 512)]
)
def test_parameters_follow_from_width_and_depth(setting):
    with torch.device("meta"):
        assert parameters(HRNet(*setting)) == count(*setting)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("conv1.weight", (64, 3, 3, 3)),
        ("bn2.running_var", (64,)),
        ("layer1.0.downsample.0.weight", (256, 64, 1, 1)),
        ("layer1.3.conv3.weight", (256, 64, 1, 1)),
        ("transition1.0.0.weight", (64, 256, 3, 3)),
        ("transition1.1.0.0.weight", (128, 256, 3, 3)),
        ("transition3.3.0.0.weight", (512, 256, 3, 3)),
        ("stage2.0.branches.1.3.conv2.weight", (128, 128, 3, 3)),
        ("stage3.3.branches.2.0.bn1.weight", (256,)),
        ("stage4.2.fuse_layers.0.3.0.weight", (64, 512, 1, 1)),
        ("stage4.2.fuse_layers.3.0.0.0.weight", (64, 64, 3, 3)),
        ("stage4.2.fuse_layers.3.0.2.0.weight", (512, 64, 3, 3)),
        ("incre_modules.0.0.downsample.0.weight", (128, 64, 1, 1)),
        ("incre_modules.3.0.conv3.weight", (1024, 256, 1, 1)),
        ("downsamp_modules.2.0.weight", (1024, 512, 3, 3)),
        ("downsamp_modules.2.0.bias", (1024,)),
        ("final_layer.0.weight", (2048, 1024, 1, 1)),
    ],
)
def test_w64_carries_the_official_names_and_shapes(official, name, shape):
    assert tuple(official.state_dict()[name].shape) == shape


def test_w64_has_no_first_stage_transition_for_branches_that_keep_their_width(official):
    names = official.state_dict()
    for absent in ("transition2.0.", "transition2.1.", "transition3.2.", "layer1.1.downsample"):
        assert not any(name.startswith(absent) for name in names)


def test_w64_turns_224_px_into_2048_x_7_x_7():
    with torch.device("meta"):
        assert HRNet()(torch.empty(1, 3, 224, 224)).shape == (1, 2048, 7, 7)


def test_slim_network_at_other_resolutions():
    net = HRNet(8, 1, (1, 1, 1), 256).eval()
    with torch.no_grad():
        assert net(torch.zeros(2, 3, 224, 224)).shape == (2, 256, 7, 7)
        assert net(torch.zeros(1, 3, 128, 128)).shape == (1, 256, 4, 4)


def test_every_parameter_takes_part():
    torch.manual_seed(0)
    net = HRNet(4, 1, (1, 1, 1), 128)
    net(torch.randn(2, 3, 64, 64)).square().sum().backward()
    assert all(p.grad is not None for p in net.parameters())


def test_a_module_without_weights_in_its_branches_adds_up_resolutions():
    """With identity fusions scaled to 1 and all else 0, an output is the sum of what arrives."""
    module = Module([4, 8], 1).eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()
        up, down = module.fuse_layers[0][1], module.fuse_layers[1][0]
        up[0].weight[:, :4, 0, 0] = torch.eye(4)
        up[1].weight.fill_(1)
        down[0][0].weight[:4, :, 1, 1] = torch.eye(4)
        down[0][1].weight.fill_(1)
        for norm in (up[1], down[0][1]):
            norm.eps = 0.0
        high, low = torch.rand(1, 4, 4, 4), torch.rand(1, 8, 2, 2)
        fused_high, fused_low = module([high, low])
    upsampled = low[:, :4].repeat_interleave(2, -1).repeat_interleave(2, -2)
    torch.testing.assert_close(fused_high, high + upsampled)
    expected = low.clone()
    expected[:, :4] += high[:, :, ::2, ::2]
    torch.testing.assert_close(fused_low, expected)


def test_odd_width_is_refused():
    with pytest.raises(ValueError, match=r"phi\.width: must be an even number"):
        HRNet(7)
