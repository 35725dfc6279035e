#!/usr/bin/env python3
"""Measures the cameras of exported COLMAP models against true ones.

    tools/checks/check_refine.py TRUTH MODEL              one model
    tools/checks/check_refine.py TRUTH BEFORE AFTER       also how many times smaller the errors became
    tools/checks/check_refine.py --bundle focal TRUTH MODEL

TRUTH is a folder by refine_scenes, or any COLMAP model. MODEL is a folder by `vggt export --format colmap`, or the model inside.
Images are paired by name. Of each model it prints

    rotation     degrees between true and found cameras after the one rotation of the world that fits best (least absolute
                 deviations, so that a wrong camera does not move the others); and of all pairs of cameras, without any fit
    position     distance of the camera centers after the similarity that fits best (Umeyama), in percent of the largest
                 distance of two true centers. Where all true centers are equal: the largest distance of two found ones, in
                 percent of the median depth of the points
    focal, k1    error of the focal length in percent, and the found k1
    tracks       points seen by two images or more, their observations, and the median distance of projection and observation
                 in pixels
    matches      where TRUTH has depth.npz: how far apart observations of one track truly are, in pixels: the first, taken to
                 the others by true depth and cameras

--bundle runs COLMAP's bundle adjustment on a copy of the last model, of poses and points, and of nothing else (`fixed`), the focal
lengths (`focal`), or also k1 (`all`), and prints what it changes. A model that is already at the optimum changes by less than
0.1 pixels; exits 1 where it is more. --json prints one JSON object. Needs tools/checks/requirements.txt.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import pycolmap

SETTLED_PX = 0.1
WRONG_MATCH_PX = 4.0
EDGE = 0.05  # where depth changes by this share between neighbors, a position cannot be taken to another image
SHARED_CENTER = 1e-6  # of scene units: centers closer than this are one


class Truth:
    def __init__(self, folder):
        folder = Path(folder)
        self.depth = self.step = None
        if (folder / "truth.npz").exists():
            data = np.load(folder / "truth.npz")
            self.names, self.cameras = [str(name) for name in data["names"]], data["camera_from_world"]
            self.width, self.height = map(int, data["size"])
            fx, fy, self.cx, self.cy, self.k1 = map(float, data["intrinsics"])
            self.focal = (fx + fy) / 2
            if (folder / "depth.npz").exists():
                self.depth = np.load(folder / "depth.npz")["depth"]
                self.step = self.width // self.depth.shape[2]
        else:
            model = read_model(folder)
            images = sorted(model.images.values(), key=lambda image: image.name)
            self.names = [image.name for image in images]
            self.cameras = np.array([image.cam_from_world().matrix() for image in images])
            camera = model.cameras[images[0].camera_id]
            self.width, self.height = camera.width, camera.height
            self.focal, self.k1 = camera.mean_focal_length(), distortion(camera) or 0.0
            self.cx, self.cy = camera.principal_point_x, camera.principal_point_y

    def camera(self):
        params = [self.focal, self.cx, self.cy, self.k1]
        return pycolmap.Camera(model="SIMPLE_RADIAL", width=self.width, height=self.height, params=params)


def read_model(folder):
    folder = Path(folder)
    inside = [path for path in (folder / "sparse/0", folder / "truth", folder) if (path / "images.txt").exists()]
    inside += [path for path in (folder / "sparse/0", folder) if (path / "images.bin").exists()]
    if not inside:
        raise SystemExit(f"no COLMAP model in {folder}")
    return pycolmap.Reconstruction(str(inside[0]))


def distortion(camera):
    """k1 of a camera whose model has one."""
    names = [name.strip() for name in camera.params_info.split(",")]
    for name in ("k", "k1"):
        if name in names:
            return float(camera.params[names.index(name)])
    return None


def angles(rotations):
    """Angles in degrees of rotation matrices [N, 3, 3]; exact for small ones, where the cosine is not."""
    off = rotations - np.swapaxes(rotations, 1, 2)
    sine = np.sqrt(off[:, 2, 1] ** 2 + off[:, 0, 2] ** 2 + off[:, 1, 0] ** 2) / 2
    return np.degrees(np.arctan2(sine, (np.trace(rotations, axis1=1, axis2=2) - 1) / 2))


def nearest_rotation(matrix):
    u, _, v = np.linalg.svd(matrix)
    return u @ np.diag([1, 1, np.linalg.det(u @ v)]) @ v


def align_rotations(true, found):
    """Errors in degrees after the rotation G of the world for which found = true G fits best."""
    between = np.swapaxes(true, 1, 2) @ found
    weights = np.ones(len(between))
    for _ in range(100):  # least absolute deviations by weights
        fit = nearest_rotation(np.einsum("n,nij->ij", weights, between))
        errors = angles(true @ fit @ np.swapaxes(found, 1, 2))
        weights = 1 / np.maximum(errors, 1e-7)
    return errors


def align_positions(true, found):
    """`found` centers after the similarity of least squares onto the `true` ones (Umeyama 1991)."""
    middle_true, middle = true.mean(axis=0), found.mean(axis=0)
    a, b = true - middle_true, found - middle
    u, values, v = np.linalg.svd(a.T @ b)
    sign = np.diag([1, 1, np.sign(np.linalg.det(u @ v))])
    square = np.sum(b**2)
    scale = np.sum(values * np.diag(sign)) / square if square > 0 else 0.0
    return scale * b @ (u @ sign @ v).T + middle_true


def largest_distance(points):
    return float(np.max(np.linalg.norm(points[:, None] - points[None], axis=2)))


def centers(cameras):
    return -np.einsum("nji,nj->ni", cameras[:, :, :3], cameras[:, :, 3])


def statistics(values):
    values = np.asarray(values, float)
    if values.size == 0:
        return None
    return {"median": float(np.median(values)), "mean": float(np.mean(values)), "max": float(np.max(values))}


def observations(model, at_least=2):
    """Rows of point, image and the position in the image, and the distances of projection and observation."""
    rows, positions, distances = [], [], []
    for key, point in model.points3D.items():
        if point.track.length() < at_least:
            continue
        for element in point.track.elements:
            image = model.images[element.image_id]
            seen = image.points2D[element.point2D_idx].xy
            projected = image.project_point(point.xyz)
            rows.append((key, element.image_id))
            positions.append(seen)
            distances.append(np.inf if projected is None else np.linalg.norm(projected - seen))
    return np.array(rows, dtype=np.int64).reshape(-1, 2), np.array(positions).reshape(-1, 2), np.array(distances)


def match_errors(truth, model):
    """Pixels between observations of a track and the first of it, taken there by true depth and cameras."""
    rows, positions, _ = observations(model)
    camera = truth.camera()
    number = {key: truth.names.index(image.name) for key, image in model.images.items() if image.name in truth.names}
    errors = []
    starts = np.flatnonzero(np.diff(rows[:, 0], prepend=-1))
    for start, end in zip(starts, [*starts[1:], len(rows)]):
        if any(key not in number for key in rows[start:end, 1]):
            continue
        at = number[rows[start, 1]]
        depth = sample_depth(truth.depth[at], positions[start] / truth.step - 0.5)
        ray = camera.cam_from_img(positions[start])
        if depth is None or ray is None:
            continue
        true = truth.cameras[at]
        world = true[:, :3].T @ (depth * np.append(ray, 1) - true[:, 3])
        for k in range(start + 1, end):
            other = truth.cameras[number[rows[k, 1]]]
            projected = camera.img_from_cam(other[:, :3] @ world + other[:, 3])
            errors.append(np.inf if projected is None else np.linalg.norm(projected - positions[k]))
    return np.array(errors)


def sample_depth(depth, position):
    """Depth between pixels, linear in its inverse as a plane is; None at an edge."""
    x, y = np.clip(position, 0, np.array(depth.shape[::-1]) - 1.001)
    i, j = int(x), int(y)
    near = 1 / depth[j : j + 2, i : i + 2].astype(float)
    if near.max() > near.min() * (1 + EDGE):
        return None
    x, y = x - i, y - j
    return 1 / (np.array([1 - y, y]) @ near @ np.array([1 - x, x]))


def measure(truth, model):
    images = {image.name: image for image in model.images.values()}
    common = [name for name in truth.names if name in images]
    if len(common) < 2:
        raise SystemExit(f"only {len(common)} images have names of true ones, such as {truth.names[0]}")
    true = truth.cameras[[truth.names.index(name) for name in common]]
    found = np.array([images[name].cam_from_world().matrix() for name in common])
    first, second = np.triu_indices(len(common), 1)
    relative = [c[second, :, :3] @ np.swapaxes(c[first, :, :3], 1, 2) for c in (true, found)]
    result = {
        "images": len(common),
        "missing": [name for name in truth.names if name not in images],
        "rotation_deg": statistics(align_rotations(true[:, :, :3], found[:, :, :3])),
        "rotation_pairs_deg": statistics(angles(np.swapaxes(relative[0], 1, 2) @ relative[1])),
    }
    extent = largest_distance(centers(true))
    if extent > SHARED_CENTER:
        aligned = align_positions(centers(true), centers(found))
        result["position_percent"] = statistics(100 * np.linalg.norm(aligned - centers(true), axis=1) / extent)
    else:
        result["spread_percent"] = 100 * largest_distance(centers(found)) / median_depth(model)
    cameras = [model.cameras[images[name].camera_id] for name in common]
    focal = np.array([100 * (camera.mean_focal_length() / truth.focal - 1) for camera in cameras])
    bends = [k for k in map(distortion, cameras) if k is not None]
    result["focal_percent"] = {"median": float(np.median(focal)), "max": float(np.max(np.abs(focal)))}
    result["k1"] = {"true": truth.k1, "median": float(np.median(bends)) if bends else None}
    result["points"] = len(model.points3D)
    rows, _, distances = observations(model)
    result["tracks"] = len(np.unique(rows[:, 0]))
    result["observations"] = len(rows)
    result["reprojection_px"] = statistics(distances)
    if truth.depth is not None and len(rows):
        errors = match_errors(truth, model)
        if len(errors):
            wrong = 100 * float(np.mean(errors > WRONG_MATCH_PX))
            result["matches"] = {"checked": len(errors), "median_px": float(np.median(errors)), "wrong_percent": wrong}
    return result


def median_depth(model):
    rows, _, _ = observations(model, at_least=1)
    depths = [model.images[image].cam_from_world().matrix()[2] @ np.append(model.points3D[key].xyz, 1) for key, image in rows]
    return float(np.median(depths)) if depths else float("nan")


def bundle(model, intrinsics):
    """Changes of a model by bundle adjustment; the model becomes the adjusted one."""
    before = np.array([model.images[key].cam_from_world().matrix() for key in sorted(model.images)])
    rows, _, distances = observations(model)
    if not len(rows):
        raise SystemExit("the model has no point that two images see: nothing to adjust")
    options = pycolmap.BundleAdjustmentOptions()
    options.refine_focal_length = intrinsics != "fixed"
    options.refine_extra_params = intrinsics == "all"
    options.refine_principal_point = False
    options.print_summary = False
    # COLMAP adjusts no point that a single image shows: those of depth maps, with which training begins.
    for key in [key for key, point in model.points3D.items() if point.track.length() < 2]:
        model.delete_point3D(key)
    pycolmap.bundle_adjustment(model, options)
    after = np.array([model.images[key].cam_from_world().matrix() for key in sorted(model.images)])
    moved = align_positions(centers(before), centers(after)) - centers(before)
    extent = largest_distance(centers(before))
    return {
        "intrinsics": intrinsics,
        "reprojection_px": [float(np.median(distances)), float(np.median(observations(model)[2]))],
        "rotation_deg": statistics(align_rotations(before[:, :, :3], after[:, :, :3])),
        "position_percent": statistics(100 * np.linalg.norm(moved, axis=1) / max(extent, 1e-12)),
    }


RATIOS = ("rotation_deg", "rotation_pairs_deg", "position_percent", "reprojection_px")


def ratios(before, after):
    """How many times smaller the medians became."""
    found = {}
    for key in RATIOS:
        if before.get(key) and after.get(key):
            found[key] = before[key]["median"] / max(after[key]["median"], 1e-12)
    found["focal_percent"] = abs(before["focal_percent"]["median"]) / max(abs(after["focal_percent"]["median"]), 1e-12)
    return found


def show(name, found):
    def three(key, unit):
        s = found.get(key)
        return f"median {s['median']:.4f}, mean {s['mean']:.4f}, max {s['max']:.4f} {unit}" if s else "none"

    missing = f", {len(found['missing'])} missing" if found["missing"] else ""
    print(f"{name}: {found['images']} images{missing}")
    print(f"  rotation    {three('rotation_deg', 'degrees')}")
    print(f"  of pairs    {three('rotation_pairs_deg', 'degrees')}")
    if "spread_percent" in found:
        print(f"  position    centers spread over {found['spread_percent']:.3f} % of the median depth; truly none")
    else:
        print(f"  position    {three('position_percent', '% of the largest distance')}")
    k1 = "none" if found["k1"]["median"] is None else f"{found['k1']['median']:.4f}"
    print(f"  focal       {found['focal_percent']['median']:+.3f} %, at most {found['focal_percent']['max']:.3f} %; k1 {k1}, "
          f"truly {found['k1']['true']:g}")  # fmt: skip
    print(f"  tracks      {found['tracks']} of {found['points']} points, {found['observations']} observations, "
          f"reprojection {three('reprojection_px', 'pixels')}")  # fmt: skip
    if "matches" in found:
        m = found["matches"]
        print(f"  matches     {m['checked']} checked, median {m['median_px']:.3f} pixels, {m['wrong_percent']:.2f} % wrong")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*", type=Path, metavar="TRUTH BEFORE [AFTER]")
    parser.add_argument("--bundle", choices=("fixed", "focal", "all"), help="what COLMAP adjusts besides poses and points")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    if len(args.folders) not in (2, 3):
        parser.error("expected TRUTH and one or two models")
    truth, models = Truth(args.folders[0]), [read_model(folder) for folder in args.folders[1:]]
    found = [measure(truth, model) for model in models]
    report = dict(zip(("before", "after") if len(found) == 2 else ("model",), found))
    if len(found) == 2:
        report["ratio"] = ratios(*found)
    settled = True
    if args.bundle:
        report["bundle"] = bundle(models[-1], args.bundle)
        report["bundle"]["adjusted"] = measure(truth, models[-1])
        first, last = report["bundle"]["reprojection_px"]
        settled = abs(first - last) < SETTLED_PX
    if args.json:
        print(json.dumps(report))
        return 0 if settled else 1
    for name in ("model", "before", "after"):
        if name in report:
            show(name, report[name])
    if "ratio" in report:
        print("times smaller: " + ", ".join(f"{key.rsplit('_', 1)[0]} {value:.3g}" for key, value in report["ratio"].items()))
    if args.bundle:
        b, rotation = report["bundle"], report["bundle"]["rotation_deg"]
        print(f"bundle adjustment ({b['intrinsics']}): median {first:.4f} to {last:.4f} pixels"
              f"{'' if settled else f', which is a change of more than {SETTLED_PX}'}; rotations by {rotation['median']:.4f}"
              f" degrees (most {rotation['max']:.4f}), positions by {b['position_percent']['median']:.4f} %")  # fmt: skip
        show("adjusted", b["adjusted"])
    return 0 if settled else 1


if __name__ == "__main__":
    sys.exit(main())
