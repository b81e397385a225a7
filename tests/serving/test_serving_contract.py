"""What clients may rely on: right answers, or INVALID_ARGUMENT, and a server that goes on.

Requests are made and answers are read without tfseg; what is right, its predictors tell.
"""

import base64
import io
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from detector_stand_in import PLAIN
from image_files import encoded, jpeg_that_declares, picture, png_of_zeros, turned_jpeg
from PIL import Image

from tfseg.data.io import MAX_PIXELS, decode_image
from tfseg.predict import DetectionPredictor, Predictor
from tfseg.registry import Preprocessing

grpc = pytest.importorskip("grpc")
metadata_pb2 = pytest.importorskip("tensorflow_serving.apis.get_model_metadata_pb2")
pytestmark = pytest.mark.slow

RGB = Preprocessing("rgb", (120.0, 110.0, 100.0), (60.0, 60.0, 60.0))
SIZES = {"short_side": 60, "long_side": 100, "divisor": 32}
FILES = {
    "PNG": encoded(picture(40, 50)),
    "JPEG": encoded(picture(41, 53, seed=1), "JPEG"),
    "grey PNG": encoded(picture(20, 30, "L", seed=2)),
    "grey JPEG": encoded(picture(33, 31, "L", seed=3), "JPEG"),
    "RGBA": encoded(picture(35, 25, "RGBA", seed=4)),
    "16 bits": encoded(picture(28, 36, "I;16", seed=5)),
    "palette": encoded(picture(22, 44, "P", seed=6)),
    "turned by EXIF": turned_jpeg(picture(30, 48, seed=7), 6),
}
BAD = {
    "zero length": b"",
    "no image": b"no image at all",
    "truncated PNG": FILES["PNG"][:-40],
    "truncated JPEG header": FILES["JPEG"][:15],
    "damaged PNG": FILES["PNG"][:60] + bytes(40) + FILES["PNG"][100:],
    "GIF": encoded(picture(8, 8), "GIF"),
    "beyond the limit": png_of_zeros(1, MAX_PIXELS + 1, 0),
    "JPEG beyond the limit": jpeg_that_declares(65_000, 65_000),
}


@pytest.fixture(scope="module")
def expected(models):
    """The labels and probabilities of a file's content, as tfseg predicts them."""
    predictor = Predictor(models[0], RGB)

    def predict(file):
        image = decode_image(file, "file")
        return predictor(np.broadcast_to(image, (*image.shape[:2], 3)))

    return predict


def b64(file):
    return {"b64": base64.b64encode(file).decode()}


def labels_of(png):
    return np.asarray(Image.open(io.BytesIO(png)))


def check_rows(answer, files, expected):
    """An answer's labels, probabilities and sizes against what is right."""
    for index, file in enumerate(files):
        probabilities = expected(file)
        height, width = np.array(answer["sizes"])[index]
        assert (height, width) == probabilities.shape[:2]
        found = np.array(answer["probabilities"][index])
        np.testing.assert_allclose(found[:height, :width], probabilities, atol=1e-5)
        labels = np.array(answer["labels"][index])
        np.testing.assert_array_equal(labels[:height, :width], probabilities.argmax(-1))
        assert (labels[height:] == -1).all()
        assert (labels[:, width:] == -1).all()


def goes_on(server):
    """Both ways still answer a good request."""
    found = server.predict("road", "png", {"image_bytes": [FILES["PNG"]]})
    code, answer = server.post(
        "road:predict", {"signature_name": "png", "instances": [{"image_bytes": b64(FILES["PNG"])}]}
    )
    assert code == 200
    png = base64.b64decode(answer["predictions"][0]["b64"])
    np.testing.assert_array_equal(labels_of(png), labels_of(found["labels_png_bytes"][0]))


def test_status_and_signatures(server):
    code, answer = server.post("road", None)
    assert code == 200
    (version,) = answer["model_version_status"]
    assert (version["version"], version["state"]) == ("1", "AVAILABLE")
    code, answer = server.post("road/metadata", None)
    assert code == 200
    signatures = answer["metadata"]["signature_def"]["signature_def"]
    assert {"serving_default", "tensor", "tensor_uint8", "png"} <= set(signatures)
    assert signatures["png"]["inputs"]["image_bytes"]["dtype"] == "DT_STRING"
    request = metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = "road"
    found, response = metadata_pb2.SignatureDefMap(), server.stub.GetModelMetadata(request)
    assert response.metadata["signature_def"].Unpack(found)
    assert set(found.signature_def) == set(signatures)
    for model in ("road", "things"):  # batches of any size, as the server's batching needs
        answer = server.post(f"{model}/metadata", None)[1]
        for signature in answer["metadata"]["signature_def"]["signature_def"].values():
            for tensor in (*signature["inputs"].values(), *signature["outputs"].values()):
                shape = tensor["tensor_shape"]
                assert shape["unknown_rank"] or shape["dim"][0]["size"] == "-1"


