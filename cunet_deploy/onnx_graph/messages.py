"""The few messages of onnx.proto that are read without the onnx package, which the base install does not have.

Fields that are not listed are kept as they are when a message is written again.
"""

from __future__ import annotations

import functools
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message, message_factory

__all__ = ["DecodeError", "model_message"]

DecodeError: type[Exception] = message.DecodeError

_FIELD = descriptor_pb2.FieldDescriptorProto
_MESSAGES: dict[str, dict[str, tuple[int, str]]] = {
    "ModelProto": {
        "graph": (7, "GraphProto"),
        "metadata_props": (14, "StringStringEntryProto*"),
        "functions": (25, "FunctionProto*"),
    },
    "GraphProto": {
        "node": (1, "NodeProto*"),
        "initializer": (5, "TensorProto*"),
        "sparse_initializer": (15, "SparseTensorProto*"),
    },
    "FunctionProto": {"node": (7, "NodeProto*")},
    "NodeProto": {"input": (1, "string*"), "op_type": (4, "string"), "attribute": (5, "AttributeProto*")},
    "AttributeProto": {
        "t": (5, "TensorProto"),
        "g": (6, "GraphProto"),
        "tensors": (10, "TensorProto*"),
        "graphs": (11, "GraphProto*"),
    },
    "SparseTensorProto": {"values": (1, "TensorProto"), "indices": (2, "TensorProto")},
    "TensorProto": {
        "data_type": (2, "int32"),
        "name": (8, "string"),
        "external_data": (13, "StringStringEntryProto*"),
        "data_location": (14, "int32"),
    },
    "StringStringEntryProto": {"key": (1, "string"), "value": (2, "string")},
}
"""Name and number of each field, and its type; ``*`` is for repeated ones."""


def model_message(data: bytes) -> Any:
    """A ``ModelProto``.

    Raises:
        DecodeError: it is none, or is cut off.
    """
    return _messages()["ModelProto"].FromString(data)


@functools.cache
def _messages() -> dict[str, Any]:
    """Message classes of `_MESSAGES`."""
    file = descriptor_pb2.FileDescriptorProto(name="cunet_deploy/onnx.proto", package="cunet_deploy", syntax="proto2")
    for name, fields in _MESSAGES.items():
        described = file.message_type.add(name=name)
        for field, (number, kind) in fields.items():
            entry = described.field.add(name=field, number=number)
            entry.label = _FIELD.LABEL_REPEATED if kind.endswith("*") else _FIELD.LABEL_OPTIONAL
            kind = kind.rstrip("*")
            if kind in _MESSAGES:
                entry.type, entry.type_name = _FIELD.TYPE_MESSAGE, f".cunet_deploy.{kind}"
            else:
                entry.type = {"string": _FIELD.TYPE_STRING, "int32": _FIELD.TYPE_INT32}[kind]
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"cunet_deploy.{name}")) for name in _MESSAGES
    }
