"""Ray casting of rooms made of rectangles, boxes, balls and cylinders whose texture does not repeat. Used by refine_scenes.

The world has z up. A camera is `camera_from_world` [3, 4] in OpenCV axes (x right, y down, z forward) and a `Lens`: COLMAP's
SIMPLE_RADIAL with pixel centers at half-integers.

Every surface has a texture of its own, by textures.py. Rays take it from a pyramid of halved textures at the size of their
footprint, trilinearly, so that nothing aliases and no level begins at a visible edge.
"""

import dataclasses

import numpy as np
import textures

NEAR = 0.05  # what is closer to a camera is not seen
LEVELS = 10
ROWS = 32  # rendered at a time, so that their arrays stay in the cache


@dataclasses.dataclass
class Lens:
    width: int
    height: int
    focal: float
    k1: float = 0.0

    def rays(self, x, y):
        """Points of the plane z = 1 in front of pixel positions."""
        x, y = (x - self.width / 2) / self.focal, (y - self.height / 2) / self.focal
        if self.k1 == 0:
            return x, y
        distorted = np.sqrt(x * x + y * y)
        radius = distorted
        for _ in range(6):  # Newton's method on radius (1 + k1 radius^2) = distorted
            radius = radius - (radius * (1 + self.k1 * radius**2) - distorted) / (1 + 3 * self.k1 * radius**2)
        factor = 1 / (1 + self.k1 * radius**2)
        return x * factor, y * factor

    def box(self, points):
        """The pixels that may see a convex body with those corners in the camera's axes: x0, x1, y0, y1; None for none."""
        if points[:, 2].max() < NEAR:
            return None
        if points[:, 2].min() < NEAR:
            return 0, self.width, 0, self.height
        plane = points[:, :2] / points[:, 2:]
        if np.max(np.sum(plane**2, axis=1)) > 1.5**2:  # the polynomial means nothing out there
            low, high = plane.min(axis=0), plane.max(axis=0)
            edge = 1.3 * np.array([self.width, self.height]) / 2 / self.focal
            if (low > edge).any() or (high < -edge).any():
                return None
            return 0, self.width, 0, self.height
        square = np.sum(plane**2, axis=1, keepdims=True)
        pixels = self.focal * plane * (1 + self.k1 * square) + np.array([self.width, self.height]) / 2
        margin = 0.04 * self.width if self.k1 else 2
        low = np.maximum(np.floor(pixels.min(axis=0) - margin), 0).astype(int)
        high = np.minimum(np.ceil(pixels.max(axis=0) + margin), [self.width, self.height]).astype(int)
        return (low[0], high[0], low[1], high[1]) if (low < high).all() else None


class Rectangle:
    """Corner, two orthogonal sides as vectors; seen from where their cross product points. A `radius` cuts a disc out of it."""

    curved = False

    def __init__(self, corner, side_u, side_v, paint, radius=None):
        self.corner, self.radius, self.paint = np.asarray(corner, float), radius, paint
        side_u, side_v = np.asarray(side_u, float), np.asarray(side_v, float)
        self.size = np.linalg.norm(side_u), np.linalg.norm(side_v)
        self.u, self.v = side_u / self.size[0], side_v / self.size[1]
        self.normal = np.cross(self.u, self.v)

    def box(self, camera, lens):
        rotation, center = camera[:, :3], -camera[:, :3].T @ camera[:, 3]
        if self.normal @ (center - self.corner) <= 0:
            return None
        sides = np.array([[0, 0], [1, 0], [0, 1], [1, 1]]) * self.size
        corners = self.corner + sides @ np.array([self.u, self.v])
        return lens.box(corners @ rotation.T + camera[:, 3])

    def hit(self, camera, x, y):
        """Depth, stretch of the footprint, position in the texture in scene units, and where the surface is hit at all."""
        rotation, center = camera[:, :3], -camera[:, :3].T @ camera[:, 3]
        n, u, v = ((rotation @ axis).astype(np.float32) for axis in (self.normal, self.u, self.v))
        start = center - self.corner
        slope = n[0] * x + n[1] * y + n[2]
        depth = np.float32(-self.normal @ start) / slope
        at_u = np.float32(self.u @ start) + depth * (u[0] * x + u[1] * y + u[2])
        at_v = np.float32(self.v @ start) + depth * (v[0] * x + v[1] * y + v[2])
        where = (depth > NEAR) & (at_u >= 0) & (at_v >= 0) & (at_u <= self.size[0]) & (at_v <= self.size[1])
        if self.radius:
            where &= (at_u - self.radius) ** 2 + (at_v - self.radius) ** 2 <= self.radius**2
        return depth, (1 + x * x + y * y) / np.maximum(np.abs(slope), 1e-3), at_u, at_v, where

    def place(self, u, v):
        """World points and normals of positions in the texture."""
        points = self.corner + u[..., None] * self.u + v[..., None] * self.v
        return points, np.broadcast_to(self.normal, points.shape)

    def meets(self, origins, directions, within):
        slope = directions @ self.normal
        with np.errstate(divide="ignore", invalid="ignore"):
            distance = (self.corner - origins) @ self.normal / slope
            points = origins + distance[:, None] * directions - self.corner
            u, v = points @ self.u, points @ self.v
            there = (distance > 1e-4) & (distance < within) & (u > 0) & (v > 0) & (u < self.size[0]) & (v < self.size[1])
            if self.radius:
                there &= (u - self.radius) ** 2 + (v - self.radius) ** 2 < self.radius**2
        return there


