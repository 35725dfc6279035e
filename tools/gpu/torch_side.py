#!/usr/bin/env python3
"""Runs upstream's PyTorch implementation, to compare this project with: random weights, predictions, and times. Uses the
CUDA device where there is one and the CPU elsewhere.

    torch_side.py weights CONFIG OUT.safetensors [SEED]
        Random weights with the dimensions of CONFIG, drawn on the device; the default seed is 7.
    torch_side.py predict CONFIG WEIGHTS.safetensors FRAMES OUT
        Predictions for the PNG files in the folder FRAMES: OUT.f32.safetensors with TF32 off, and OUT.bf16.safetensors
        with the aggregator under autocast and the heads in float32, as upstream runs them on a GPU.
    torch_side.py bench CONFIG H W S... [--weights f32|bf16] [--repeat N] [--warm_up N]
        Seconds and peak GB of the aggregator and the heads for S frames of H x W pixels, one JSON line for each S.

VGGT_UPSTREAM names the folder that holds upstream's package `vggt` (github.com/facebookresearch/vggt). Attention is PyTorch's
scaled_dot_product_attention with the backend that PyTorch chooses. Needs torch and safetensors; predict also needs numpy
and pillow; a config with a track head also needs einops.
"""

import argparse
import contextlib
import json
import math
import os
import pathlib
import statistics
import sys
import time
from functools import partial

import torch

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@contextlib.contextmanager
def without_initialization():
    """Building the modules of VGGT-1B with random initial values takes a minute, and all of them are replaced."""
    names = [name for name in dir(torch.nn.init) if name.endswith("_") and not name.startswith("_")]
    originals = {name: getattr(torch.nn.init, name) for name in names}
    try:
        for name in names:
            setattr(torch.nn.init, name, lambda *args, **kwargs: args[0] if args else kwargs["tensor"])
        yield
    finally:
        for name, original in originals.items():
            setattr(torch.nn.init, name, original)


def build(config: dict) -> torch.nn.Module:
    """Upstream's network with the dimensions of `config`, which its own constructor does not take, without values."""
    sys.path.insert(0, os.environ.get("VGGT_UPSTREAM", "."))
    from vggt.heads.camera_head import CameraHead
    from vggt.heads.dpt_head import DPTHead
    from vggt.layers import MemEffAttention, NestedTensorBlock
    from vggt.layers.vision_transformer import DinoVisionTransformer
    from vggt.models.aggregator import Aggregator
    from vggt.models.vggt import VGGT

    width, patch_size = config["embed_dim"], config["patch_size"]
    common = {"img_size": config["img_size"], "patch_size": patch_size, "embed_dim": width}
    dpt = config["dpt_head"]
    dense = {
        "dim_in": 2 * width,
        "patch_size": patch_size,
        "out_channels": dpt["out_channels"],
        "intermediate_layer_idx": dpt["intermediate_layer_idx"],
    }
    with without_initialization():
        model = VGGT.__new__(VGGT)
        torch.nn.Module.__init__(model)
        # "conv" is the cheapest patch embedding to build; the trunk replaces it.
        model.aggregator = Aggregator(patch_embed="conv", **common, **config["aggregator"])
        model.aggregator.patch_embed = DinoVisionTransformer(
            **common,
            **config["dino"],
            init_values=1.0,
            block_chunks=0,
            block_fn=partial(NestedTensorBlock, attn_class=MemEffAttention),
            interpolate_antialias=True,
            interpolate_offset=0.0,
        )
        camera = config["camera_head"]
        model.camera_head = CameraHead(
            dim_in=2 * width, trunk_depth=camera["trunk_depth"], num_heads=camera["num_heads"]
        )
        model.camera_iterations = camera["num_iterations"]
        exp = {"features": dpt["features"], "conf_activation": "expp1", **dense}
        model.point_head = DPTHead(output_dim=4, activation="inv_log", **exp)
        model.depth_head = DPTHead(output_dim=2, activation="exp", **exp)
        model.track_head = config.get("track_head") and build_track_head(config["track_head"], dense)
    return model.eval()


