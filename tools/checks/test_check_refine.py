#!/usr/bin/env python3
"""Tests check_refine.py: perturbs made-up cameras by known amounts and requires that it reports them.

    tools/checks/test_check_refine.py

Needs tools/checks/requirements.txt. Exits 1 where a figure is not the expected one.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import pycolmap
from check_refine import SETTLED_PX, Truth, bundle, centers, largest_distance, measure, ratios, read_model


def turn(vector):
    """Rotation matrix of a rotation vector."""
    vector = np.asarray(vector, float)
    angle = np.linalg.norm(vector)
    if angle == 0:
        return np.eye(3)
    x, y, z = vector / angle
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def main():
    random = np.random.default_rng(0)
    count, focal, k1 = 12, 800.0, -0.05
    angle = np.linspace(-0.5, 0.5, count)
    cameras = []
    for a in angle:
        rotation = turn([0.1 * a, a, 0.2 * a * a])
        cameras.append(np.column_stack([rotation, -rotation @ [-4 * np.sin(a), 0.3 * a * a, -4 * np.cos(a)]]))
    cameras = np.array(cameras)
    points = random.uniform(-1, 1, (300, 3))
    world = turn([0.3, -0.7, 1.1])  # of the model's world, with the scale and shift below: must not matter

    def model(folder, moved, noise=0.0, focal=focal, points=points):
        """Other world, perturbed cameras; observations are those of the true ones plus noise."""
        lens = pycolmap.Camera(model="SIMPLE_RADIAL", width=1000, height=800, params=[800.0, 500.0, 400.0, k1])
        folder = Path(folder)
        folder.mkdir()
        (folder / "cameras.txt").write_text(f"1 SIMPLE_RADIAL 1000 800 {focal} 500 400 {k1}\n")
        seen = [lens.img_from_cam(points @ c[:, :3].T + c[:, 3]) + random.normal(0, noise, (len(points), 2)) for c in cameras]
        with open(folder / "images.txt", "w") as file:
            for k, camera in enumerate(moved):
                rotation = camera[:, :3] @ world.T
                x, y, z, w = pycolmap.Rotation3d(rotation).quat
                t = 2.5 * (camera[:, 3] - rotation @ np.array([1.0, -2.0, 3.0]))
                line = " ".join(f"{xy[0]!r} {xy[1]!r} {p + 1}" for p, xy in enumerate(seen[k].tolist()))
                pose = " ".join(repr(float(v)) for v in (w, x, y, z, *t))
                file.write(f"{k + 1} {pose} 1 image{k:02}.jpg\n{line}\n")
        with open(folder / "points3D.txt", "w") as file:
            for p, xyz in enumerate(points @ world.T + [1.0, -2.0, 3.0]):
                track = " ".join(f"{k + 1} {p}" for k in range(count))
                file.write(f"{p + 1} {' '.join(repr(float(v)) for v in 2.5 * xyz)} 0 0 0 0 {track}\n")
        return pycolmap.Reconstruction(str(folder))

    def near(what, found, expected, tolerance):
        ok = abs(found - expected) <= tolerance
        print(f"{'ok' if ok else 'FAULT'}: {what}: {found:.6g}, expected {expected:.6g} within {tolerance:g}")
        return ok

    with tempfile.TemporaryDirectory() as temporary:
        base = Path(temporary)
        model(base / "truth", cameras)
        truth = Truth(base / "truth")
        exact = measure(truth, read_model(base / "truth"))
        good = [near("rotation of the truth", exact["rotation_deg"]["max"], 0, 1e-6)]
        good.append(near("position of the truth", exact["position_percent"]["max"], 0, 1e-6))
        good.append(near("reprojection of the truth", exact["reprojection_px"]["max"], 0, 1e-6))

        moved = cameras.copy()
        moved[4, :, :3] = turn([0, np.radians(5), 0]) @ moved[4, :, :3]
        one = measure(truth, model(base / "one", moved))
        good.append(near("one camera turned by 5 degrees", one["rotation_deg"]["max"], 5, 1e-4))
        good.append(near("the others", one["rotation_deg"]["median"], 0, 1e-4))

        signs = np.resize([1, -1], count)
        moved = np.array([np.column_stack([turn([0, 0, s * np.radians(2)]) @ c[:, :3], c[:, 3]]) for s, c in zip(signs, cameras)])
        both = measure(truth, model(base / "both", moved))
        good.append(near("cameras turned by 2 degrees, half of them back", both["rotation_deg"]["mean"], 2, 0.05))

        # The center of one camera is moved by 0.1 of an extent of about 3.8.
        moved = cameras.copy()
        moved[6, :, 3] -= moved[6, :, :3] @ np.array([0, 0.1, 0])
        shifted = measure(truth, model(base / "shifted", moved))
        expected = 100 * 0.1 / largest_distance(centers(cameras))
        good.append(near("a camera moved", shifted["position_percent"]["max"], expected, 0.2 * expected))

        wide = measure(truth, model(base / "wide", cameras, focal=1.03 * focal))
        good.append(near("focal length 3 % too large", wide["focal_percent"]["median"], 3, 1e-9))

        noisy = model(base / "noisy", cameras, noise=0.5)
        # Distances of normal noise in two directions have the Rayleigh distribution, of median sigma sqrt(2 ln 2).
        expected = 0.5 * np.sqrt(2 * np.log(2))
        good.append(near("noise of 0.5 pixels", measure(truth, noisy)["reprojection_px"]["median"], expected, 0.02))
        changed = bundle(noisy, "fixed")
        good.append(near("bundle adjustment of it", changed["reprojection_px"][1], expected, SETTLED_PX))
        again = bundle(noisy, "fixed")
        good.append(near("and again", again["reprojection_px"][1] - again["reprojection_px"][0], 0, 1e-3))
        good.append(near("rotation with it", measure(truth, noisy)["rotation_deg"]["median"], 0, 0.05))

        turned = np.array([np.column_stack([turn(random.normal(0, 0.02, 3)) @ c[:, :3], c[:, 3]]) for c in cameras])
        turned = model(base / "turned", turned)
        before = measure(truth, turned)
        bundle(turned, "fixed")
        after = measure(truth, turned)
        good.append(near("turned cameras after bundle adjustment", after["rotation_deg"]["max"], 0, 1e-3))
        good.append(ratios(before, after)["rotation_deg"] > 1000)
    print("passed" if all(good) else "failed")
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