class Ball:
    """Its texture is the map of the sphere that has true distances from the top, so that its one seam is below."""

    curved = True

    def __init__(self, center, radius, paint):
        self.center, self.radius, self.paint = np.asarray(center, float), radius, paint
        self.size = (2 * np.pi * radius,) * 2

    def box(self, camera, lens):
        middle = camera[:, :3] @ self.center + camera[:, 3]
        corners = np.array([[i, j, k] for i in (-1, 1) for j in (-1, 1) for k in (-1, 1)])
        return lens.box(middle + self.radius * corners)

    def hit(self, camera, x, y):
        middle = camera[:, :3] @ self.center + camera[:, 3]
        a = 1 + x * x + y * y
        b = np.float32(middle[0]) * x + np.float32(middle[1]) * y + np.float32(middle[2])
        root = b * b - a * np.float32(middle @ middle - self.radius**2)
        depth = (b - np.sqrt(np.maximum(root, 0))) / a
        n = [(depth * ray - np.float32(m)) / np.float32(self.radius) for ray, m in zip((x, y, 1), middle)]
        world = [sum(np.float32(camera[i, axis]) * n[i] for i in range(3)) for axis in range(3)]
        slope = np.abs(n[0] * x + n[1] * y + n[2])
        flat = np.sqrt(world[0] ** 2 + world[1] ** 2)
        factor = np.float32(self.radius) * np.arctan2(flat, world[2]) / np.maximum(flat, 1e-6)
        middle_of_map = np.float32(np.pi * self.radius)
        where = (root > 0) & (depth > NEAR)
        return depth, a / np.maximum(slope, 0.05), middle_of_map + factor * world[0], middle_of_map + factor * world[1], where

    def place(self, u, v):
        u, v = u / self.radius - np.pi, v / self.radius - np.pi
        angle = np.sqrt(u * u + v * v)
        flat = np.sin(np.minimum(angle, np.pi)) / np.maximum(angle, 1e-6)
        normals = np.stack([flat * u, flat * v, np.cos(np.minimum(angle, np.pi))], axis=-1)
        return self.center + self.radius * normals, normals

    def meets(self, origins, directions, within):
        start = origins - self.center
        b = np.sum(start * directions, axis=1)
        root = b * b - np.sum(start**2, axis=1) + self.radius**2
        distance = -b - np.sqrt(np.maximum(root, 0))
        return (root > 0) & (distance > 1e-4) & (distance < within)


