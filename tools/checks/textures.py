"""Textures that do not repeat, with the light that arrives at a surface. Used by raycast.

A texture is a pattern of large shapes in the colors that the demo's weights know, multiplied by random polygons of four sizes down
to a few pixels, and by light: a sun with shadows, and the open part of the hemisphere. A surface has `paint`, `size` (of its
texture in scene units), `place` (points and normals of positions in it), `meets` (which rays it stops), and `curved`, whether it
may shade itself.
"""

import dataclasses

import numpy as np
from PIL import Image, ImageDraw

SUN = np.array([0.3, 0.5, 0.81]) / np.linalg.norm([0.3, 0.5, 0.81])
LIGHT_CELL = 0.04  # spacing of the points at which light is computed
OPEN_WITHIN = 0.6  # what is closer than this takes light from a point
# Size of polygons, share of the area that they are drawn on, and the spread of the logarithm of their brightness. Small ones
# have the contrast: they carry the correspondences, and vanish in the 112 pixels that the demo's network sees.
DETAIL = ((0.3, 0.5, 0.10), (0.1, 0.7, 0.22), (0.04, 0.7, 0.38), (0.015, 0.4, 0.45))


@dataclasses.dataclass
class Paint:
    """Colors of a surface before light and detail. `pattern` is flat, cloud, brick, checker, stripes or planks."""

    pattern: str
    color: tuple
    second: tuple = (0.0, 0.0, 0.0)
    size: float = 0.3
    tile: float = 0.0  # side of a square of detail that repeats exactly; 0 repeats nothing


def polygons(width, height, texel, random):
    """The logarithm of the brightness that detail multiplies with, [H, W, 3]: opaque polygons, the small ones on the large ones."""
    sheet = Image.new("RGB", (width, height), (128, 128, 128))
    draw = ImageDraw.Draw(sheet)
    for size, share, spread in DETAIL:
        radius = size / texel / 2
        count = int(share * width * height / radius**2 / 2.2)
        centers = random.uniform(-radius, radius, (count, 2)) + random.uniform(0, 1, (count, 2)) * [width, height]
        corners = random.integers(3, 7, (count, 1))
        turn = random.uniform(0, 2 * np.pi, (count, 1)) + np.minimum(np.arange(6), corners - 1) * (2 * np.pi / corners)
        reach = np.take_along_axis(random.uniform(0.5, 1.2, (count, 6)), np.minimum(np.arange(6), corners - 1), axis=1)
        reach = radius * reach[..., None]
        points = centers[:, None] + reach * np.stack([np.cos(turn), np.sin(turn)], axis=-1)
        gray = np.clip(random.normal(0, spread, (count, 1)), -2 * spread, 2 * spread)
        colors = np.clip(128 + 110 * (gray + random.normal(0, spread / 5, (count, 3))), 0, 255).astype(int)
        for outline, color in zip(points.reshape(count, 12).tolist(), colors.tolist()):
            draw.polygon(outline, fill=tuple(color))
    return (np.asarray(sheet, np.float32) - 128) / 110


def smooth_noise(u, v, cell, random):
    """Values around 0 that change over `cell` scene units."""
    grid = random.normal(0, 1, (int(v.max() / cell) + 3, int(u.max() / cell) + 3)).astype(np.float32)
    x, y = u / cell, v / cell
    i, j = x.astype(int), y.astype(int)
    x, y = x - i, y - j
    x, y = x * x * (3 - 2 * x), y * y * (3 - 2 * y)
    return (grid[j, i] * (1 - x) + grid[j, i + 1] * x) * (1 - y) + (grid[j + 1, i] * (1 - x) + grid[j + 1, i + 1] * x) * y


