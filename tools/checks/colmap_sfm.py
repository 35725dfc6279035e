#!/usr/bin/env python3
"""Reconstructs real photos with COLMAP's own structure from motion, to compare refined cameras with.

    tools/checks/colmap_sfm.py PHOTOS OUT
    vggt export PHOTOS --format colmap --out MODEL
    tools/checks/check_refine.py OUT/0 MODEL

SIFT, exhaustive matches and incremental mapping on the CPU, one lens without distortion for all photos. OUT/0 is the model with the
most photos. Real photos have no true cameras: two methods that share nothing agree only where both are right. Needs
tools/checks/requirements.txt.
"""

import argparse
import sys
from pathlib import Path

import pycolmap


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("photos", type=Path)
    arguments.add_argument("out", type=Path, help="an empty or new folder")
    arguments.add_argument("--angle", type=float, default=16, help="least median angle of the first pair, degrees; COLMAP's default is 16")
    given = arguments.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    if any(given.out.iterdir()):
        sys.exit(f"{given.out} is not empty")
    pycolmap.set_random_seed(0)
    pycolmap.logging.minloglevel = 2
    database = given.out / "database.db"
    lens = pycolmap.ImageReaderOptions(camera_model="SIMPLE_PINHOLE")
    on_cpu = {"device": pycolmap.Device.cpu}
    pycolmap.extract_features(database, given.photos, camera_mode=pycolmap.CameraMode.SINGLE, reader_options=lens, **on_cpu)
    pycolmap.match_exhaustive(database, **on_cpu)
    options = pycolmap.IncrementalPipelineOptions()
    options.mapper.init_min_tri_angle = given.angle
    found = pycolmap.incremental_mapping(database, given.photos, given.out, options=options)
    if not found:
        sys.exit("COLMAP found no model: no pair of photos to begin with")
    for number, model in sorted(found.items()):
        focal = next(iter(model.cameras.values())).mean_focal_length()
        error = model.compute_mean_reprojection_error()
        print(f"{number}: {model.num_reg_images()} photos, {model.num_points3D()} points, focal length {focal:.1f} px, mean error {error:.2f} px")


if __name__ == "__main__":
    main()
