#!/usr/bin/env python3
"""Makes tests/data/sky: a tiny network of the sky network's kind, and what it says of a picture.

The network has every operator of U-2-Net as PyTorch exports it: convolutions with stride and dilation, batch
normalisation, ReLU, max pooling that rounds sizes up, bilinear resizing, concatenation, sigmoid. The expected maps
come from ONNX Runtime and OpenCV, by the steps of the Python demo. Only needed to change the test data:
    pip install onnx onnxruntime opencv-python-headless
"""

from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

ROOT = Path(__file__).resolve().parent.parent / "tests" / "data"
OUT = ROOT / "sky"
SIDE = 320


def network(path, output_channels=1):
    rng = np.random.default_rng(7)
    weights = {}

    def add(name, value):
        weights[name] = np.asarray(value, np.float32)
        return name

    def conv(name, source, out, channels, stride=1, dilation=1):
        wide = 3
        add(f"{name}.w", rng.normal(0, 0.35, (out, channels, wide, wide)))
        add(f"{name}.b", rng.normal(0, 0.1, out))
        return helper.make_node(
            "Conv", [source, f"{name}.w", f"{name}.b"], [name], kernel_shape=[wide, wide],
            strides=[stride] * 2, dilations=[dilation] * 2, pads=[dilation if stride == 1 else 0] * 4)

    for part, value in [("scale", rng.uniform(0.5, 1.5, 4)), ("bias", rng.normal(0, 0.2, 4)),
                        ("mean", rng.normal(0, 0.2, 4)), ("var", rng.uniform(0.5, 1.5, 4))]:
        add(f"bn.{part}", value)
    weights["sizes"] = np.array([1, 4, 159, 159], np.int64)
    weights["full"] = np.array([1, output_channels, SIDE, SIDE], np.int64)

    def resize(source, name, sizes):
        return helper.make_node("Resize", [source, "", "", sizes], [name], mode="linear",
                                coordinate_transformation_mode="pytorch_half_pixel")

    nodes = [
        conv("down", "input", 4, 3, stride=2),  # 320 -> 159
        helper.make_node("BatchNormalization", ["down", "bn.scale", "bn.bias", "bn.mean", "bn.var"], ["bn"]),
        helper.make_node("Relu", ["bn"], ["relu"]),
        helper.make_node("MaxPool", ["relu"], ["pool"], kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1),  # -> 80
        conv("deep", "pool", 4, 4, dilation=2),
        helper.make_node("Relu", ["deep"], ["deep_relu"]),
        resize("deep_relu", "up", "sizes"),
        helper.make_node("Concat", ["up", "relu"], ["both"], axis=1),
        conv("side", "both", output_channels, 8),
        resize("side", "wide", "full"),
        helper.make_node("Sigmoid", ["wide"], ["output"]),
    ]
    graph = helper.make_graph(
        nodes, "sky", [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, output_channels, SIDE, SIDE])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], producer_name="")
    model.ir_version = 8
    onnx.checker.check_model(model)
    onnx.save(model, path)


def expected(session, picture):
    small = cv2.cvtColor(cv2.resize(picture, (SIDE, SIDE)), cv2.COLOR_BGR2RGB).astype(np.float32)
    small = (small / 255 - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225])
    found = session.run(None, {"input": small.transpose(2, 0, 1)[None].astype(np.float32)})[0].squeeze()
    found = ((found - found.min()) / (found.max() - found.min()) * 255).astype(np.uint8)
    return cv2.resize(found, (picture.shape[1], picture.shape[0]))


network(OUT / "tiny.onnx")
network(OUT / "two_channels.onnx", output_channels=2)
session = onnxruntime.InferenceSession(OUT / "tiny.onnx")
for name in ["small", "gray", "landscape"]:
    picture = cv2.imread(str(ROOT / "frames" / "preprocess" / f"{name}.png"))
    sky = expected(session, picture)
    cv2.imwrite(str(OUT / f"{name}.png"), sky, [cv2.IMWRITE_PNG_COMPRESSION, 9])
    print(name, sky.shape, f"{(sky < 32).mean():.1%} kept")