def pattern(paint, u, v, random):
    """Colors [H, W, 3] of the large shapes."""
    first, second, size = np.array(paint.color, np.float32), np.array(paint.second, np.float32), paint.size
    u, v = np.broadcast_arrays(u, v)
    if paint.pattern == "brick":  # each row and each brick differs in length, so that no place looks like another
        row = np.floor(v / (0.4 * size)).astype(int)
        shift = random.uniform(0, 1, row.max() + 1).astype(np.float32)[row]
        stretch = random.uniform(0.8, 1.25, row.max() + 1).astype(np.float32)[row]
        if paint.tile:
            shift, stretch = 0.5 * (row % 2), np.ones_like(shift)
        along = u / size * stretch + shift
        choice = (np.abs(v / (0.4 * size) - row) < 0.12) | (along - np.floor(along) < 0.06)
    elif paint.pattern == "checker":
        choice = (np.floor(u / size) + np.floor(v / size)) % 2 == 0
    elif paint.pattern == "stripes":
        choice = np.floor(u / size) % 2 == 0
    elif paint.pattern == "planks":
        choice = u / size - np.floor(u / size) < 0.05
    else:
        choice = np.zeros(u.shape, bool)
    color = np.where(choice[..., None], second, first)
    if paint.pattern == "cloud":
        color = color * np.exp(0.06 * smooth_noise(u, v, size, random) + 0.04 * smooth_noise(u, v, size / 2.3, random))[..., None]
    return color


def light(surface, blockers, random):
    """Light on a grid of points of the surface, [H, W], and the positions of its columns and rows."""
    shape = [max(2, int(np.ceil(side / LIGHT_CELL)) + 1) for side in surface.size[::-1]]
    # Half a cell away from the edges, where a point would be inside of a neighbor.
    v, u = (np.linspace(0.01, side - 0.01, n) for side, n in zip(surface.size[::-1], shape))
    points, normals = surface.place(*np.meshgrid(u, v))
    points, normals = points.reshape(-1, 3), normals.reshape(-1, 3)
    points = points + 2e-3 * normals
    solid = [b for b in blockers if b is not surface or b.curved]
    sun = np.zeros(len(points))
    for _ in range(6):
        direction = SUN + random.normal(0, 0.025, 3)
        directions = np.broadcast_to(direction / np.linalg.norm(direction), points.shape)
        dark = np.zeros(len(points), bool)
        for b in solid:
            if not getattr(b, "shell", False):
                dark |= b.meets(points, directions, np.inf)
        sun += np.where(dark, 0, np.clip(np.sum(normals * directions, axis=1), 0, 1)) / 6
    free = np.zeros(len(points))
    for _ in range(24):
        directions = random.normal(0, 1, 3)
        directions = normals + directions / np.linalg.norm(directions) * 0.999  # cosine distribution
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        shut = np.zeros(len(points), bool)
        for b in solid:
            shut |= b.meets(points, directions, OPEN_WITHIN)
        free += ~shut / 24
    return ((0.12 + 0.28 * free) + 0.6 * sun).reshape(shape).astype(np.float32), u, v


def texture(surface, blockers, texel, random):
    """The finished texture, [H, W, 3] in uint8, as a picture shows it."""
    width, height = (max(4, int(np.ceil(side / texel))) for side in surface.size)
    u, v = (np.arange(width, dtype=np.float32) + 0.5) * texel, (np.arange(height, dtype=np.float32)[:, None] + 0.5) * texel
    paint = surface.paint
    if paint.tile:
        side = round(paint.tile / texel)
        one = polygons(3 * side, 3 * side, texel, random)[side : 2 * side, side : 2 * side]
        detail = np.tile(one, (height // side + 1, width // side + 1, 1))[:height, :width]
    else:
        detail = polygons(width, height, texel, random)
    grid, at_u, at_v = light(surface, blockers, random)
    x = np.interp(u, at_u, np.arange(len(at_u)))
    y = np.interp(v[:, 0], at_v, np.arange(len(at_v)))
    i, j = np.minimum(x.astype(int), len(at_u) - 2), np.minimum(y.astype(int), len(at_v) - 2)
    x, y = (x - i).astype(np.float32), (y - j).astype(np.float32)[:, None]
    rows = grid[:, i] * (1 - x) + grid[:, i + 1] * x
    shade = rows[j] * (1 - y) + rows[j + 1] * y
    color = pattern(paint, u, v, random) * shade[..., None] * np.exp(detail)
    color = np.where(color > 0.7, 1 - 0.3 * np.exp(-(color - 0.7) / 0.3), color)  # a shoulder: nothing is clipped
    return (255 * np.clip(color, 0, 1) ** (1 / 1.4) + 0.5).astype(np.uint8)