class Tube:
    """The side of an upright cylinder. Its seam is at -135 degrees, toward the corner of the room, where no camera is."""

    curved = True
    SEAM = np.radians(-135)

    def __init__(self, center, radius, height, paint):
        self.center, self.radius, self.height, self.paint = np.asarray(center, float), radius, height, paint
        self.size = 2 * np.pi * radius, height

    def box(self, camera, lens):
        signs = np.array([[i, j, k] for i in (-1, 1) for j in (-1, 1) for k in (0, 1)])
        corners = self.center + signs * np.array([self.radius, self.radius, self.height])
        return lens.box(corners @ camera[:, :3].T + camera[:, 3])

    def hit(self, camera, x, y):
        rotation = camera[:, :3].astype(np.float32)
        start = (-camera[:, :3].T @ camera[:, 3] - self.center).astype(np.float32)
        ray = [rotation[0, k] * x + rotation[1, k] * y + rotation[2, k] for k in range(3)]
        a = np.maximum(ray[0] ** 2 + ray[1] ** 2, 1e-6)
        b = start[0] * ray[0] + start[1] * ray[1]
        root = b * b - a * (start[0] ** 2 + start[1] ** 2 - np.float32(self.radius**2))
        depth = (-b - np.sqrt(np.maximum(root, 0))) / a
        p = [start[k] + depth * ray[k] for k in range(3)]
        slope = np.abs(p[0] * ray[0] + p[1] * ray[1]) / np.float32(self.radius)
        angle = np.mod(np.arctan2(p[1], p[0]) - self.SEAM, 2 * np.pi)
        where = (root > 0) & (depth > NEAR) & (p[2] >= 0) & (p[2] <= self.height)
        return depth, (1 + x * x + y * y) / np.maximum(slope, 0.05), np.float32(self.radius) * angle, p[2], where

    def place(self, u, v):
        angle = u / self.radius + self.SEAM
        normals = np.stack([np.cos(angle), np.sin(angle), np.zeros_like(angle)], axis=-1)
        return self.center + self.radius * normals + v[..., None] * np.array([0, 0, 1]), normals

    def meets(self, origins, directions, within):
        start, flat = origins - self.center, directions[:, :2]
        a = np.maximum(np.sum(flat**2, axis=1), 1e-9)
        b = np.sum(start[:, :2] * flat, axis=1)
        root = b * b - a * (np.sum(start[:, :2] ** 2, axis=1) - self.radius**2)
        distance = (-b - np.sqrt(np.maximum(root, 0))) / a
        z = start[:, 2] + distance * directions[:, 2]
        return (root > 0) & (distance > 1e-4) & (distance < within) & (z > 0) & (z < self.height)


