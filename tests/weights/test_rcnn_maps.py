"""R-CNN checkpoints of three code bases: names, layouts, and what is refused."""

from types import SimpleNamespace

import keras
import numpy as np
import pytest

import tfseg
from tfseg import models, registry
from tfseg.weights import WeightsError, load_weights, maps

BLOCKS = (3, 4, 6, 3)


def _without_weights(name, **options):
    with keras.StatelessScope(initialize_variables=False):
        return tfseg.build(name, **options)


def _stub(name, **options):
    """What a refusal asks of a model."""
    models.register_all()
    entry = registry.entry(name)
    options = {**entry.options(), **options}
    spec = registry.Spec(name, 80, options, preprocessing=entry.preprocess(options))
    return SimpleNamespace(spec=spec, layers=[])


def _name(target):
    return target if isinstance(target, str) else target.name


def _values(shape, seed):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def test_names_of_detectron():
    model = _without_weights("keypoint_rcnn_resnet101_fpn", style="detectron", mask=True)
    names = {layer: _name(target) for layer, target in maps.layer_names(model, "detectron").items()}
    by_hand = {
        "backbone.conv1": "conv1",
        "backbone.bn1": "res_conv1_bn",
        "backbone.layer1.0.downsample.0": "res2_0_branch1",
        "backbone.layer1.0.downsample.1": "res2_0_branch1_bn",
        "backbone.layer3.22.conv2": "res4_22_branch2b",
        "backbone.layer4.2.bn3": "res5_2_branch2c_bn",
        "fpn_lateral5": "fpn_inner_res5_2_sum",
        "fpn_lateral4": "fpn_inner_res4_22_sum_lateral",
        "fpn_lateral2": "fpn_inner_res2_2_sum_lateral",
        "fpn_output5": "fpn_res5_2_sum",
        "fpn_output3": "fpn_res3_3_sum",
        "proposal_generator.rpn_head.conv": "conv_rpn_fpn2",
        "proposal_generator.rpn_head.objectness_logits": "rpn_cls_logits_fpn2",
        "proposal_generator.rpn_head.anchor_deltas": "rpn_bbox_pred_fpn2",
        "roi_heads.box_head.fc1": "fc6",
        "roi_heads.box_head.fc2": "fc7",
        "roi_heads.box_predictor.cls_score": "cls_score",
        "roi_heads.box_predictor.bbox_pred": "bbox_pred",
        "roi_heads.mask_head.mask_fcn1": "_[mask]_fcn1",
        "roi_heads.mask_head.deconv": "conv5_mask",
        "roi_heads.mask_head.predictor": "mask_fcn_logits",
        "roi_heads.keypoint_head.conv_fcn8": "conv_fcn8",
        "roi_heads.keypoint_head.score_lowres": "kps_score_lowres",
    }
    assert by_hand.items() <= names.items()
    assert len(set(names.values())) == len(names)


def test_names_of_detectrons_c4():
    model = _without_weights("mask_rcnn_resnet50_c4", style="detectron")
    names = maps.layer_names(model, "detectron")
    assert names["roi_heads.res5.0.downsample.0"] == "res5_0_branch1"
    assert names["roi_heads.res5.2.bn1"].name == "res5_2_branch2a_bn"
    assert names["proposal_generator.rpn_head.conv"] == "conv_rpn"
    assert names["roi_heads.mask_head.deconv"] == "conv5_mask"


def test_names_of_torchvision():
    model = _without_weights("keypoint_rcnn_resnet50_fpn", style="torchvision", mask=True)
    names = maps.layer_names(model, "torchvision")
    assert names["backbone.layer1.0.downsample.1"] == "backbone.body.layer1.0.downsample.1"
    for layer, new, published in (
        ("fpn_lateral2", "backbone.fpn.inner_blocks.0.0", "backbone.fpn.inner_blocks.0"),
        ("fpn_output5", "backbone.fpn.layer_blocks.3.0", "backbone.fpn.layer_blocks.3"),
        ("proposal_generator.rpn_head.conv", "rpn.head.conv.0.0", "rpn.head.conv"),
        (
            "roi_heads.mask_head.mask_fcn4",
            "roi_heads.mask_head.3.0",
            "roi_heads.mask_head.mask_fcn4",
        ),
    ):
        assert (names[layer].name, names[layer].alternative) == (new, published)
    assert names["roi_heads.box_head.fc1"].name == "roi_heads.box_head.fc6"
    assert names["roi_heads.keypoint_head.conv_fcn3"] == "roi_heads.keypoint_head.4"