def test_files_of_all_kinds_one_by_one_and_of_mixed_sizes_in_one_batch(server, expected):
    for file in FILES.values():
        answer = server.predict("road", "serving_default", {"image_bytes": [file]})
        check_rows(answer, [file], expected)
    files = list(FILES.values())
    check_rows(server.predict("road", "", {"image_bytes": files}), files, expected)
    answer = server.predict("road", "", {"image_bytes": files}, outputs=["sizes"])
    assert list(answer) == ["sizes"]
    pngs = server.predict("road", "png", {"image_bytes": files})["labels_png_bytes"]
    for file, png in zip(files, pngs, strict=True):
        np.testing.assert_array_equal(labels_of(png), expected(file).argmax(-1))


def test_rest_by_rows_and_by_columns(server, expected):
    files = [FILES["PNG"], FILES["grey PNG"]]
    code, answer = server.post(
        "road:predict", {"instances": [{"image_bytes": b64(file)} for file in files]}
    )
    assert code == 200
    rows = answer["predictions"]
    check_rows({key: [row[key] for row in rows] for key in rows[0]}, files, expected)
    request = {"inputs": {"image_bytes": [b64(file) for file in files]}}
    code, answer = server.post("road/versions/1:predict", request)
    assert code == 200
    check_rows(answer["outputs"], files, expected)
    code, answer = server.post(
        "road:predict", {"signature_name": "png", "inputs": [b64(file) for file in files]}
    )
    assert code == 200
    for file, png in zip(files, answer["outputs"], strict=True):
        labels = labels_of(base64.b64decode(png["b64"]))
        np.testing.assert_array_equal(labels, expected(file).argmax(-1))


def test_tensors_of_one_size(server, expected):
    files = [encoded(picture(26, 38, seed=seed)) for seed in range(3)]
    images = np.stack([decode_image(file, "file") for file in files])
    for name, dtype in (("tensor", np.float32), ("tensor_uint8", np.uint8)):
        answer = server.predict("road", name, {"images": images.astype(dtype)})
        answer["sizes"] = [[26, 38]] * 3
        check_rows(answer, files, expected)


def test_a_detector_answers_as_its_predictor(server, models):
    predictor = DetectionPredictor(models[1], PLAIN, **SIZES)
    files = list(FILES.values())
    answer = server.predict("things", "", {"image_bytes": files})
    for index, file in enumerate(files):
        image = decode_image(file, "file")
        found = predictor(np.broadcast_to(image, (*image.shape[:2], 3)))
        count = len(found)
        assert answer["num_detections"][index] == count > 0
        for name in ("boxes", "scores", "classes", "masks", "keypoints"):
            row = answer[name][index]
            np.testing.assert_allclose(row[:count], getattr(found, name), rtol=1e-5, err_msg=name)
            assert not row[count:].any()
        height, width = found.size
        labels = answer["semantic"][index][:height, :width]
        np.testing.assert_array_equal(labels, found.semantic)


def test_eight_clients_at_once(server, expected):
    files = [encoded(picture(30 + 5 * n, 70 - 4 * n, seed=n)) for n in range(8)]
    right = [expected(file).argmax(-1) for file in files]

    def client(number):
        for turn in range(6):
            file, bad = files[number], turn == 2 and number % 2
            if bad:  # among the good requests of the others
                with pytest.raises(grpc.RpcError):
                    server.predict("road", "png", {"image_bytes": [file[:50]]})
            elif turn % 2:
                request = {"signature_name": "png", "inputs": [b64(file)]}
                code, answer = server.post("road:predict", request)
                assert code == 200
                png = base64.b64decode(answer["outputs"][0]["b64"])
                np.testing.assert_array_equal(labels_of(png), right[number])
            else:
                found = server.predict("road", "png", {"image_bytes": [file]})
                labels = labels_of(found["labels_png_bytes"][0])
                np.testing.assert_array_equal(labels, right[number])
        return number

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(client, range(8), timeout=100)) == list(range(8))