def build_track_head(track: dict, dense: dict) -> torch.nn.Module:
    from vggt.heads.dpt_head import DPTHead
    from vggt.heads.track_head import TrackHead
    from vggt.heads.track_modules.base_track_predictor import BaseTrackerPredictor

    shared = {name: track[name] for name in ("stride", "corr_levels", "corr_radius", "hidden_size")}
    head = TrackHead(
        dim_in=dense["dim_in"],
        patch_size=dense["patch_size"],
        features=track["features"],
        iters=track["iters"],
        **shared,
    )
    head.feature_extractor = DPTHead(
        features=track["features"], feature_only=True, down_ratio=2, pos_embed=False, **dense
    )
    head.tracker = BaseTrackerPredictor(
        latent_dim=track["features"], predict_conf=True, depth=track["depth"], **shared
    )
    return head


def read_config(path: str) -> dict:
    return json.loads(pathlib.Path(path).read_text())


def on_device(config: dict) -> torch.nn.Module:
    with torch.device(DEVICE):
        return build(config)


def fill(model: torch.nn.Module, seed: int) -> None:
    """Norms near one, small biases, and matrices that keep the variance, so that activations stay near one."""
    generator = torch.Generator(device=DEVICE).manual_seed(seed)
    for name, parameter in model.named_parameters():
        center, spread = center_and_spread(name, parameter.shape)
        values = torch.rand(parameter.shape, generator=generator, device=DEVICE)
        parameter.copy_(center + spread * (2 * values - 1))


def center_and_spread(name: str, shape) -> tuple[float, float]:
    """The uniform distribution of a parameter: from center - spread to center + spread."""
    if len(shape) == 1:
        if name.endswith("weight"):
            return 1.0, 0.1
        return (0.1, 0.05) if name.endswith("gamma") else (0.0, 0.02)
    fan_in = 1
    for n in shape[1:]:
        fan_in *= n
    return 0.0, math.sqrt(3.0 / fan_in) if name.endswith("weight") else 0.5


def allow_tf32(convolutions: bool) -> None:
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = convolutions


def autocast(dtype: torch.dtype | None):
    """The context in which upstream runs the aggregator in `dtype`; no autocast for None."""
    return torch.autocast(DEVICE, dtype=dtype or torch.bfloat16, enabled=dtype is not None)


def run_heads(model: torch.nn.Module, tokens: list, images: torch.Tensor, start: int) -> dict:
    """Predictions of the heads in float32 from the aggregator's tokens, without the batch dimension."""
    with torch.autocast(DEVICE, enabled=False):
        poses = model.camera_head(tokens, num_iterations=model.camera_iterations)
        depth, depth_conf = model.depth_head(tokens, images=images, patch_start_idx=start)
        points, points_conf = model.point_head(tokens, images=images, patch_start_idx=start)
    found = {
        "pose_enc": poses[-1],
        "depth": depth,
        "depth_conf": depth_conf,
        "world_points": points,
        "world_points_conf": points_conf,
    }
    return {name: tensor[0] for name, tensor in found.items()}


def weights(args: argparse.Namespace) -> None:
    from safetensors.torch import save_file

    model = on_device(read_config(args.config))
    fill(model, args.seed)
    save_file({name: p.detach().cpu().contiguous() for name, p in model.named_parameters()}, args.out)


def predict(args: argparse.Namespace) -> None:
    import numpy
    from PIL import Image
    from safetensors.torch import load_file, save_file

    model = on_device(read_config(args.config))
    loaded = load_file(args.weights, device=DEVICE)
    missing, unexpected = model.load_state_dict(loaded, strict=False)
    buffers = {name for name, _ in model.named_buffers()}
    if unexpected or set(missing) - buffers:
        sys.exit(f"{args.weights} does not fit {args.config}: missing {missing[:3]}, unexpected {unexpected[:3]}")
    paths = sorted(pathlib.Path(args.frames).glob("*.png"))
    if not paths:
        sys.exit(f"no PNG files in {args.frames}")
    frames = [numpy.asarray(Image.open(path).convert("RGB"), dtype=numpy.float32) / 255 for path in paths]
    images = torch.from_numpy(numpy.stack(frames)).permute(0, 3, 1, 2)[None].contiguous().to(DEVICE)
    allow_tf32(convolutions=False)
    for name, dtype in (("f32", None), ("bf16", torch.bfloat16)):
        with autocast(dtype):
            tokens, start = model.aggregator(images)
        found = run_heads(model, [layer.float() for layer in tokens], images, start)
        save_file({k: v.cpu().contiguous() for k, v in found.items()}, f"{args.out}.{name}.safetensors")


