"""Writes test/fixtures/images/orientation.json: image files with EXIF metadata, and how they look.

    python test/reference/make_orientation_fixtures.py

`orientation` is the one that Chromium shows, 1 to 8; test/browser compares all of them with Chromium. `shape` and
`upright` (SHA-256) are those of the pixels that Pillow's `ImageOps.exif_transpose` returns, `stored` that of the pixels
as they are in the file. Where `differs` is set, Pillow reads another orientation or refuses the file, and the pixels are
those of the same image with plain metadata. `profiles.json` has files with a colour profile or a gamma, which neither
TensorFlow nor Pillow applies.
"""

import base64
import hashlib
import io
import json
import os
import struct
import warnings
import zlib

import numpy as np
from make_image_fixtures import FOLDER, chunk, png, smooth
from PIL import Image, ImageCms, ImageOps

warnings.simplefilter("ignore")
SHORT, LONG = 3, 4
ORIENTATION, EXIF_TABLE = 0x0112, 0x8769


# === Metadata ===


def entry(tag, kind, count, value, order="<"):
    """An entry of a table. A SHORT is at the start of the four bytes of its value."""
    bytes_of = {SHORT: struct.pack(order + "HH", value, 0), 1: bytes([value, 0, 0, 0])}
    return struct.pack(order + "HHI", tag, kind, count) + bytes_of.get(kind, struct.pack(order + "I", value))


def table(entries, order="<"):
    return struct.pack(order + "H", len(entries)) + b"".join(entries) + struct.pack(order + "I", 0)


def head(order="<", at=8):
    return (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", at)


def turned(value, order="<"):
    return head(order) + table([entry(ORIENTATION, SHORT, 1, value, order)], order)


def nested(entries, at):
    """A table whose entry at the position `at` points to a second one, with orientation 6."""
    second = 8 + 2 + 12 * (len(entries) + 1) + 4
    entries = [*entries[:at], entry(EXIF_TABLE, LONG, 1, second), *entries[at:]]
    return head() + table(entries) + table([entry(ORIENTATION, SHORT, 1, 6)])


# === Files ===


def segment(body, prefix=b"Exif\0\0"):
    return b"\xff\xe1" + struct.pack(">H", len(prefix) + len(body) + 2) + prefix + body


def encoded(image, **options):
    file = io.BytesIO()
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    image.save(file, "JPEG", **{"quality": 95, "subsampling": 0, **options})
    return file.getvalue()


def with_segments(data, *segments, before=None):
    """Inserts segments after the start of the file, or before the first marker of a kind."""
    at = 2 if before is None else data.index(bytes([0xFF, before]))
    return data[:at] + b"".join(segments) + data[at:]


def with_chunks(data, *chunks, after=b"IHDR"):
    at = data.index(after) - 4
    end = at + 12 + struct.unpack(">I", data[at : at + 4])[0]
    return data[:end] + b"".join(chunks) + data[end:]


def spoiled(data):
    """A chunk with a wrong checksum."""
    return data[:-1] + bytes([data[-1] ^ 1])


def text_chunk(body):
    """EXIF metadata as ImageMagick once wrote it into PNG files."""
    lines = b"\nexif\n%8d\n" % (len(body) + 6) + (b"Exif\0\0" + body).hex().encode() + b"\n"
    return chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(lines))


IMAGE = smooth(9, 14)
PLAIN = encoded(IMAGE)
COLOURS = png(5, 7, 2, 8)


