"""TensorFlow Serving over gRPC, with the official stubs of tensorflow-serving-api."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tfseg.serving.client import Answer, ServedModel, ServingError, Version


class GrpcModel(ServedModel):
    """A model asked over gRPC; close it after use, or use it as a context."""

    def __init__(self, address: str, model: str, version: int | None = None, timeout: float = 60.0):
        """Takes "HOST:PORT"; nothing is sent yet.

        Raises:
            ImportError: without the stubs.
        """
        super().__init__(address, model, version, timeout)
        try:
            import grpc
            from tensorflow_serving.apis import (
                get_model_status_pb2,
                model_service_pb2_grpc,
                predict_pb2,
                prediction_service_pb2_grpc,
            )
        except ImportError as error:
            raise ImportError(
                f"gRPC needs the server's stubs ({error}): pip install 'tfseg[serve]' and "
                "pip install --no-deps tensorflow-serving-api"
            ) from error
        self._error = grpc.RpcError
        # Label maps are larger than gRPC's own limit of 4 MiB; the server is the user's.
        self._channel = grpc.insecure_channel(
            address, options=[("grpc.max_receive_message_length", -1)]
        )
        self._status_request = get_model_status_pb2.GetModelStatusRequest
        self._status = model_service_pb2_grpc.ModelServiceStub(self._channel).GetModelStatus
        self._state = get_model_status_pb2.ModelVersionStatus.State
        self._predict_request = predict_pb2.PredictRequest
        self._predict = prediction_service_pb2_grpc.PredictionServiceStub(self._channel).Predict

    def __enter__(self) -> "GrpcModel":
        return self

    def __exit__(self, *error: object) -> None:
        self._channel.close()

    def versions(self) -> list[Version]:
        """See `ServedModel.versions`."""
        found = []
        response = self._ask(self._status, self._asking(self._status_request()))
        for row in response.model_version_status:
            error = f"code {row.status.error_code}: {row.status.error_message}"
            error = error if row.status.error_code else ""
            found.append(Version(row.version, self._state.Name(row.state), error))
        return found

    def predict(self, signature: str, files: Sequence[bytes]) -> Answer:
        """See `ServedModel.predict`."""
        import tensorflow as tf

        request = self._asking(self._predict_request())
        request.model_spec.signature_name = signature
        images = tf.make_tensor_proto(np.array(files, object), tf.string)
        request.inputs["image_bytes"].CopyFrom(images)
        response = self._ask(self._predict, request)
        return {name: tf.make_ndarray(value) for name, value in response.outputs.items()}

    def _asking(self, request: Any) -> Any:
        request.model_spec.name = self.model
        if self.version is not None:
            request.model_spec.version.value = self.version
        return request

    def _ask(self, method: Any, request: Any) -> Any:
        try:
            return method(request, timeout=self.timeout)
        except self._error as error:
            code, details = error.code().name, error.details()
            if code == "UNAVAILABLE":
                message = f"{self.server} does not answer over gRPC: {details}"
            elif code == "DEADLINE_EXCEEDED":
                message = f"{self.server} does not answer over gRPC within {self.timeout:g} s"
            else:
                message = f"{self.server} refuses ({code}): {details[:500]}"
            raise ServingError(message) from error
