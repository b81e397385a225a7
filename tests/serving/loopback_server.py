"""A stand-in for TensorFlow Serving: the official gRPC stubs and the REST form, on 127.0.0.1.

A process of its own without tfseg: what it answers, the SavedModel alone answers, run in a session
as the real server runs it. Names, codes and messages are those of tensorflow_model_server
(predict_util.cc, http_rest_api_handler.cc, json_tensor.cc, http_server.cc).

    python -I loopback_server.py '{"models": {"NAME": "FOLDER"}, "loading": ["NAME"]}'

It prints its ports as JSON when it answers, and ends with its standard input or after LIFETIME.
"""

import base64
import json
import os
import re
import sys
import threading
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

sys.modules["tfseg"] = None  # whoever imports it from here on gets an ImportError
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import grpc  # noqa: E402
import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402
from google.protobuf.json_format import MessageToDict  # noqa: E402
from tensorflow_serving.apis import (  # noqa: E402
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

LIFETIME = 2 * 60 * 60  # seconds, longer than any run of all tests
LARGEST = 128 * 2**20  # bytes of a request
CODES = {code.value[0]: code for code in grpc.StatusCode}
INVALID, NOT_FOUND = 3, 5
HTTP = {3: 400, 4: 504, 5: 404, 8: 429, 9: 400, 11: 400, 12: 501, 14: 503}
PATH = re.compile(r"/v1/models/([^/:]+)(?:/versions/(\d+))?(/metadata|:predict)?")
State = get_model_status_pb2.ModelVersionStatus.State


class Refused(Exception):
    """What a request is answered with in place of a result."""

    def __init__(self, code, message):
        super().__init__(message)
        self.code, self.message = code, message


class Model:
    """The highest version below a folder."""

    def __init__(self, folder):
        self.version = max(int(p.name) for p in Path(folder).iterdir() if p.name.isdecimal())
        self.session = tf.compat.v1.Session(graph=tf.Graph())
        with self.session.graph.as_default():
            path = str(Path(folder) / str(self.version))
            meta = tf.compat.v1.saved_model.load(self.session, ["serve"], path)
        self.signatures = dict(meta.signature_def)

    def signature(self, name):
        name = name or "serving_default"
        if name not in self.signatures:
            raise Refused(INVALID, f'Serving signature key "{name}" not found.')
        return self.signatures[name]

    def predict(self, name, inputs, outputs=()):
        """Runs a signature on arrays by name; the outputs wanted, or all."""
        signature = self.signature(name)
        if len(inputs) != len(signature.inputs):
            missing = ",".join(set(signature.inputs) - set(inputs))
            raise Refused(
                INVALID,
                f"input size does not match signature: {len(inputs)}!={len(signature.inputs)}. "
                f"Missing but required: {{{missing}}}.",
            )
        feeds = {}
        for alias, value in inputs.items():
            if alias not in signature.inputs:
                raise Refused(INVALID, f"input tensor alias not found in signature: {alias}")
            wanted = signature.inputs[alias]
            found, expected = tf.as_dtype(value.dtype), tf.as_dtype(wanted.dtype)
            if found != expected:
                message = f"Expects {alias} to be {expected.name} but {found.name} is provided"
                raise Refused(INVALID, message)
            feeds[wanted.name] = value
        unknown = set(outputs) - set(signature.outputs)
        if unknown:
            message = f"output tensor alias not found in signature: {','.join(unknown)}"
            raise Refused(INVALID, message)
        fetches = {k: signature.outputs[k].name for k in outputs or signature.outputs}
        try:
            return self.session.run(fetches, feeds)
        except tf.errors.OpError as error:
            raise Refused(error.error_code, error.message) from error
        except ValueError as error:  # a shape that the signature excludes
            raise Refused(INVALID, str(error)) from error


class Models:
    """All models, those that are loaded and those that never will be."""

    def __init__(self, loaded, loading):
        self.loaded = {name: Model(folder) for name, folder in loaded.items()}
        self.loading = loading

    def find(self, name, version):
        model = self.loaded.get(name)
        if model is None or version not in (None, model.version):
            wanted = f"Latest({name})" if version is None else f"Specific({name}, {version})"
            raise Refused(NOT_FOUND, f"Servable not found for request: {wanted}")
        return model

    def states(self, name, version):
        """Versions and their states."""
        known = {1: State.LOADING} if name in self.loading else {}
        if name in self.loaded:
            known = {self.loaded[name].version: State.AVAILABLE}
        found = {v: state for v, state in known.items() if version in (None, v)}
        if not found:
            wanted = f"any versions of model {name}"
            if version is not None:
                wanted = f"version {version} of model {name}"
            raise Refused(NOT_FOUND, f"Could not find {wanted}")
        return found


def answering(method):
    """A gRPC method that answers refusals with their status."""

    def answer(self, request, context):
        try:
            return method(self, request)
        except Refused as refused:
            context.abort(CODES[refused.code], refused.message)

    return answer


def asked_version(spec):
    return spec.version.value if spec.HasField("version") else None


class Predictions(prediction_service_pb2_grpc.PredictionServiceServicer):
    def __init__(self, models):
        self.models = models

    @answering
    def Predict(self, request):
        model = self.models.find(request.model_spec.name, asked_version(request.model_spec))
        inputs = {}
        for alias, proto in request.inputs.items():
            try:
                inputs[alias] = tf.make_ndarray(proto)
            except (TypeError, ValueError) as error:
                raise Refused(INVALID, f"tensor parsing error: {alias}") from error
        name = request.model_spec.signature_name
        found = model.predict(name, inputs, request.output_filter)
        response = predict_pb2.PredictResponse()
        response.model_spec.name = request.model_spec.name
        response.model_spec.version.value = model.version
        response.model_spec.signature_name = name or "serving_default"
        for key, value in found.items():
            response.outputs[key].CopyFrom(tf.make_tensor_proto(value))
        return response

    @answering
    def GetModelMetadata(self, request):
        model = self.models.find(request.model_spec.name, asked_version(request.model_spec))
        signatures = get_model_metadata_pb2.SignatureDefMap(signature_def=model.signatures)
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        response.model_spec.name = request.model_spec.name
        response.model_spec.version.value = model.version
        response.metadata["signature_def"].Pack(signatures)
        return response


class Statuses(model_service_pb2_grpc.ModelServiceServicer):
    def __init__(self, models):
        self.models = models

    @answering
    def GetModelStatus(self, request):
        spec = request.model_spec
        response = get_model_status_pb2.GetModelStatusResponse()
        for version, state in self.models.states(spec.name, asked_version(spec)).items():
            response.model_version_status.add(version=version, state=state)
        return response


def from_json(value, info):
    """A JSON value as an array of a signature's input."""
    dtype = tf.as_dtype(info.dtype)

    def leaf(item):
        if isinstance(item, list):
            return [leaf(one) for one in item]
        if dtype != tf.string:
            right = isinstance(item, int | float) and not isinstance(item, bool)
        elif isinstance(item, dict) and list(item) == ["b64"]:
            try:
                return base64.b64decode(item["b64"], validate=True)
            except (TypeError, ValueError) as error:
                raise Refused(INVALID, "Unable to base64 decode") from error
        else:
            item, right = str(item).encode(), isinstance(item, str)
        if not right:
            message = f"JSON Value: {item!r} is not of expected type: {dtype.name}"
            raise Refused(INVALID, message)
        return item

    try:
        return np.array(leaf(value), object if dtype == tf.string else dtype.as_numpy_dtype)
    except (ValueError, OverflowError) as error:
        raise Refused(INVALID, f"Encountered list at unexpected size: {error}") from error


def to_json(name, value):
    def leaf(item):
        if isinstance(item, list):
            return [leaf(one) for one in item]
        if isinstance(item, bytes) and name.endswith("_bytes"):
            return {"b64": base64.b64encode(item).decode()}
        return item.decode() if isinstance(item, bytes) else item

    return leaf(value.tolist())


def rest_predict(model, body):
    """A predict request's JSON, answered in its own form: by rows or by columns."""
    try:
        request = json.loads(body)
    except ValueError as error:
        raise Refused(INVALID, f"JSON Parse error: {error}") from error
    if not isinstance(request, dict) or ("instances" in request) == ("inputs" in request):
        raise Refused(INVALID, "Missing 'inputs' or 'instances' key")
    name = request.get("signature_name", "")
    signature = model.signature(name).inputs
    rows = request.get("instances")
    if rows is None:
        given = request["inputs"]
        if not isinstance(given, dict) or "b64" in given:
            given = {next(iter(signature)): given}
    else:
        if not isinstance(rows, list) or not rows:
            raise Refused(INVALID, "Expecting 'instances' value to be a non-empty list")
        if not isinstance(rows[0], dict) or "b64" in rows[0]:
            rows = [{next(iter(signature)): row} for row in rows]
        if any(not isinstance(row, dict) or row.keys() != rows[0].keys() for row in rows):
            raise Refused(INVALID, "Expecting all rows to have the same named inputs")
        given = {key: [row[key] for row in rows] for key in rows[0]}
    for key in given:
        if key not in signature:
            raise Refused(INVALID, f"JSON object: does not have named input: {key}")
    found = model.predict(name, {k: from_json(v, signature[k]) for k, v in given.items()})
    columns = {key: to_json(key, value) for key, value in found.items()}
    if rows is None:
        return {"outputs": columns if len(columns) > 1 else next(iter(columns.values()))}
    if len(columns) == 1:
        return {"predictions": next(iter(columns.values()))}
    keys = list(columns)
    values = zip(*columns.values(), strict=True)
    return {"predictions": [dict(zip(keys, row, strict=True)) for row in values]}


def rest_metadata(name, model):
    signatures = {
        key: MessageToDict(
            signature, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
        )
        for key, signature in model.signatures.items()
    }
    spec = {"name": name, "signature_name": "", "version": str(model.version)}
    return {"model_spec": spec, "metadata": {"signature_def": {"signature_def": signatures}}}


def rest_status(states):
    status = {"error_code": "OK", "error_message": ""}
    rows = [{"version": str(v), "state": State.Name(s), "status": status} for v, s in states]
    return {"model_version_status": rows}


class Rest(BaseHTTPRequestHandler):
    models = None
    timeout = 60

    def do_GET(self):
        self._answer(self._get)

    def do_POST(self):
        self._answer(self._post)

    def _get(self, name, version, action):
        if action == "/metadata":
            return rest_metadata(name, self.models.find(name, version))
        if action:
            raise Refused(INVALID, f"Malformed request: GET {self.path}")
        return rest_status(self.models.states(name, version).items())

    def _post(self, name, version, action):
        length = int(self.headers.get("Content-Length") or 0)
        if not 0 <= length <= LARGEST:
            raise Refused(INVALID, f"a request of {length} bytes")
        body = self.rfile.read(length)
        if action != ":predict":
            raise Refused(INVALID, f"Malformed request: POST {self.path}")
        return rest_predict(self.models.find(name, version), body)

    def _answer(self, method):
        matched = PATH.fullmatch(self.path)
        code, answer = 404, {"error": "Not Found"}
        if matched:
            name, version, action = matched.groups()
            try:
                code, answer = 200, method(name, version and int(version), action)
            except Refused as refused:
                code, answer = HTTP.get(refused.code, 500), {"error": refused.message}
        data = json.dumps(answer).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args):
        pass


def main():
    limit = threading.Timer(LIFETIME, os._exit, (3,))
    limit.daemon = True
    limit.start()
    given = json.loads(sys.argv[1])
    models = Models(given["models"], given.get("loading", ()))
    options = [(f"grpc.max_{way}_message_length", LARGEST) for way in ("receive", "send")]
    server = grpc.server(futures.ThreadPoolExecutor(8), options=options)
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(Predictions(models), server)
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(Statuses(models), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    Rest.models = models
    rest = ThreadingHTTPServer(("127.0.0.1", 0), Rest)
    rest.daemon_threads = True
    threading.Thread(target=rest.serve_forever, daemon=True).start()
    assert sys.modules["tfseg"] is None
    assert not [name for name in sys.modules if name.startswith("tfseg.")]
    print(json.dumps({"grpc": port, "rest": rest.server_address[1]}), flush=True)
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main()