def jpeg_files():
    """Name, the file, the orientation, the file without metadata, and whether Pillow reads another orientation."""
    for value in range(10):
        for order, name in (("<", "little-endian"), (">", "big-endian")):
            valid = value if 1 <= value <= 8 else 1
            yield f"{value}, {name}", with_segments(PLAIN, segment(turned(value, order))), valid, PLAIN, False
    other = {
        "4:2:0": encoded(IMAGE, subsampling=2),
        "progressive": encoded(IMAGE, progressive=True),
        "grey": encoded(IMAGE[..., 0]),
        "CMYK": encoded(Image.fromarray(IMAGE).convert("CMYK")),
        "one row": encoded(IMAGE[:1]),
        "one column": encoded(IMAGE[:, :1]),
    }
    for name, data in other.items():
        for value in (5, 6, 7, 8):
            yield f"{value}, {name}", with_segments(data, segment(turned(value))), value, data, False
    six, eight = turned(6), turned(8)
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"/>'
    short6, short8 = entry(ORIENTATION, SHORT, 1, 6), entry(ORIENTATION, SHORT, 1, 8)
    make = entry(0x010F, 2, 4, 0)
    start = 0xDA
    once = [
        ("two segments", [segment(six), segment(eight)], 6, False),
        ("a segment of XMP before it", [segment(xmp, b"http://ns.adobe.com/xap/1.0/\0"), segment(six)], 6, False),
        ("a cut segment before it", [segment(b"II*\0"), segment(six)], 1, False),
        ("a segment without orientation before it", [segment(head() + table([make])), segment(six)], 1, False),
        ("a segment with an unknown orientation before it", [segment(turned(9)), segment(six)], 1, False),
        ("an empty segment before it", [segment(b""), segment(six)], 6, False),
        ("other entries around it", [segment(head() + table([make, short6, make]))], 6, False),
        ("two orientations", [segment(head() + table([short6, short8]))], 6, False),
        ("an unknown byte order", [segment(b"XX" + six[2:])], 1, False),
        ("another number than 42", [segment(six[:2] + b"\x2b\0" + six[4:])], 1, False),
        ("a table beyond the end", [segment(head(at=1000) + six[8:])], 1, False),
        ("a table at the largest offset", [segment(head(at=2**32 - 1) + six[8:])], 1, False),
        ("a table at the start", [segment(head(at=0) + six[8:])], 1, False),
        ("a table at an odd offset", [segment(head(at=9) + b"\0" + six[8:])], 6, False),
        ("a table that claims 60000 entries", [segment(six[:8] + b"\x60\xea" + six[10:])], 6, False),
        ("a table cut after its entry", [segment(six[:22])], 6, False),
        ("a table cut within its entry", [segment(six[:19])], 1, False),
        ("no table", [segment(six[:9])], 1, False),
        ("no values", [segment(head() + table([entry(ORIENTATION, SHORT, 0, 6)]))], 1, False),
        ("a byte", [segment(head() + table([entry(ORIENTATION, 1, 1, 6)]))], 1, False),
        ("one zero after Exif", [segment(six, b"Exif\0")], 1, False),
        ("a byte that is not zero after Exif", [segment(six, b"Exif\0\xff")], 6, True),
        ("Exif twice", [segment(b"Exif\0\0" + six)], 1, True),
        ("a long number", [segment(head() + table([entry(ORIENTATION, LONG, 1, 6)]))], 1, True),
        ("two values", [segment(head() + table([entry(ORIENTATION, SHORT, 2, 6)]))], 1, True),
        ("an unknown orientation first", [segment(head() + table([entry(ORIENTATION, SHORT, 1, 9), short8]))], 8, True),
        ("a nested table", [segment(nested([], 0))], 6, True),
        ("a nested table after it", [segment(nested([short8], 1))], 8, False),
        ("a nested table before it", [segment(nested([short8], 0))], 6, True),
    ]
    for name, segments, value, differs in once:
        yield name, with_segments(PLAIN, *segments), value, PLAIN, differs
    yield "just before the pixels", with_segments(PLAIN, segment(six), before=start), 6, PLAIN, False
    yield "after the pixels", PLAIN[:-2] + segment(six) + PLAIN[-2:], 1, PLAIN, False
    scans = other["progressive"]
    between = scans.index(b"\xff\xc4", scans.index(b"\xff\xda"))
    yield "between scans", scans[:between] + segment(six) + scans[between:], 1, scans, False


def png_files():
    exif = lambda body: chunk(b"eXIf", body)
    for value in range(10):
        valid = value if 1 <= value <= 8 else 1
        yield f"{value}", with_chunks(COLOURS, exif(turned(value))), valid, COLOURS, False
    other = {
        "big-endian": COLOURS,
        "interlaced": png(11, 7, 2, 8, True),
        "palette": png(6, 5, 3, 4),
        "palette, interlaced": png(11, 7, 3, 2, True),
        "grey of one bit": png(6, 11, 0, 1),
        "grey of one bit, interlaced": png(11, 7, 0, 1, True),
        "one row": png(1, 9, 2, 8),
    }
    for name, data in other.items():
        for value in (5, 6, 7, 8):
            order = ">" if name == "big-endian" else "<"
            yield f"{value}, {name}", with_chunks(data, exif(turned(value, order))), value, data, False
    six, eight = exif(turned(6)), exif(turned(8))
    yield "after the pixels", with_chunks(COLOURS, six, after=b"IDAT"), 1, COLOURS, True
    yield "two chunks", with_chunks(COLOURS, six, eight), 6, COLOURS, True
    yield "an unreadable chunk before it", with_chunks(COLOURS, exif(b"unreadable"), six), 1, COLOURS, True
    yield "Exif before the metadata", with_chunks(COLOURS, exif(b"Exif\0\0" + turned(6))), 1, COLOURS, True
    yield "a text", with_chunks(COLOURS, text_chunk(turned(6))), 1, COLOURS, True
    yield "a wrong checksum", with_chunks(COLOURS, spoiled(six)), 1, COLOURS, True
    yield "a wrong checksum before it", with_chunks(COLOURS, spoiled(six), eight), 8, COLOURS, True