@pytest.mark.parametrize("model", ["road", "things"])
def test_bad_files_are_invalid_arguments(server, model):
    for name, file in BAD.items():
        for files in ([file], [FILES["PNG"], file]):
            with pytest.raises(grpc.RpcError) as raised:
                server.predict(model, "serving_default", {"image_bytes": files})
            assert raised.value.code() == grpc.StatusCode.INVALID_ARGUMENT, name
        request = {"instances": [{"image_bytes": b64(file)}]}
        code, answer = server.post(f"{model}:predict", request)
        assert code == 400, name
        assert answer["error"], name
    small = [png_of_zeros(1, 20_000), png_of_zeros(20_000, 1)]  # huge when they are padded
    for files, message in (
        ([BAD["beyond the limit"]], f"the limit of {MAX_PIXELS}"),
        (small, "padded to one size"),
        ([BAD["no image"]], "neither a JPEG nor a PNG"),
        ([], "one image or more"),
    ):
        with pytest.raises(grpc.RpcError, match=message) as raised:
            server.predict(model, "serving_default", {"image_bytes": files})
        assert raised.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    goes_on(server)


def test_bad_requests_are_refused(server):
    image = np.zeros((1, 8, 8, 3), np.uint8)
    for signature, inputs in {
        "wrong dtype": ("serving_default", {"image_bytes": np.zeros(1, np.float32)}),
        "wrong dtype of a tensor": ("tensor", {"images": image}),
        "missing input": ("serving_default", {}),
        "unknown input": ("serving_default", {"images": [FILES["PNG"]]}),
        "too many inputs": ("tensor_uint8", {"images": image, "more": image}),
        "wrong rank": ("serving_default", {"image_bytes": [[FILES["PNG"]]]}),
        "wrong channels": ("tensor_uint8", {"images": image[..., :2]}),
        "unknown signature": ("nothing", {"image_bytes": [FILES["PNG"]]}),
    }.values():
        with pytest.raises(grpc.RpcError) as raised:
            server.predict("road", signature, inputs)
        assert raised.value.code() == grpc.StatusCode.INVALID_ARGUMENT, (signature, inputs)
    for request in (
        b"{no json",
        {},
        {"instances": []},
        {"instances": [{}]},
        {"instances": [{"images": b64(FILES["PNG"])}]},
        {"instances": [{"image_bytes": 3}]},
        {"instances": [{"image_bytes": {"b64": "!"}}]},
        {"signature_name": "nothing", "inputs": [b64(FILES["PNG"])]},
        {"signature_name": "tensor", "inputs": [[["red"]]]},
    ):
        code, answer = server.post("road:predict", request)
        assert code == 400, request
        assert answer["error"], request
    goes_on(server)


def test_unknown_models_and_versions_are_not_found(server):
    with pytest.raises(grpc.RpcError) as raised:
        server.predict("nobody", "serving_default", {"image_bytes": [FILES["PNG"]]})
    assert raised.value.code() == grpc.StatusCode.NOT_FOUND
    request = {"inputs": [b64(FILES["PNG"])]}
    for path, sent in (
        ("nobody", None),
        ("nobody:predict", request),
        ("road/versions/7", None),
        ("road/versions/7:predict", request),
    ):
        assert server.post(path, sent)[0] == 404, path


def test_an_image_of_20_megapixels(server, expected):
    image = picture(4000, 5000, seed=9)
    file = encoded(image, "JPEG", quality=80)
    found = server.predict("road", "png", {"image_bytes": [file]})
    labels = labels_of(found["labels_png_bytes"][0])
    assert labels.shape == (4000, 5000)
    decoded = decode_image(file, "file")
    for top, left in ((0, 0), (1900, 2400), (3700, 4600)):  # parts, as far as their edges matter
        part = decoded[top : top + 300, left : left + 400]
        right = expected(encoded(Image.fromarray(part))).argmax(-1)
        inside = labels[top : top + 300, left : left + 400]
        differing = (inside != right)[2:-2, 2:-2]
        assert differing.mean() < 1e-4  # ties, which sums of another order decide
    assert len(np.unique(labels)) > 1
    goes_on(server)
