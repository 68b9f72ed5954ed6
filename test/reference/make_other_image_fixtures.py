"""Writes test/fixtures/images/other.json: WebP, GIF and AVIF files, and what Pillow reads from them.

    python test/reference/make_other_image_fixtures.py

Maps names to {file, width, height, pixels, tolerance}: the file and the pixels (height, width, 3) in base64. Lossy files
differ by `tolerance` at most, because decoders round the conversion from YUV in their own ways. Pixels without any
opacity are black.
"""

import base64
import io
import json
import os

import numpy as np
from PIL import Image, ImageOps

FOLDER = os.path.join(os.path.dirname(__file__), "..", "fixtures", "images")
SIZE = (26, 18)


def picture(seed=0):
    """Smooth colours, which survive compression."""
    width, height = SIZE
    y, x = np.mgrid[0:height, 0:width]
    channels = [(40 + 7 * x + seed) % 256, (200 - 8 * y) % 256, (30 + 3 * x + 5 * y) % 256]
    return Image.fromarray(np.stack(channels, -1).astype("uint8"))


def file(image, kind, **options):
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def with_orientation(value):
    exif = Image.Exif()
    exif[0x0112] = value
    return exif


def main():
    plain = picture()
    clear = plain.convert("RGBA")
    clear.putalpha(Image.fromarray((np.arange(SIZE[0] * SIZE[1]).reshape(SIZE[::-1]) % 200 + 56).astype("uint8")))
    palette = plain.quantize(60)
    holes = palette.copy()
    frames = [picture(60).quantize(60), picture(120).quantize(60)]
    files = {
        "lossless.webp": file(plain, "WEBP", lossless=True),
        "lossy.webp": file(plain, "WEBP", quality=90),
        "alpha.webp": file(clear, "WEBP", lossless=True, exact=True),
        "turned.webp": file(plain, "WEBP", lossless=True, exif=with_orientation(6)),
        "animated.webp": file(plain, "WEBP", lossless=True, save_all=True, append_images=[picture(60)]),
        "grey.webp": file(plain.convert("L"), "WEBP", lossless=True),
        "plain.gif": file(palette, "GIF"),
        "hole.gif": file(holes, "GIF", transparency=3),
        "animated.gif": file(palette, "GIF", save_all=True, append_images=frames),
        "plain.avif": file(plain, "AVIF", quality=95, subsampling="4:4:4"),
        "turned.avif": file(plain, "AVIF", quality=95, subsampling="4:4:4", exif=with_orientation(6)),
        "grey.avif": file(plain.convert("L"), "AVIF", quality=95),
    }
    expected = {}
    for name, data in files.items():
        image = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGBA")
        values = np.asarray(image)
        # Where nothing is to be seen, canvases and sharp have no colour.
        pixels = values[..., :3] * (values[..., 3:] > 0)
        exact = name.endswith("gif") or name.split(".")[0] in ("lossless", "turned", "animated", "alpha", "grey")
        expected[name] = {
            "file": base64.b64encode(data).decode(),
            "width": image.width,
            "height": image.height,
            "pixels": base64.b64encode(pixels.astype("uint8").tobytes()).decode(),
            "tolerance": 0 if exact and not name.endswith("avif") else 4,
        }
    with open(os.path.join(FOLDER, "other.json"), "w", encoding="ascii") as out:
        rows = ",\n".join(f"{json.dumps(name)}: {json.dumps(row)}" for name, row in expected.items())
        out.write("{\n" + rows + "\n}\n")


if __name__ == "__main__":
    main()
