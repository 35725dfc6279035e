#!/usr/bin/env python3
"""Prints what bench.jsonl (of `vggt bench`) and torch.jsonl (of torch_side.py) in FOLDER say, as tables: summary.py FOLDER."""

import json
import sys
from pathlib import Path

STAGES = ["patch_embed", "frame_blocks", "global_blocks", "camera", "depth", "point"]


def lines(path: Path) -> list[dict]:
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines() if line.startswith("{")]


def seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def gigabytes(value: float | None) -> str:
    return "-" if value is None else f"{value / 1e9:.2f}"


def row(cells: list) -> None:
    print("".join(f"{str(cell):>14}" for cell in cells))


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    folder = Path(sys.argv[1])
    bench = lines(folder / "bench.jsonl")
    torch = {line["frames"]: line for line in lines(folder / "torch.jsonl")}

    print("vggt: seconds of a pass, and GB in use and reserved at most")
    row(["frames", "median", "least", "most", "first", "used", "reserved", "PyTorch", "ratio"])
    for line in bench:
        if "error" in line:
            print(f"{line['frames']:>12}  {line['error'][:100]}")
            continue
        theirs = torch.get(line["frames"], {})
        parts = [theirs.get(part, {}).get("median_s") for part in ("aggregator", "heads")]
        sum_of_parts = sum(parts) if None not in parts else None
        ratio = "-" if sum_of_parts is None else f"{sum_of_parts / line['total']:.2f}"
        figures = [line[name] for name in ("total", "total_min", "total_max", "first")]
        memory = [line.get(name) for name in ("peak_device_bytes", "peak_device_reserved_bytes")]
        row([line["frames"], *map(seconds, figures), *map(gigabytes, memory), seconds(sum_of_parts), ratio])

    if any(line.get(stage) is not None for line in bench for stage in STAGES):
        print("seconds of each stage, and those of the roofline estimate")
        row(["frames", *STAGES])
        for line in bench:
            if "error" in line:
                continue
            row([line["frames"], *(seconds(line.get(stage)) for stage in STAGES)])
            if "aggregator_h100_estimate" in line:
                heads = [line.get(f"{head}_h100_estimate") for head in ("camera", "depth", "point")]
                aggregator = seconds(line["aggregator_h100_estimate"])
                row(["estimated", "aggregator", aggregator, "", *map(seconds, heads)])

    if torch:
        print("PyTorch: seconds, least and most, and GB at most")
        row(["frames", "aggregator", "least", "most", "GB", "heads", "least", "most", "GB"])
        for line in torch.values():
            cells = [line["frames"]]
            for part in ("aggregator", "heads"):
                figures = line.get(part, {})
                cells += [seconds(figures.get(name)) for name in ("median_s", "min_s", "max_s")]
                cells.append(figures.get("peak_gb", "-"))
            row(cells)
            if "error" in line:
                print(f"{'':>12}  {line['error'][:100]}")


if __name__ == "__main__":
    main()