def test_names_of_detectron2s_c4():
    names = maps.layer_names(_without_weights("mask_rcnn_resnet50_c4"), "detectron2")
    assert names["backbone.bn1"] == "backbone.stem.conv1.norm"
    assert names["backbone.layer3.5.conv3"] == "backbone.res4.5.conv3"
    assert names["roi_heads.res5.0.downsample.1"] == "roi_heads.res5.0.shortcut.norm"
    names = maps.layer_names(_without_weights("panoptic_fpn_resnet50"), "detectron2")
    assert names["backbone.layer3.5.conv3"] == "backbone.bottom_up.res4.5.conv3"
    assert names["fpn_lateral3"] == "backbone.fpn_lateral3"
    assert names["sem_seg_head.p5.2"] == "sem_seg_head.p5.2"


def test_a_cascades_heads_are_numbered_in_detectron2():
    """configs/Misc/cascade_mask_rcnn_R_50_FPN_1x.yaml; no other code base's files have cascades."""
    names = maps.layer_names(_without_weights("cascade_mask_rcnn_resnet50_fpn"), "detectron2")
    for stage in range(3):
        fc1 = f"roi_heads.box_head.{stage}.fc1"
        assert (names[fc1].name, set(names[fc1].convert)) == (fc1, {"kernel"})
        for same in (f"box_head.{stage}.fc2", f"box_predictor.{stage}.bbox_pred"):
            assert names[f"roi_heads.{same}"] == f"roi_heads.{same}"
    assert names["backbone.conv1"] == "backbone.bottom_up.stem.conv1"
    for style in ("torchvision", "detectron"):
        with pytest.raises(ValueError, match=f"takes no weights of origin '{style}'"):
            maps.layer_names(_stub("cascade_rcnn_resnet50_fpn", style=style), style)


def test_a_guided_pyramid_finds_the_plain_ones_layers_in_detectron2():
    plain, guided = (
        maps.layer_names(_without_weights(f"mask_rcnn_resnet50_{kind}"), "detectron2")
        for kind in ("fpn", "sfpn")
    )
    own = {name for name in guided if name not in plain}
    assert all(_name(guided[name]) == _name(plain[name]) for name in plain)
    assert {name.split(".")[0] for name in own} == {"sfpn", "sem_seg_head"}


@pytest.mark.parametrize("family", ["cascade_mask_rcnn", "mask_rcnn"])
@pytest.mark.parametrize("trunk", ["resnet101_sfpn", "resnext101_64x4d_fpn", "resnet50_fpn"])
def test_trunks_of_cascades_and_guided_pyramids(family, trunk):
    model = _stub(f"{family}_{trunk}")
    model.layers = [SimpleNamespace(name="backbone.layer1.0.conv2", weights=[0])]
    names, _ = maps.backbone_layer_names(model, "detectron")
    assert names == {"backbone.layer1.0.conv2": "res2_0_branch2b"}


@pytest.mark.parametrize(
    ("style", "origin"),
    [
        ("detectron2", "torchvision"),
        ("detectron2", "detectron"),
        ("torchvision", "detectron2"),
        ("detectron", "detectron2"),
    ],
)
def test_another_order_of_classes_is_refused(style, origin):
    """All shapes may be the same: the background would become a class."""
    with pytest.raises(ValueError, match=f"build it with style='{origin}'"):
        maps.layer_names(_stub("keypoint_rcnn_resnet50_fpn", style=style), origin)


def test_trunks_of_other_rules_are_refused():
    stub = _stub("mask_rcnn_resnet50_fpn")
    with pytest.raises(ValueError, match="build it with style='torchvision'"):
        maps.backbone_layer_names(stub, "torchvision")
    # detectron2's own names are those of its conversions of torchvision's files.
    with pytest.raises(ValueError, match="build it with style='torchvision'"):
        maps.backbone_layer_names(stub, "detectron2")
    maps.backbone_layer_names(stub, "detectron")
    torchvision = _stub("mask_rcnn_resnet50_fpn", style="torchvision")
    with pytest.raises(ValueError, match="style='detectron' or style='detectron2'"):
        maps.backbone_layer_names(torchvision, "detectron")


def test_trunks_for_images_of_another_scale_are_refused():
    folded, with_statistics = {"res_conv1_bn_s", "res_conv1_bn_b"}, {"res_conv1_bn_rm"}
    ours, theirs = (
        _stub("mask_rcnn_resnext101_32x8d_fpn", style=style)
        for style in ("detectron2", "detectron")
    )
    with pytest.raises(ValueError, match="build it with style='detectron'"):
        maps.check(ours, "detectron", "backbone", folded)
    with pytest.raises(ValueError, match="build it with style='detectron2'"):
        maps.check(theirs, "detectron", "backbone", with_statistics)
    maps.check(ours, "detectron", "backbone", with_statistics)
    maps.check(theirs, "detectron", "backbone", folded)
    for name in ("mask_rcnn_resnet50_c4", "mask_rcnn_resnext101_64x4d_fpn"):
        maps.check(_stub(name), "detectron", "backbone", folded)


