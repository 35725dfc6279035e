#!/usr/bin/env python3
"""Makes model/tests/data/tiny/track_iterations.safetensors.

The tracker feeds flows through sines of up to a thousand times their size, so that each refinement multiplies the last
digits' difference by about ten. The recorded answers after four refinements can therefore not be reproduced to 2e-5 by
any float32 implementation, PyTorch on another processor included. What can be compared is the answer after one and after
two refinements, which this script computes with the PyTorch implementation in float64.

Usage: make_track_fixture.py UPSTREAM_CHECKOUT   (needs torch, safetensors, einops)
"""

import pathlib
import sys

import torch
from safetensors.torch import load_file, save_file

upstream = sys.argv[1]
sys.path.insert(0, upstream)
from vggt.heads.track_modules.base_track_predictor import BaseTrackerPredictor  # noqa: E402

data = pathlib.Path(__file__).parent.parent / "model/tests/data/tiny"
prefix = "track_head.tracker."
weights = torch.load(data / "model.pt", weights_only=True)
tracker = BaseTrackerPredictor(
    stride=2, corr_levels=3, corr_radius=2, latent_dim=16, hidden_size=32, depth=2, predict_conf=True
)
tracker.load_state_dict({k[len(prefix) :]: v for k, v in weights.items() if k.startswith(prefix)})
tracker.eval().double()

answers = {}
for case in ("case_s1_70x70", "case_s3_56x84"):
    taps = load_file(data / f"{case}.safetensors")
    maps = taps["track.feature_maps"][None].double()
    points = taps["query_points"][None].double()
    for iters in (1, 2):
        with torch.no_grad():
            tracks, vis, conf = tracker(query_points=points, fmaps=maps, iters=iters)
        for name, tensor in (("track", tracks[-1]), ("vis", vis), ("conf", conf)):
            answers[f"{case}.{iters}.{name}"] = tensor[0].float().contiguous()
save_file(answers, data / "track_iterations.safetensors")