# === Colour profiles ===


def adobe_rgb():
    """A profile with the primaries and the gamma of Adobe RGB (1998)."""
    fixed = lambda *numbers: b"".join(struct.pack(">i", round(number * 65536)) for number in numbers)
    colour = lambda *numbers: b"XYZ \0\0\0\0" + fixed(*numbers)
    gamma = b"curv\0\0\0\0" + struct.pack(">IHH", 1, 563, 0)
    name = b"Adobe RGB\0"
    tags = {
        b"desc": (b"desc\0\0\0\0" + struct.pack(">I", len(name)) + name + bytes(78)).ljust(104, b"\0"),
        b"cprt": b"text\0\0\0\0none\0\0\0\0",
        b"wtpt": colour(0.9505, 1, 1.0891),
        b"rXYZ": colour(0.60974, 0.31111, 0.01947),
        b"gXYZ": colour(0.20528, 0.62567, 0.06087),
        b"bXYZ": colour(0.14919, 0.06322, 0.74457),
        **dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), gamma),
    }
    index, body = struct.pack(">I", len(tags)), b""
    for tag, value in tags.items():
        index += tag + struct.pack(">II", 132 + 12 * len(tags) + len(body), len(value))
        body += value
    head = struct.pack(">I", 128 + len(index) + len(body)) + b"ADBE" + struct.pack(">I", 0x02100000) + b"mntrRGB XYZ "
    head += struct.pack(">6H", 2000, 1, 1, 0, 0, 0) + b"acspAPPL" + bytes(28) + fixed(0.9642, 1, 0.8249)
    return head.ljust(128, b"\0") + index + body


def profile_files():
    profiles = {"sRGB": ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(), "Adobe RGB": adobe_rgb()}
    for name, profile in profiles.items():
        yield f"JPEG, {name}", encoded(IMAGE, icc_profile=profile)
        file = io.BytesIO()
        Image.fromarray(IMAGE).save(file, "PNG", icc_profile=profile)
        yield f"PNG, {name}", file.getvalue()
    yield "PNG, gamma of 1", with_chunks(COLOURS, chunk(b"gAMA", struct.pack(">I", 100000)))


# === Pixels ===


def stored(data):
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def upright(data):
    try:
        return np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))
    except OSError:
        return None


def sha256(pixels):
    return hashlib.sha256(pixels.tobytes()).hexdigest()


if __name__ == "__main__":
    files = []
    for kind, some in (("JPEG", jpeg_files()), ("PNG", png_files())):
        for name, data, value, plain, differs in some:
            exif = turned(value)
            simple = with_segments(plain, segment(exif)) if kind == "JPEG" else with_chunks(plain, chunk(b"eXIf", exif))
            pixels = upright(simple)
            found = upright(data)
            assert np.array_equal(found, pixels) != differs, (kind, name)
            files.append({
                "name": f"{kind}, {name}", "file": base64.b64encode(data).decode(), "orientation": value,
                **({"differs": True} if differs else {}),
                "shape": pixels.shape, "upright": sha256(pixels), "stored": sha256(stored(plain)),
            })
    profiles = [
        {"name": name, "file": base64.b64encode(data).decode(), "shape": stored(data).shape, "stored": sha256(stored(data))}
        for name, data in profile_files()
    ]
    for name, some in (("orientation", files), ("profiles", profiles)):
        text = ",\n".join(json.dumps(file) for file in some)
        with open(os.path.join(FOLDER, f"{name}.json"), "w") as file:
            file.write(f"[\n{text}\n]\n")
        print(len(some), name)
