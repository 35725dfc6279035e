"""Damages files in ways that decoders stumble over; the same seed damages in the same way."""

import struct
import zlib

PNG_START = b"\x89PNG\r\n\x1a\n"
HEADER = 1024  # bytes at the start that hold most numbers
NUMBERS = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF)
MENDED = 0.8  # of the PNGs: with a wrong checksum few bytes are looked at


def place(data, random):
    """Somewhere, in half of the cases near the start."""
    return random.randrange(min(len(data), HEADER) if random.random() < 0.5 else len(data))


def flip_bits(data, random):
    for _ in range(random.choice((1, 1, 2, 4, 16))):
        data[place(data, random)] ^= 1 << random.randrange(8)


def set_bytes(data, random):
    at = place(data, random)
    length = random.choice((1, 2, 4, 8, 32))
    data[at : at + length] = random.choice((bytes(length), b"\xff" * length, random.randbytes(length)))


def number(data, random):
    """Another number where there may be one: a size, a count, an offset."""
    width, order = random.choice((1, 2, 2, 4, 4, 8)), random.choice(("big", "little"))
    at = place(data, random)
    old = int.from_bytes(data[at : at + width], order)
    new = random.choice((*NUMBERS, old + 1, old - 1, old * 2, old // 2, random.getrandbits(8 * width)))
    data[at : at + width] = (new % (1 << (8 * width))).to_bytes(width, order)


def cut(data, random):
    del data[place(data, random) or 1 :]


def leave_out(data, random):
    at = place(data, random)
    del data[at : at + random.choice((1, 2, 4, 16, 256))]


def repeat(data, random):
    at = place(data, random)
    piece = data[at : at + random.choice((1, 4, 16, 256, 4096))]
    data[at:at] = piece * random.choice((1, 2, 16))


def splice(data, random, other):
    """The start of one file and the end of another."""
    data[place(data, random) :] = other[place(other, random) :]


def mended(png):
    """A PNG with its checksums made right, as far as it has chunks."""
    data, at = bytearray(png), len(PNG_START)
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        end = at + 8 + length
        if end + 4 > len(data):
            break
        struct.pack_into(">I", data, end, zlib.crc32(data[at + 4 : end]))
        at = end + 4
    return bytes(data)


SIMPLE = (flip_bits, flip_bits, set_bytes, number, number, number, cut, leave_out, repeat)


def mutate(seed, others, random):
    """A damaged copy of `seed`; `others` are files of the same kind that it may be spliced with."""
    data = bytearray(seed)
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        if random.random() < 0.1:
            splice(data, random, random.choice(others))
        else:
            random.choice(SIMPLE)(data, random)
        if not data:
            data += b"\0"
    data = bytes(data)
    return mended(data) if data.startswith(PNG_START) and random.random() < MENDED else data
