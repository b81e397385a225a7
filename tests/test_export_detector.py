import io
import json
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from detector_stand_in import PLAIN, StandIn
from PIL import Image, ImageOps

import tfseg
from tfseg.export_detector import check_export_detector, export_detector
from tfseg.predict import DetectionPredictor

SIZES = {"short_side": 60, "long_side": 100, "divisor": 32}


def image(height, width, channels=3, seed=0):
    """A smooth picture, as JPEG likes them."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (4, 5, channels), dtype=np.uint8)
    return tf.cast(tf.image.resize(small, (height, width)), tf.uint8).numpy()


def encoded(picture, kind="PNG"):
    file = io.BytesIO()
    Image.fromarray(picture.squeeze()).save(file, kind)
    return file.getvalue()


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    model = StandIn(keypoints=True, semantic=True)
    path = export_detector(
        model,
        tmp_path_factory.mktemp("saved") / "small",
        preprocessing=PLAIN,
        classes=("cat", "dog", "bird"),
        keypoints=("nose", "tail"),
        skeleton=((0, 1),),
        **SIZES,
    )
    loaded = tf.saved_model.load(str(path))
    return model, path, loaded


def check_row(answer, index, expected):
    """An answer's row against detections."""
    count = len(expected)
    assert answer["num_detections"][index] == count
    for name in ("boxes", "scores", "classes", "masks", "keypoints"):
        row = answer[name][index].numpy()
        np.testing.assert_allclose(row[:count], getattr(expected, name), rtol=1e-5, err_msg=name)
        assert not row[count:].any()
    labels, (height, width) = answer["semantic"][index].numpy(), expected.size
    np.testing.assert_array_equal(labels[:height, :width], expected.semantic)
    assert (labels[height:] == -1).all()
    assert (labels[:, width:] == -1).all()


def test_files_of_mixed_sizes_in_one_batch(exported):
    model, _, loaded = exported
    pictures = [image(40, 90, seed=1), image(97, 131, seed=2), image(50, 33, channels=1, seed=3)]
    files = [encoded(picture) for picture in pictures]
    answer = loaded.signatures["serving_default"](image_bytes=tf.constant(files))
    assert answer["boxes"].shape == (3, 6, 4)
    assert answer["classes"].dtype == answer["num_detections"].dtype == tf.int32
    predictor = DetectionPredictor(model, PLAIN, **SIZES)
    for index, picture in enumerate(pictures):
        check_row(answer, index, predictor(picture))


def test_jpeg_as_pillow_reads_it(exported):
    model, _, loaded = exported
    file = encoded(image(40, 90), "JPEG")
    answer = loaded.signatures["serving_default"](image_bytes=tf.constant([file]))
    decoded = np.asarray(Image.open(io.BytesIO(file)))
    check_row(answer, 0, DetectionPredictor(model, PLAIN, **SIZES)(decoded))


@pytest.mark.parametrize("name", ["tensor", "tensor_uint8"])
def test_tensors_of_one_size(exported, name):
    model, _, loaded = exported
    pictures = np.stack([image(41, 77, seed=seed) for seed in range(2)])
    dtype = np.float32 if name == "tensor" else np.uint8
    answer = loaded.signatures[name](images=tf.constant(pictures.astype(dtype)))
    predictor = DetectionPredictor(model, PLAIN, **SIZES)
    for index, picture in enumerate(pictures):
        check_row(answer, index, predictor(picture))


@pytest.mark.parametrize("style", ["detectron2", "torchvision", "detectron"])
def test_pasted_masks_are_the_predictors(tmp_path, style):
    model = StandIn(style=style)
    path = export_detector(model, tmp_path / "saved", preprocessing=PLAIN, **SIZES)
    answer = tf.saved_model.load(str(path)).signatures["pasted"](images=image(41, 77)[None])
    found = DetectionPredictor(model, PLAIN, **SIZES)(image(41, 77))
    masks = answer["masks"].numpy()
    assert masks.dtype == np.uint8
    assert masks.shape == (1, 6, 41, 77)
    assert not masks[0, len(found) :].any()
    agree = masks[0, : len(found)] == found.pasted()
    assert agree.mean() > 0.999  # but for probabilities of 0.5, to the last bit
    assert found.pasted().any()


