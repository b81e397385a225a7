"""The torch networks that the benchmarks measure are the ones they are measured beside."""

import math

import keras
import numpy as np
import pytest

import tfseg
from tfseg.benchmark import Job
from tfseg.complexity import count_macs
from tfseg.registry import entry

torch = pytest.importorskip("torch")
pytest.importorskip("torchvision")
import torch_peers  # noqa: E402
from torch_peers import contender  # noqa: E402

DILATION = {"dilated_vgg16", "dilated7_vgg16", "dilated8_vgg16", "dilated8_large_vgg16"}
#: of networks that do not take all sizes
SIZES = {
    **dict.fromkeys({*DILATION, "dilated10_vgg16"}, (388, 404)),
    **dict.fromkeys((n for n in torch_peers.NAMES if n.startswith("semantic_fpn")), (96, 64)),
    "deconvnet_vgg16": (224, 224),
    "fusionnet": (64, 96),
    "unet": (188, 204),
    "unet_release": (188, 204),
}


def torch_macs(net, images):
    """Multiply-accumulates of the convolutions and dense layers, and the output's shape."""
    total = 0

    def count(layer, inputs, output):
        nonlocal total
        up = isinstance(layer, torch.nn.ConvTranspose2d)
        places = (inputs[0] if up else output).shape[2:]
        total += layer.weight.numel() * math.prod(places)

    for layer in net.modules():
        if isinstance(layer, torch.nn.Conv2d | torch.nn.ConvTranspose2d | torch.nn.Linear):
            layer.register_forward_hook(count)
    with torch.inference_mode():
        shape = tuple(contender.output_of(net.eval(), images).shape)
    return total, shape


@pytest.mark.parametrize("name", torch_peers.NAMES)
def test_peer_has_the_same_parameters_products_and_output(name):
    """Nothing is computed: weights have no values on either side."""
    height, width = SIZES.get(name, (97, 65))
    with keras.StatelessScope(initialize_variables=False):
        model = tfseg.build(name)
        macs = count_macs(model, height, width)
        parameters = sum(math.prod(v.shape) for v in model.trainable_variables)
        expected = model.compute_output_shape((2, height, width, model.inputs[0].shape[-1]))
        channels = model.inputs[0].shape[-1]
    with torch.device("meta"):
        net = torch_peers.build(name, entry(name).num_classes)
        found, shape = torch_macs(net, torch.zeros(2, channels, height, width))
    assert sum(p.numel() for p in net.parameters() if p.requires_grad) == parameters
    assert found == macs
    assert shape == (2, expected[-1], *expected[1:-1])


@pytest.mark.parametrize("mode", ["infer", "train"])
@pytest.mark.parametrize("name", ["unet", "mobilenet_v2", "fcn_resnet50"])
def test_session_runs_a_network(mode, name):
    height, width = SIZES.get(name, (65, 33))
    session = torch_peers.session(Job(name, 3, height, width, 2, mode))
    assert isinstance(session.step(), float)
    session.matrix_product()
    assert session.facts["parameters"] > 1e6


def test_network_without_a_peer_is_refused():
    with pytest.raises(ValueError, match=r"'psp_mobilenet_v2' here; there is: .*psp_resnet50"):
        torch_peers.build("psp_mobilenet_v2", 3)


def torch_units(net):
    """(name in tfseg's model, convolution, norm) of every unit of the torch PSPNet."""
    blocks = iter(net.trunk[7:])
    units = [(f"backbone.{{}}{i + 1}", net.trunk[2 * i]) for i in range(3)]
    for stage, count in enumerate((3, 4, 6, 3), start=1):
        for index in range(count):
            block, prefix = next(blocks), f"backbone.layer{stage}.{index}."
            units += [(f"{prefix}{{}}{i}", getattr(block, f"conv{i}")) for i in (1, 2, 3)]
            if block.shortcut is not None:
                units.append((prefix + "downsample.{}", block.shortcut))
    levels = zip(net.bins, net.levels, strict=True)
    units += [(f"ppm.bin{size}.{{}}", level[1]) for size, level in levels]
    return [(name, *unit) for name, unit in [*units, ("head.{}", net.head[0])]]


def test_pspnet_of_the_same_weights_gives_the_same_logits():
    model = tfseg.build("psp_resnet50", 5)
    net = torch_peers.build("psp_resnet50", 5).eval()
    torch.manual_seed(0)
    for name, conv, norm in torch_units(net):
        torch.nn.init.uniform_(norm.weight, 0.3, 0.6)
        for values in (norm.bias, norm.running_mean):
            torch.nn.init.normal_(values, std=0.1)
        parts = ("0", "1") if "downsample" in name else ("conv", "bn")
        kernel = conv.weight.detach().numpy().transpose(2, 3, 1, 0)
        model.get_layer(name.format(parts[0])).set_weights([kernel])
        values = (norm.weight, norm.bias, norm.running_mean, norm.running_var)
        model.get_layer(name.format(parts[1])).set_weights([v.detach().numpy() for v in values])
    classifier = net.head[3]
    kernel = classifier.weight.detach().numpy().transpose(2, 3, 1, 0)
    model.get_layer("head.classifier").set_weights([kernel, classifier.bias.detach().numpy()])

    image = np.random.default_rng(0).normal(size=(1, 65, 97, 3)).astype(np.float32)
    with torch.inference_mode():
        expected = net(torch.from_numpy(image.transpose(0, 3, 1, 2))).numpy()
    logits = np.asarray(model(image, training=False)).transpose(0, 3, 1, 2)
    assert np.abs(expected).max() > 1e-3
    np.testing.assert_allclose(logits, expected, atol=1e-4 * np.abs(expected).max())
