#!/usr/bin/env python3
"""Runs upstream's network in PyTorch on the CPU: what `vggt` is compared with.

    benches/pytorch.py compare CHECKPOINT --vggt target/release/vggt --frames 4 --height 294 --width 518
    benches/pytorch.py time CHECKPOINT --mode autocast --frames 4 --height 294 --width 518 --repeat 3
    benches/pytorch.py outputs CHECKPOINT OUT.safetensors --mode f32 --frames 2 --height 392 --width 518
    benches/pytorch.py errors EXACT.safetensors OTHER.safetensors...

`compare` runs upstream and `vggt` in turn, so that whatever else the machine does meets each, and prints medians and ranges of
CPU seconds, and their ratios. `time` prints a JSON object: CPU seconds and seconds on the clock of each pass after a warm-up,
and the peak of resident memory. `outputs` writes the network's outputs and the aggregator's tapped layers, `errors` prints how
far other such files are from the first, as the root of the mean square relative to that of the first. For `vggt` the example
`outputs` of vggt-model writes the same tensors, for the images that `outputs` leaves beside its own (OUT.images.safetensors).

Modes: f32, what PyTorch does by default; autocast, the aggregator in bf16 and the heads in f32; compile, that with the aggregator
through torch.compile. Needs PyTorch, safetensors, and upstream's checkout, named by --upstream or VGGT_UPSTREAM.
"""

import argparse
import contextlib
import json
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import time
import warnings

# Threads that wait for the next operation must not count as work.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tools/fixtures"))

MODES = ("f32", "autocast", "compile")


def load(checkpoint: pathlib.Path, config: pathlib.Path | None):
    """Upstream's network with the weights of a .safetensors file, in f32; `config` is that of `vggt`, for another size."""
    import torch
    from safetensors import safe_open
    from upstream import build
    from vggt.models.vggt import VGGT

    torch.set_grad_enabled(False)
    model = build(config) if config else VGGT()
    parameters = model.state_dict()
    with safe_open(checkpoint, framework="pt") as file:
        for name in file.keys():
            if name in parameters:
                parameters.pop(name).copy_(file.get_tensor(name))
    if left := [name for name in parameters if not name.startswith(("aggregator._resnet", "track_head"))]:
        sys.exit(f"the checkpoint lacks {', '.join(left[:3])}")
    return model.eval()


def images(args):
    import numpy
    import torch

    random = numpy.random.default_rng(args.seed)
    shape = (args.frames, 3, args.height, args.width)
    return torch.from_numpy(random.random(shape, dtype=numpy.float32))


def forward(model, aggregator, batch, mode: str) -> dict:
    """One pass: the aggregator in its precision, the heads in f32."""
    import torch

    low = torch.autocast("cpu", dtype=torch.bfloat16) if mode != "f32" else contextlib.nullcontext()
    with low:
        layers, start = aggregator(batch[None])
    kept = set(model.depth_head.intermediate_layer_idx) if model.depth_head else set()
    kept |= {len(layers) - 1}
    layers = [layer.float() if i in kept else None for i, layer in enumerate(layers)]
    out = {f"layer{i:02}": layers[i][0] for i in sorted(kept)}
    out["pose_enc"] = model.camera_head(layers)[-1][0]
    for name, head in (("depth", model.depth_head), ("world_points", model.point_head)):
        if head is not None:
            value, confidence = head(layers, images=batch[None], patch_start_idx=start)
            out[name], out[f"{name}_conf"] = value[0], confidence[0]
    return out


def processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def peak_rss_kib() -> int:
    status = pathlib.Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0])


def run_time(args) -> None:
    import torch

    torch.set_num_threads(args.threads)
    model, batch = load(args.checkpoint, args.config), images(args)
    aggregator = torch.compile(model.aggregator) if args.mode == "compile" else model.aggregator
    # The peak of memory counts from here.
    pathlib.Path("/proc/self/clear_refs").write_text("5")
    passes = []
    for _ in range(args.warm_up + args.repeat):
        start, clock = processor_seconds(), time.perf_counter()
        forward(model, aggregator, batch, args.mode)
        passes.append((round(processor_seconds() - start, 2), round(time.perf_counter() - clock, 2)))
    timed = passes[args.warm_up :]
    print(
        json.dumps(
            {
                "torch": torch.__version__,
                "mode": args.mode,
                "frames": args.frames,
                "height": args.height,
                "width": args.width,
                "threads": args.threads,
                "cpu": [cpu for cpu, _ in timed],
                "clock": [clock for _, clock in timed],
                "peak_rss_gib": round(peak_rss_kib() / 2**20, 2),
            }
        )
    )


