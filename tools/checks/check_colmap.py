#!/usr/bin/env python3
"""Reads COLMAP models with pycolmap and tells whether they hold together.

    tools/checks/check_colmap.py FOLDER...

Needs tools/checks/requirements.txt. Every folder below FOLDER that holds a cameras.bin is read in its binary and in its text
form. Both must agree; every point must be seen by its image inside the image, and its error must be what pycolmap
computes. Where the comments name the mode "Depthmap and Camera", points must project to their pixels. Exits 1 on any
fault, or when there is no model.
"""

import json
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import pycolmap

# Pixels of the original images; positions are stored in float32.
TOLERANCE = 0.01


def text_form(folder):
    """The model's text form alone: pycolmap prefers the binary one."""
    with tempfile.TemporaryDirectory() as alone:
        for path in folder.glob("*.txt"):
            shutil.copy(path, alone)
        return pycolmap.Reconstruction(alone)


def prediction_mode(folder):
    comment = (folder / "cameras.txt").read_text(encoding="utf-8").splitlines()[1]
    return json.loads(comment[comment.index("{") :])["options"].get("prediction_mode", "")


def blanks_as_in_text(name):
    return "".join(
        "".join(f"%{b:02X}" for b in c.encode()) if c.isspace() or not c.isprintable() else c for c in name
    )


def differences(binary, text):
    """What the two forms do not share."""
    for part in ("cameras", "images", "points3D"):
        if set(getattr(binary, part)) != set(getattr(text, part)):
            yield f"other {part}"
            return
    for key, camera in binary.cameras.items():
        other = text.cameras[key]
        if (camera.width, camera.height, camera.model) != (other.width, other.height, other.model):
            yield f"camera {key}: size or model"
        if not np.array_equal(camera.params, other.params):
            yield f"camera {key}: parameters"
    for key, image in binary.images.items():
        other = text.images[key]
        if blanks_as_in_text(image.name) != other.name:
            yield f"image {key}: name {image.name!r} and {other.name!r}"
        if not np.array_equal(image.cam_from_world().matrix(), other.cam_from_world().matrix()):
            yield f"image {key}: pose"
        if image.num_points2D() != other.num_points2D():
            yield f"image {key}: number of points"
    for key, point in binary.points3D.items():
        other = text.points3D[key]
        if not np.array_equal(point.xyz, other.xyz) or not np.array_equal(point.color, other.color):
            yield f"point {key}"


def reprojection(model):
    """For each point: distance of projection and pixel, the stored error, and whether the pixel is in the image."""
    for point in model.points3D.values():
        for element in point.track.elements:
            image = model.images[element.image_id]
            camera = model.cameras[image.camera_id]
            pixel = image.points2D[element.point2D_idx].xy
            inside = 0 <= pixel[0] < camera.width and 0 <= pixel[1] < camera.height
            projected = image.project_point(point.xyz)
            distance = np.inf if projected is None else np.linalg.norm(projected - pixel)
            yield distance, point.error, inside


def faults(folder):
    binary, text = pycolmap.Reconstruction(str(folder)), text_form(folder)
    yield from differences(binary, text)
    rows = np.array(list(reprojection(binary)), dtype=float).reshape(-1, 3)
    distance, error, inside = rows.T
    in_front = np.isfinite(distance)
    if not inside.all():
        yield f"{int((inside == 0).sum())} pixels outside their images"
    if not np.allclose(distance[in_front], error[in_front], rtol=1e-6, atol=TOLERANCE):
        yield "stored errors are not the distances"
    if prediction_mode(folder).startswith("Depthmap") and distance.max(initial=0) > TOLERANCE:
        yield f"points project up to {distance.max()} pixels beside their pixels"
    names = ", ".join(image.name for image in binary.images.values())
    print(
        f"{folder}: {binary.num_images()} images ({names}), {binary.num_points3D()} points, "
        f"{int((~in_front).sum())} behind, projections off by {np.median(distance[in_front]) if len(rows) else 0:.2e}"
        f" (median), {distance[in_front].max(initial=0):.2e} (most) pixels"
    )


def main(folders):
    models = sorted(path.parent for folder in folders for path in Path(folder).rglob("cameras.bin"))
    count = 0
    for folder in models:
        for fault in faults(folder):
            count += 1
            print(f"  fault in {folder}: {fault}")
    print(f"{len(models)} models, {count} faults")
    return 0 if models and count == 0 else 1


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1:]))