def measure(run, repeat: int, warm_up: int):
    """Times `run` on the device and returns its figures and its last result."""
    on_gpu = DEVICE == "cuda"
    for _ in range(warm_up):
        run()
    if on_gpu:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    seconds = []
    result = None
    for _ in range(repeat):
        result = None  # two results at once would count as peak memory
        if on_gpu:
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            result = run()
            end.record()
            torch.cuda.synchronize()
            seconds.append(begin.elapsed_time(end) / 1000)
        else:
            begin = time.perf_counter()
            result = run()
            seconds.append(time.perf_counter() - begin)
    figures = {"median_s": statistics.median(seconds), "min_s": min(seconds), "max_s": max(seconds)}
    if on_gpu:
        figures["peak_gb"] = torch.cuda.max_memory_allocated() / 1e9
    return {name: round(value, 6) for name, value in figures.items()}, result


def bench(args: argparse.Namespace) -> None:
    model = on_device(read_config(args.config))
    fill(model, 7)
    dtype = torch.float32
    if args.weights == "bf16":
        # Faster and smaller than upstream's float32 weights under autocast, and less exact: the residual stream becomes
        # bfloat16 as well.
        dtype = torch.bfloat16
        model.aggregator.to(dtype)
    # PyTorch's defaults, which upstream does not change.
    allow_tf32(convolutions=True)
    for frames in args.frames:
        line = {
            "torch": torch.__version__,
            "device": torch.cuda.get_device_name() if DEVICE == "cuda" else "cpu",
            "aggregator_weights": args.weights,
            "height": args.height,
            "width": args.width,
            "frames": frames,
        }
        try:
            line |= bench_frames(model, frames, dtype, args)
        except torch.OutOfMemoryError as e:
            line["error"] = str(e).splitlines()[0][:200]
        print(json.dumps(line), flush=True)
        if DEVICE == "cuda":
            torch.cuda.empty_cache()


def bench_frames(model: torch.nn.Module, frames: int, dtype: torch.dtype, args: argparse.Namespace) -> dict:
    images = torch.rand(1, frames, 3, args.height, args.width, device=DEVICE)

    def aggregator():
        with autocast(torch.bfloat16):
            return model.aggregator(images.to(dtype))

    line = {}
    line["aggregator"], (tokens, start) = measure(aggregator, args.repeat, args.warm_up)
    tokens = [layer.float() for layer in tokens]
    heads = partial(run_heads, model, tokens, images, start)
    line["heads"], _ = measure(heads, args.repeat, args.warm_up)
    return line


def at_least(least: int):
    def parse(text: str) -> int:
        if int(text) < least:
            raise argparse.ArgumentTypeError(f"expected at least {least}, got {text}")
        return int(text)

    return parse


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("weights")
    command.set_defaults(run=weights)
    command.add_argument("config")
    command.add_argument("out")
    command.add_argument("seed", nargs="?", type=int, default=7)
    command = commands.add_parser("predict")
    command.set_defaults(run=predict)
    command.add_argument("config")
    command.add_argument("weights")
    command.add_argument("frames")
    command.add_argument("out")
    command = commands.add_parser("bench")
    command.set_defaults(run=bench)
    command.add_argument("config")
    command.add_argument("height", type=int)
    command.add_argument("width", type=int)
    command.add_argument("frames", type=at_least(1), nargs="+")
    command.add_argument("--weights", choices=["f32", "bf16"], default="bf16", help="type of the aggregator's weights")
    command.add_argument("--repeat", type=at_least(3), default=3)
    command.add_argument("--warm_up", type=at_least(1), default=1)
    args = parser.parse_args()
    with torch.inference_mode():
        args.run(args)


if __name__ == "__main__":
    main()
