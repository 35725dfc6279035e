#!/usr/bin/env python3
"""Draws a GLB of `vggt export` as a PNG: its points, and the cameras of --show_cam.

    tools/render_glb.py SCENE.glb OUT.png [--yaw DEGREES] [--pitch DEGREES] [--beside PICTURE...]

Needs numpy and pillow. With yaw and pitch 0 the scene is seen from behind the first camera, along its view; a positive
yaw walks around it to the right, a positive pitch rises above it. The view turns around the middle of the points and stands so
far back that they fill the picture. --beside puts pictures in a column left of the drawing.

COLOR_0 is linear in glTF and drawn as such; --srgb takes it as the photo's bytes (`--color_space srgb`).
"""

import argparse
import json
import struct

import numpy as np
from PIL import Image

COMPONENTS = {5120: np.int8, 5121: np.uint8, 5122: np.int16, 5123: np.uint16, 5125: np.uint32, 5126: np.float32}
WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT4": 16}
POINTS, TRIANGLES = 0, 4
# The drawing is made larger and then shrunk, which smooths the splats' edges.
OVERSAMPLING = 2
FOV_Y_DEGREES = 45
# Samples along a triangle's edge: enough that a camera has no holes at any picture size in use.
TRIANGLE_SAMPLES = 60


class Glb:
    """A GLB file, and the arrays of its accessors."""

    def __init__(self, path):
        data = open(path, "rb").read()
        if data[:4] != b"glTF":
            raise SystemExit(f'"{path}" is not a GLB file: it starts with {data[:4]!r}')
        (length,) = struct.unpack_from("<I", data, 12)
        self.json = json.loads(data[20 : 20 + length])
        self.binary = data[20 + length + 8 :]

    def accessor(self, index):
        """[count, width], normalized integers as numbers in [-1, 1]."""
        accessor = self.json["accessors"][index]
        view = self.json["bufferViews"][accessor["bufferView"]]
        kind = np.dtype(COMPONENTS[accessor["componentType"]])
        width = WIDTHS[accessor["type"]]
        stride = view.get("byteStride", kind.itemsize * width)
        start = view.get("byteOffset", 0) + accessor.get("byteOffset", 0)
        values = np.ndarray((accessor["count"], width), kind, self.binary, start, (stride, kind.itemsize))
        if not accessor.get("normalized"):
            return values
        return np.maximum(values.astype(np.float64) / np.iinfo(kind).max, -1)

    def primitives(self):
        """(primitive, world_from_mesh) of every node of the scene."""
        nodes = self.json["nodes"]
        waiting = [(index, np.eye(4)) for index in self.json["scenes"][self.json.get("scene", 0)]["nodes"]]
        while waiting:
            index, above = waiting.pop()
            node = nodes[index]
            world = above @ local_transform(node)
            waiting += [(child, world) for child in node.get("children", [])]
            if "mesh" in node:
                for primitive in self.json["meshes"][node["mesh"]]["primitives"]:
                    yield primitive, world


def local_transform(node):
    if "matrix" in node:
        return np.array(node["matrix"], np.float64).reshape(4, 4).T
    x, y, z, w = node.get("rotation", [0, 0, 0, 1])
    turn = np.array([
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ])
    transform = np.eye(4)
    transform[:3, :3] = turn * node.get("scale", [1, 1, 1])
    transform[:3, 3] = node.get("translation", [0, 0, 0])
    return transform


def colors_of(glb, primitive, count):
    """[count, 3] in [0, 1], as stored: COLOR_0 times the material's color."""
    factor = [1, 1, 1, 1]
    if "material" in primitive:
        material = glb.json["materials"][primitive["material"]]
        factor = material.get("pbrMetallicRoughness", {}).get("baseColorFactor", factor)
    colors = np.ones((count, 3))
    if "COLOR_0" in primitive["attributes"]:
        colors = glb.accessor(primitive["attributes"]["COLOR_0"])[:, :3]
    return colors * factor[:3]


def surface(positions, colors, faces):
    """Triangles as points spread over them."""
    u, v = np.meshgrid(*[np.linspace(0, 1, TRIANGLE_SAMPLES)] * 2)
    inside = u + v <= 1
    weights = np.stack([1 - u - v, u, v], -1)[inside]
    spread = lambda values: np.einsum("sc,fcd->fsd", weights, values[faces]).reshape(-1, 3)
    return spread(positions), spread(colors)


def read_scene(path):
    """Points and triangles' points in world space: two pairs of positions [N, 3] and colors [N, 3]."""
    glb = Glb(path)
    points, meshes = [], []
    for primitive, world in glb.primitives():
        mesh = glb.accessor(primitive["attributes"]["POSITION"]).astype(np.float64)
        positions = mesh @ world[:3, :3].T + world[:3, 3]
        colors = colors_of(glb, primitive, len(positions))
        mode = primitive.get("mode", TRIANGLES)
        if mode == POINTS:
            points.append((positions, colors))
        elif mode == TRIANGLES:
            order = np.arange(len(positions))
            if "indices" in primitive:
                order = glb.accessor(primitive["indices"])[:, 0]
            meshes.append(surface(positions, colors, order.reshape(-1, 3)))
        else:
            raise SystemExit(f'"{path}" has a primitive of mode {mode}; points (0) and triangles (4) are drawn')
    join = lambda pairs: tuple(np.concatenate(part) for part in zip(*pairs)) if pairs else (np.zeros((0, 3)),) * 2
    return join(points), join(meshes)