def test_the_first_dense_layer_sees_channels_last():
    """A region flattened channels first times the file's kernel is ours times the variable."""
    target = maps.layer_names(_without_weights("faster_rcnn_resnet50_fpn"), "detectron2")
    convert = target["roi_heads.box_head.fc1"].convert["kernel"]
    kernel, region = _values((5, 3 * 49), 0), _values((7, 7, 3), 1)
    ours = region.reshape(-1) @ convert(kernel, (3 * 49, 5))
    theirs = kernel @ region.transpose(2, 0, 1).reshape(-1)
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


def _msra(scale, offset, mean=None, variance=None):
    """MSRA's ResNet-50 as Detectron has it, with these ends of the norms' blobs."""
    blobs = {"conv1_w": _values((64, 3, 7, 7), 0), "conv1_b": _values(64, 0)}
    blobs |= {"fc1000_w": _values((1000, 2048), 0), "fc1000_b": _values(1000, 0)}

    def norm(name, size):
        for seed, end in enumerate((scale, offset, mean, variance)):
            if end is not None:
                blobs[f"{name}_bn_{end}"] = np.abs(_values(size, seed)) + 0.5

    norm("res_conv1", 64)
    before = 64
    for stage, number in enumerate(BLOCKS, 2):
        inner = 2 ** (stage + 4)
        for block in range(number):
            name = f"res{stage}_{block}_branch"
            shapes = {"2a": (inner, before, 1, 1), "2b": (inner, inner, 3, 3)}
            shapes["2c"] = (4 * inner, inner, 1, 1)
            if block == 0:
                shapes["1"] = (4 * inner, before, 1, 1)
            for branch, shape in shapes.items():
                blobs[f"{name}{branch}_w"] = np.full(shape, stage + block / 8, np.float32)
                norm(f"{name}{branch}", shape[0])
            before = 4 * inner
    return blobs


@pytest.fixture(scope="module")
def c4():
    return tfseg.build("faster_rcnn_resnet50_c4")


def test_a_c4_detector_takes_the_whole_trunk_of_detectron2(c4):
    blobs = _msra("gamma", "beta", "running_mean", "running_var")
    head = c4.get_layer("roi_heads.box_predictor.cls_score").get_weights()[0]
    load_weights(c4, blobs, part="backbone")
    kernel = c4.get_layer("backbone.conv1").get_weights()[0]
    np.testing.assert_array_equal(kernel, blobs["conv1_w"].transpose(2, 3, 1, 0))
    norm = c4.get_layer("roi_heads.res5.0.downsample.1").get_weights()
    for value, end in zip(norm, ("gamma", "beta", "running_mean", "running_var"), strict=True):
        np.testing.assert_array_equal(value, blobs[f"res5_0_branch1_bn_{end}"])
    assert (c4.get_layer("roi_heads.res5.2.conv2").get_weights()[0] == 5.25).all()
    left = c4.get_layer("roi_heads.box_predictor.cls_score").get_weights()[0]
    np.testing.assert_array_equal(left, head)


def test_folded_norms_scale_and_shift(c4):
    blobs = _msra("s", "b")
    load_weights(c4, blobs, part="backbone")
    x = _values((1, 2, 2, 256), 3)
    y = c4.get_layer("backbone.layer1.0.bn3")(x, training=False)
    expected = x * blobs["res2_0_branch2c_bn_s"] + blobs["res2_0_branch2c_bn_b"]
    np.testing.assert_allclose(y, expected, rtol=1e-6, atol=1e-6)


def test_half_folded_trunks_are_refused(c4):
    blobs = _msra("s", "b", "rm", "riv")
    del blobs["res5_0_branch1_bn_rm"]
    with pytest.raises(WeightsError, match=r"missing \(1\): res5_0_branch1_bn_rm"):
        load_weights(c4, blobs, part="backbone")


def test_released_mobilenet_trunk(shared):
    path = shared("data/pretrained/mobilenetv2_1.0_notop_dequant.weights.h5")
    peer = keras.applications.MobileNetV2((96, 128, 3), include_top=False, weights=None)
    peer.load_weights(path)
    ours = tfseg.build("mask_rcnn_mobilenet_v2_fpn", 1, style="keras")
    load_weights(ours, path, part="backbone")
    last = ours.trunk.get_layer("backbone.features.17.conv.3").output
    theirs = keras.Model(peer.input, peer.get_layer("block_16_project_BN").output)
    x = np.random.default_rng(1).uniform(-1, 1, (1, 96, 128, 3)).astype("float32")
    expected = theirs(x)
    found = keras.Model(ours.trunk.input, last)(x)
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())