def test_no_detections(tmp_path):
    path = export_detector(StandIn(dark=5.0), tmp_path / "saved", preprocessing=PLAIN, **SIZES)
    signatures = tf.saved_model.load(str(path)).signatures
    dark = np.zeros((1, 40, 50, 3), np.uint8)
    for name in ("tensor_uint8", "pasted"):
        answer = signatures[name](images=dark)
        assert answer["num_detections"].numpy().tolist() == [0]
        assert not any(value.numpy().any() for value in answer.values())
    files = tf.constant([encoded(dark[0]), encoded(image(50, 60))])
    counts = signatures["serving_default"](image_bytes=files)["num_detections"]
    assert counts.numpy().tolist() == [0, 3]


def test_a_model_without_masks_pastes_none(tmp_path):
    path = export_detector(StandIn(masks=False), tmp_path / "saved", preprocessing=PLAIN, **SIZES)
    signatures = tf.saved_model.load(str(path)).signatures
    assert sorted(signatures) == ["network", "serving_default", "tensor", "tensor_uint8"]
    assert "masks" not in signatures["tensor"].structured_outputs


def test_the_networks_signature_answers_as_the_model(exported):
    model, _, loaded = exported
    batch = tf.random.uniform((2, 64, 96, 3), 0, 255, seed=1)
    sizes = tf.constant([[60.0, 90.0], [64.0, 50.0]])
    expected = model(batch, sizes=sizes)
    answer = tf.function(
        lambda: loaded.signatures["network"](images=batch, sizes=sizes), jit_compile=True
    )()
    assert answer.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(answer[name], value, rtol=1e-5, err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mask_rcnn", "keypoint_rcnn"])
def test_networks_exported_and_compiled_by_xla(tmp_path, name):
    """Of two classes, so that untrained scores are high enough to be found."""
    model = tfseg.build(f"{name}_mobilenet_v2_fpn", num_classes=2)
    preprocessing = model.spec.preprocessing
    path = export_detector(
        model, tmp_path / "saved", preprocessing=preprocessing, xla=True, **SIZES
    )
    worst = check_export_detector(path, model, [image(70, 90, seed=1), image(50, 40, seed=2)])
    assert worst["boxes"] < 1e-2
    assert worst["scores"] < 1e-4
    loaded = tf.saved_model.load(str(path))
    batch, sizes = tf.random.uniform((1, 64, 96, 3), -1, 1, seed=1), tf.constant([[60.0, 90.0]])
    expected = loaded.signatures["network"](images=batch, sizes=sizes)
    answer = tf.function(
        lambda: loaded.signatures["network"](images=batch, sizes=sizes), jit_compile=True
    )()
    assert expected["valid"].numpy().sum() > 10
    assert answer.keys() == expected.keys()
    np.testing.assert_array_equal(answer["valid"], expected["valid"])
    np.testing.assert_allclose(answer["scores"], expected["scores"], atol=1e-4)


@pytest.mark.slow
def test_weights_as_constants(tmp_path):
    model = tfseg.build("faster_rcnn_mobilenet_v2_fpn", num_classes=2)
    path = export_detector(
        model, tmp_path / "saved", preprocessing=model.spec.preprocessing, freeze=True, **SIZES
    )
    assert not any(shape for _, shape in tf.train.list_variables(str(path / "variables/variables")))
    worst = check_export_detector(path, model, [image(70, 90, seed=1)])
    assert worst["boxes"] < 1e-2
    assert worst["scores"] < 1e-4


@pytest.mark.slow
def test_a_cascade_on_a_guided_pyramid_answers_as_the_model(tmp_path):
    tf.keras.utils.set_random_seed(0)
    model = tfseg.build("cascade_mask_rcnn_mobilenet_v2_sfpn", num_classes=2)
    preprocessing = model.spec.preprocessing
    path = export_detector(model, tmp_path / "saved", preprocessing=preprocessing, **SIZES)
    batch = tf.random.uniform((2, 64, 96, 3), -1, 1, seed=1)
    sizes = tf.constant([[60.0, 90.0], [64.0, 50.0]])
    expected = model(batch, sizes=sizes)
    answer = tf.saved_model.load(str(path)).signatures["network"](images=batch, sizes=sizes)
    assert answer.keys() == expected.keys() == {"boxes", "scores", "classes", "valid", "masks"}
    assert expected["valid"].numpy().sum() > 10
    for name, value in expected.items():
        np.testing.assert_allclose(answer[name], value, rtol=1e-5, atol=1e-5, err_msg=name)


def test_facts(exported):
    facts = json.loads((exported[1] / "assets.extra/model_info.json").read_text())
    assert facts["classes"] == ["cat", "dog", "bird"]
    assert facts["keypoints"] == ["nose", "tail"]
    assert facts["skeleton"] == [[0, 1]]
    assert facts["style"] == "detectron2"
    assert (facts["short_side"], facts["long_side"], facts["divisor"]) == (60, 100, 32)
    assert facts["preprocessing"]["channels"] == "rgb"


def test_check_export_measures_the_differences(exported):
    model, path, _ = exported
    pictures = [image(40, 90, seed=1), image(97, 131, channels=1, seed=2)]
    worst = check_export_detector(path, model, pictures)
    assert worst.keys() > {"boxes", "scores", "classes", "masks", "keypoints", "semantic"}
    assert max(worst.values()) < 1e-4
    changed = StandIn(keypoints=True, semantic=True)
    changed.gain.assign(0.5)
    assert check_export_detector(path, changed, pictures)["scores"] > 0.1
    changed.dark = 1000.0
    with pytest.raises(ValueError, match="answers num_detections"):
        check_export_detector(path, changed, pictures)
    with pytest.raises(ValueError, match="no images"):
        check_export_detector(path, model, [])


def test_pngs_are_of_panoptic_models_and_of_the_images_sizes(tmp_path):
    with pytest.raises(ValueError, match="'stand_in' does not give"):
        export_detector(StandIn(), tmp_path / "none", preprocessing=PLAIN, png=True)
    assert not (tmp_path / "none").exists()
    model = StandIn(semantic=True)
    path = export_detector(model, tmp_path / "saved", preprocessing=PLAIN, png=True, **SIZES)
    pictures = [image(40, 90, seed=1), image(97, 131, seed=2)]
    serve = tf.saved_model.load(str(path)).signatures["png"]
    answer = serve(image_bytes=tf.constant([encoded(picture) for picture in pictures]))
    assert "semantic" not in answer
    predictor = DetectionPredictor(model, PLAIN, **SIZES)
    for file, picture in zip(answer["semantic_png_bytes"].numpy(), pictures, strict=True):
        labels = np.asarray(Image.open(io.BytesIO(file)))
        np.testing.assert_array_equal(labels, predictor(picture).semantic)


def test_photographs_are_turned_as_their_orientation_says(exported):
    model, _, loaded = exported
    stored = image(40, 90, seed=4)
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright
    file = io.BytesIO()
    Image.fromarray(stored).save(file, "JPEG", exif=exif)
    answer = loaded.signatures["serving_default"](image_bytes=tf.constant([file.getvalue()]))
    upright = np.asarray(ImageOps.exif_transpose(Image.open(file)))
    assert upright.shape == (90, 40, 3)
    check_row(answer, 0, DetectionPredictor(model, PLAIN, **SIZES)(upright))


def test_errors_before_any_work(tmp_path):
    with pytest.raises(ValueError, match="classes has 1 entries, the model 3"):
        export_detector(StandIn(), tmp_path, preprocessing=PLAIN, classes=("cat",))
    (tmp_path / "7").mkdir()
    with pytest.raises(FileExistsError, match="7 exists"):
        export_detector(StandIn(), tmp_path, preprocessing=PLAIN, version=7)


def test_loads_where_there_is_no_tfseg(exported, tmp_path):
    model, path, _ = exported
    (tmp_path / "image.png").write_bytes(encoded(image(40, 90)))
    program = f"""
import sys
sys.modules["tfseg"] = None
import numpy as np
import tensorflow as tf
loaded = tf.saved_model.load({str(path)!r})
answer = loaded.signatures["serving_default"](image_bytes=tf.io.read_file("image.png")[None])
np.save("boxes.npy", answer["boxes"].numpy())
"""
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True, timeout=120)
    expected = DetectionPredictor(model, PLAIN, **SIZES)(image(40, 90)).boxes
    np.testing.assert_allclose(np.load(tmp_path / "boxes.npy")[0, :3], expected, rtol=1e-5)