def run_compare(args) -> None:
    """All of them in turn; a process for each pass and its warm-up."""
    figures = {}
    for _ in range(args.rounds):
        for name, command in contestants(args):
            run = subprocess.run(command, stdout=subprocess.PIPE, text=True)
            if run.returncode != 0:
                sys.exit(f"{name}: {command[0]} failed")
            out = run.stdout
            figures.setdefault(name, []).append(figure(json.loads(out.splitlines()[-1])))
            print(name, figures[name][-1], file=sys.stderr, flush=True)
    print("| | CPU seconds | seconds on the clock | peak GiB |\n|---|---|---|---|")
    medians = {}
    for name, rows in figures.items():
        cpu, clock, peak = ([row[i] for row in rows] for i in range(3))
        medians[name] = statistics.median(cpu)
        spread = f"{medians[name]:.1f} ({min(cpu):.1f} to {max(cpu):.1f})"
        print(f"| {name} | {spread} | {statistics.median(clock):.1f} | {statistics.median(peak):.2f} |")
    for ours in ("exact", "fast"):
        ratios = ", ".join(f"{mode} {medians[mode] / medians[ours]:.2f}" for mode in args.modes)
        print(f"\n{ours} is faster than PyTorch by: {ratios}")


def contestants(args):
    size = ["--frames", args.frames, "--height", args.height, "--width", args.width]
    size = [str(value) for value in size] + ["--threads", str(args.threads)]
    passes = ["--warm-up", str(args.warm_up), "--repeat", "1"]
    for mode in args.modes:
        command = [sys.executable, __file__, "--upstream", str(args.upstream), "time", args.checkpoint]
        yield mode, command + ["--mode", mode] + size + passes
    for precision in ("exact", "fast"):
        command = [args.vggt, "bench", "--checkpoint", args.checkpoint, "--device", "cpu", "--precision", precision]
        yield precision, command + size + passes + ["--json"]


def figure(report: dict) -> tuple[float, float, float]:
    """CPU seconds, seconds on the clock and GiB of either report."""
    if "user" in report:
        return report["user"] + report["system"], report["total"], report["peak_rss_bytes"] / 2**30
    return report["cpu"][0], report["clock"][0], report["peak_rss_gib"]


def run_outputs(args) -> None:
    from safetensors.torch import save_file

    model = load(args.checkpoint, args.config)
    batch = images(args)
    out = forward(model, model.aggregator, batch, args.mode)
    save_file({"images": batch}, args.out.with_suffix(".images.safetensors"))
    save_file({name: tensor.float().contiguous() for name, tensor in out.items()}, args.out)


def run_errors(args) -> None:
    import torch
    from safetensors.torch import load_file

    exact = load_file(args.exact)
    others = [load_file(path) for path in args.others]
    print("| tensor | " + " | ".join(path.stem for path in args.others) + " |")
    print("|---" * (len(others) + 1) + "|")
    logs = [[] for _ in others]
    for name, tensor in sorted(exact.items()):
        row = []
        for other, log in zip(others, logs):
            difference = (other[name].double().reshape(tensor.shape) - tensor.double()).square().mean()
            error = (difference / tensor.double().square().mean()).sqrt().item()
            log.append(error)
            row.append(f"{error:.1e}")
        print(f"| {name} | " + " | ".join(row) + " |")
    means = [torch.tensor(log).log().mean().exp().item() for log in logs]
    print("| geometric mean | " + " | ".join(f"{mean:.1e}" for mean in means) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--upstream", type=pathlib.Path, default=os.environ.get("VGGT_UPSTREAM"), metavar="DIR")
    commands = parser.add_subparsers(required=True)

    def command(name, function):
        sub = commands.add_parser(name)
        sub.set_defaults(run=function)
        return sub

    timed, outputs, errors = command("time", run_time), command("outputs", run_outputs), command("errors", run_errors)
    compare = command("compare", run_compare)
    for sub in (timed, outputs, compare):
        sub.add_argument("checkpoint", type=pathlib.Path)
    outputs.add_argument("out", type=pathlib.Path)
    for sub in (timed, outputs):
        sub.add_argument("--mode", choices=MODES, default="f32")
        sub.add_argument("--config", type=pathlib.Path, help="of another network than VGGT-1B")
        sub.add_argument("--seed", type=int, default=0)
    for sub in (timed, outputs, compare):
        sub.add_argument("--frames", type=int, default=1)
        sub.add_argument("--height", type=int, default=518)
        sub.add_argument("--width", type=int, default=518)
    for sub in (timed, compare):
        sub.add_argument("--warm-up", type=int, default=1)
        sub.add_argument("--threads", type=int, default=os.cpu_count())
    timed.add_argument("--repeat", type=int, default=3)
    compare.add_argument("--vggt", type=pathlib.Path, default="target/release/vggt", help="the program")
    compare.add_argument("--modes", nargs="+", choices=MODES, default=["f32", "autocast"])
    compare.add_argument("--rounds", type=int, default=3)
    errors.add_argument("exact", type=pathlib.Path)
    errors.add_argument("others", type=pathlib.Path, nargs="+")
    args = parser.parse_args()
    if args.run is not run_errors:
        from upstream import use_checkout

        use_checkout(args.upstream)
        warnings.filterwarnings("ignore")
    args.run(args)


if __name__ == "__main__":
    main()