def block(center, size, paint, degrees=0.0, bottom=False):
    """The faces of a box that stands on `center`, turned around the vertical."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    x, y, z = size[0] * np.array([c, s, 0]), size[1] * np.array([-s, c, 0]), np.array([0, 0, size[2]])
    low = np.asarray(center, float) - x / 2 - y / 2
    faces = [(low + z, x, y), (low, x, z), (low + x, y, z), (low + x + y, -x, z), (low + y, -y, z)]
    if bottom:
        faces.append((low, y, x))
    return [Rectangle(*face, paint) for face in faces]


def cylinder(center, radius, height, paint):
    top = np.asarray(center, float) + [-radius, -radius, height]
    return [
        Tube(center, radius, height, paint),
        Rectangle(top, [2 * radius, 0, 0], [0, 2 * radius, 0], paint, radius),
    ]


def room(low, high, walls, floor, ceiling):
    """The inside of a box. `walls` are the paints at x low, y low, x high, y high."""
    (x0, y0, z0), (x1, y1, z1) = low, high
    x, y, z = [x1 - x0, 0, 0], [0, y1 - y0, 0], [0, 0, z1 - z0]
    back = [-side for side in x], [-side for side in y]
    return [
        Rectangle([x0, y0, z0], y, z, walls[0]),
        Rectangle([x1, y0, z0], back[0], z, walls[1]),
        Rectangle([x1, y1, z0], back[1], z, walls[2]),
        Rectangle([x0, y1, z0], x, z, walls[3]),
        Rectangle([x0, y0, z0], x, y, floor),
        Rectangle([x0, y0, z1], y, x, ceiling),
    ]


class Scene:
    """Surfaces with the textures of those that some camera sees."""

    def __init__(self, surfaces, cameras, lens, texel, seed):
        self.surfaces = [s for s in surfaces if any(s.box(camera, lens) for camera in cameras)]
        atlas, self.offset, self.shape, start = [], [], [], 0
        self.texel = np.float32(texel)
        for number, surface in enumerate(surfaces):
            if surface not in self.surfaces:
                continue
            random = np.random.default_rng([seed, number])
            level = textures.texture(surface, surfaces, texel, random).astype(np.float32)
            for _ in range(LEVELS):
                height, width, _ = level.shape
                whole = np.zeros((height, width, 4), np.uint8)
                whole[..., :3] = level + 0.5
                atlas.append(whole.reshape(-1, 4).view(np.uint32)[:, 0])
                self.offset.append(start)
                self.shape.append((width, height))
                start += width * height
                level = np.pad(level, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
                level = (level[0::2, 0::2] + level[1::2, 0::2] + level[0::2, 1::2] + level[1::2, 1::2]) / 4
        self.atlas = np.concatenate(atlas)
        self.offset, self.shape = np.array(self.offset, np.int32), np.array(self.shape, np.int32)

    def trace(self, camera, lens, boxes, columns, rows):
        """Depth, number of the surface, footprint and position in its texture, for a grid of pixel positions."""
        x, y = lens.rays(columns[None, :], rows[:, None])
        x, y = (np.ascontiguousarray(np.broadcast_to(a, (len(rows), len(columns))), np.float32) for a in (x, y))
        depth = np.full(x.shape, np.inf, np.float32)
        number = np.full(x.shape, -1, np.int32)
        stretch, at_u, at_v = (np.zeros(x.shape, np.float32) for _ in range(3))
        for k, (surface, box) in enumerate(zip(self.surfaces, boxes)):
            if box is None:
                continue
            i, j = np.searchsorted(columns, box[:2])
            r, s = np.searchsorted(rows, box[2:])
            if i == j or r == s:
                continue
            part = np.s_[r:s, i:j]
            with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
                found = surface.hit(camera, x[part], y[part])
                where = found[4] & (found[0] < depth[part])
            np.copyto(depth[part], found[0], where=where)
            np.copyto(stretch[part], found[1], where=where)
            np.copyto(at_u[part], found[2], where=where)
            np.copyto(at_v[part], found[3], where=where)
            number[part][where] = k
        return depth, number, stretch, at_u, at_v

    def colors(self, depth, number, stretch, at_u, at_v, step):
        """Colors [N, 3] of flat arrays; `step` is the distance of neighbors at depth 1."""
        seen = number >= 0
        # Of a footprint that is long in one direction, a part of the length: the rays of a pixel are a filter too.
        footprint = np.where(seen, depth * np.maximum(1, stretch / 1.6), 1) * (np.float32(step) / self.texel)
        lod = np.clip(np.log2(np.maximum(footprint, 1e-6)), 0, LEVELS - 1.001).astype(np.float32)
        low = lod.astype(np.int32)
        part = lod - low
        total = np.zeros((len(depth), 4), np.float32)
        base = np.where(seen, number, 0) * LEVELS + low
        for level, weight in ((0, 1 - part), (1, part)):
            entry = base + level
            factor = np.ldexp(np.float32(1), -(low + level)) / self.texel
            width, height = self.shape[entry, 0], self.shape[entry, 1]
            x = np.clip(at_u * factor - 0.5, 0, width - 1)
            y = np.clip(at_v * factor - 0.5, 0, height - 1)
            i, j = x.astype(np.int32), y.astype(np.int32)
            x, y = (x - i).astype(np.float32), (y - j).astype(np.float32)
            right, down = np.where(i + 1 < width, 1, 0), np.where(j + 1 < height, width, 0)
            start = self.offset[entry] + j * width + i
            for index, share in (
                (start, (1 - x) * (1 - y)),
                (start + right, x * (1 - y)),
                (start + down, (1 - x) * y),
                (start + right + down, x * y),
            ):
                texels = self.atlas[index].view(np.uint8).reshape(-1, 4)
                total += texels * (share * weight)[:, None]
        total[~seen] = 0
        return total[:, :3]

    def photo(self, camera, lens, samples):
        """The picture [H, W, 3] in uint8, each pixel the mean of `samples` x `samples` rays."""
        boxes = [surface.box(camera, lens) for surface in self.surfaces]
        columns = (np.arange(lens.width * samples) + 0.5) / samples
        picture = np.empty((lens.height, lens.width, 3), np.uint8)
        for top in range(0, lens.height, ROWS):
            bottom = min(top + ROWS, lens.height)
            rows = (np.arange(top * samples, bottom * samples) + 0.5) / samples
            hits = self.trace(camera, lens, boxes, columns, rows)
            color = self.colors(*(a.ravel() for a in hits), 1 / lens.focal / samples)
            color = color.reshape(bottom - top, samples, lens.width, samples, 3).mean(axis=(1, 3))
            picture[top:bottom] = color + 0.5
        return picture

    def depth(self, camera, lens, step):
        """Depth along the camera's axis [H / step, W / step], where blocks of `step` x `step` pixels have their centers."""
        boxes = [surface.box(camera, lens) for surface in self.surfaces]
        columns, rows = ((np.arange(n // step) + 0.5) * step for n in (lens.width, lens.height))
        return self.trace(camera, lens, boxes, columns, rows)[0]