def view_rotation(yaw, pitch):
    """camera_from_world: rows are right, down and forward. Unturned, forward is +z and up is +y, as `vggt` writes scenes."""
    yaw, pitch = np.radians([yaw, pitch])
    forward = np.array([np.sin(yaw) * np.cos(pitch), -np.sin(pitch), np.cos(yaw) * np.cos(pitch)])
    right = np.array([-np.cos(yaw), 0, np.sin(yaw)])
    return np.stack([right, np.cross(forward, right), forward])


def fitting_distance(seen, focal, size, share):
    """How far back, so that this share of the points lies within the picture; `seen` is [N, 3] from the middle."""
    reach = np.abs(seen[:, :2]) * focal / (np.array(size) * 0.48) - seen[:, 2:]
    return np.quantile(reach, share, axis=0).max()


def draw(pixels, colors, radii, size):
    """Round splats, the nearest wins. `pixels` is [N, 3]: x, y and depth."""
    width, height = size
    far_to_near = np.argsort(-pixels[:, 2], kind="stable")
    x, y = np.floor(pixels[far_to_near, :2]).astype(int).T
    depth, radii, colors = pixels[far_to_near, 2], radii[far_to_near], colors[far_to_near]
    nearest = np.full(width * height, np.inf)
    picture = np.ones((width * height, 3))
    reach = int(np.ceil(radii.max(initial=0)))
    for dy in range(-reach, reach + 1):
        for dx in range(-reach, reach + 1):
            covers = radii >= np.hypot(dx, dy)
            covers &= (0 <= x + dx) & (x + dx < width) & (0 <= y + dy) & (y + dy < height)
            at = (y + dy)[covers] * width + (x + dx)[covers]
            # numpy keeps the last of equal indices: the nearest point of this offset.
            own = np.full(width * height, -1)
            own[at] = np.flatnonzero(covers)
            hit = np.flatnonzero(own >= 0)
            hit = hit[depth[own[hit]] < nearest[hit]]
            nearest[hit] = depth[own[hit]]
            picture[hit] = colors[own[hit]]
    return picture.reshape(height, width, 3)


def render(scene, size, yaw, pitch, zoom, splat, srgb):
    """The scene as a picture of `size` (width, height)."""
    (points, point_colors), (surfaces, surface_colors) = scene
    width, height = large = (size[0] * OVERSAMPLING, size[1] * OVERSAMPLING)
    focal = height / 2 / np.tan(np.radians(FOV_Y_DEGREES) / 2)
    turn = view_rotation(yaw, pitch)
    middle = (np.quantile(points, 0.02, axis=0) + np.quantile(points, 0.98, axis=0)) / 2
    colors = np.concatenate([point_colors, surface_colors])
    seen = (np.concatenate([points, surfaces]) - middle) @ turn.T
    # All but stray points, and every camera.
    distance = fitting_distance(seen[: len(points)], focal, large, 0.998)
    if len(surfaces):
        distance = max(distance, fitting_distance(seen[len(points) :], focal, large, 1))
    distance /= zoom
    seen[:, 2] += distance
    # With a splat of 1, points evenly spread over the picture would cover it just once. Surfaces are sampled densely
    # enough for one pixel.
    radius = splat * np.sqrt(width * height / np.pi / max(len(points), 1))
    radii = np.where(np.arange(len(seen)) < len(points), radius * distance / np.maximum(seen[:, 2], 1e-9), 1)

    in_front = seen[:, 2] > 0.02 * distance
    seen, colors, radii = seen[in_front], colors[in_front], np.minimum(radii[in_front], 8 * radius)
    pixels = np.column_stack([seen[:, :2] * focal / seen[:, 2:] + np.array(large) / 2, seen[:, 2]])
    if not srgb:
        colors = np.where(colors <= 0.0031308, 12.92 * colors, 1.055 * np.maximum(colors, 0) ** (1 / 2.4) - 0.055)
    picture = draw(pixels, colors, radii, large)
    return Image.fromarray((picture.clip(0, 1) * 255).round().astype(np.uint8)).resize(size, Image.Resampling.BOX)


def beside(paths, drawing, gap=8):
    """The pictures in a column left of the drawing, all of them as high as it."""
    each = (drawing.height - gap * (len(paths) - 1)) / len(paths)
    pictures = []
    for path in paths:
        picture = Image.open(path).convert("RGB")
        pictures.append(picture.resize((round(picture.width * each / picture.height), round(each)), Image.Resampling.LANCZOS))
    column = max(picture.width for picture in pictures)
    sheet = Image.new("RGB", (column + gap + drawing.width, drawing.height), "white")
    for i, picture in enumerate(pictures):
        sheet.paste(picture, (0, round(i * (each + gap))))
    sheet.paste(drawing, (column + gap, 0))
    return sheet


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("glb")
    parser.add_argument("png")
    parser.add_argument("--width", type=int, default=960)
    parser.add_argument("--height", type=int, default=640)
    parser.add_argument("--yaw", type=float, default=20, help="degrees to the right [default: 20]")
    parser.add_argument("--pitch", type=float, default=20, help="degrees upwards [default: 20]")
    parser.add_argument("--zoom", type=float, default=1, help="above 1: nearer than all points need [default: 1]")
    parser.add_argument("--splat", type=float, default=1.5, help="size of a point [default: 1.5]")
    parser.add_argument("--srgb", action="store_true", help="COLOR_0 holds the photo's bytes")
    parser.add_argument("--beside", nargs="+", metavar="PICTURE", help="pictures to show left of the drawing")
    args = parser.parse_args()
    scene = read_scene(args.glb)
    picture = render(scene, (args.width, args.height), args.yaw, args.pitch, args.zoom, args.splat, args.srgb)
    if args.beside:
        picture = beside(args.beside, picture)
    picture.save(args.png, optimize=True)


if __name__ == "__main__":
    main()
