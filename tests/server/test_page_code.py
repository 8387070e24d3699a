"""The page's files: its JavaScript, run by node, gives Python's bytes.

What node tests is in page.test.mjs; here is what it compares with.
"""

import configparser
import io
import json
import re
import shutil
import struct
import subprocess
import zlib

import jax
import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from ppseg_jax.encryption import get_scheme, reference
from ppseg_jax.encryption.layout import moves_of
from ppseg_jax.errors import UserError
from ppseg_jax.pictures import pad, read_rgb
from tests.helpers import ROOT, photo

PNG = b"\x89PNG\r\n\x1a\n"
PAGE = ROOT / "ppseg_jax" / "server" / "page"
NODE = shutil.which("node")
KEY = np.array([3, 1 << 31, 7, 0xFFFFFFFF], np.uint32)
# What the page uses: another random choice for each block, no restriction.
SCHEMES = (
    "blockwise", "blockwise_negative", "blockwise_pixel", "blockwise_scrambled",
    "blockwise_value", "ele", "etc", "pe",
)


def jpeg(pixels: np.ndarray, **options) -> bytes:
  file = io.BytesIO()
  Image.fromarray(pixels).save(file, "JPEG", **options)
  return file.getvalue()


def png(pixels: np.ndarray, mode: str | None = None, **options) -> bytes:
  image, file = Image.fromarray(pixels), io.BytesIO()
  (image.convert(mode) if mode else image).save(file, "PNG", **options)
  return file.getvalue()


def exif(orientation: int, endian: str = ">") -> bytes:
  magic = b"MM\0*" if endian == ">" else b"II*\0"
  entry = struct.pack(f"{endian}IHHHIHH", 8, 1, 0x112, 3, 1, orientation, 0)
  return b"Exif\0\0" + magic + entry + bytes(4)


def chunk(kind: bytes, data: bytes) -> bytes:
  return (struct.pack(">I", len(data)) + kind + data
          + struct.pack(">I", zlib.crc32(kind + data)))


def header(width: int, height: int, depth=8, colour=0, interlaced=0) -> bytes:
  return struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced)


def interlaced(pixels: np.ndarray) -> bytes:
  """Adam7, which Pillow reads and does not write."""
  height, width, _ = pixels.shape
  passes = ((0, 8, 0, 8), (0, 8, 4, 8), (4, 8, 0, 4), (0, 4, 2, 4),
            (2, 4, 0, 2), (0, 2, 1, 2), (1, 2, 0, 1))
  rows = b"".join(
      b"\0" + row.tobytes()
      for top, down, left, across in passes
      for row in pixels[top::down, left::across] if row.size
  )
  return (PNG + chunk(b"IHDR", header(width, height, colour=2, interlaced=1))
          + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


def raw_profile(orientation: int) -> PngImagePlugin.PngInfo:
  """EXIF as ImageMagick writes it into a PNG file."""
  info = PngImagePlugin.PngInfo()
  data = exif(orientation)
  info.add_text("Raw profile type exif",
                f"\nexif\n{len(data):8}\n{data.hex()}\n", zip=True)
  return info


def xmp(orientation: int) -> bytes:
  return f'<x tiff:Orientation="{orientation}"/>'.encode()


def taken() -> dict[str, bytes]:
  image = photo(37, 51)
  info = PngImagePlugin.PngInfo()
  info.add_itxt("XML:com.adobe.xmp", xmp(8).decode(), zip=True)
  files = {
      "grey.png": png(image[..., 0]), "grey.jpg": jpeg(image[..., 0]),
      "interlaced.png": interlaced(image), "exif.png": png(image, exif=exif(6)),
      "profile.png": png(image, pnginfo=raw_profile(5)),
      "xmp.png": png(image, pnginfo=info), "xmp.jpg": jpeg(image, xmp=xmp(3)),
      "progressive.jpg": jpeg(image, progressive=True),
      "restarts.jpg": jpeg(image, restart_marker_blocks=1),
      "rough.jpg": jpeg(image, quality=5),
  }
  for way in (0, 1, 2):  # 4:4:4, 4:2:2 and 4:2:0
    files[f"subsampled{way}.jpg"] = jpeg(image, subsampling=way)
  for turn in range(10):  # 0 and 9 are none
    files[f"turned{turn}.jpg"] = jpeg(image, exif=exif(turn, "<>"[turn % 2]))
  return files


def refused() -> dict[str, bytes]:
  image = photo(20, 30)
  frames = [Image.fromarray(np.roll(image, i)) for i in range(2)]
  several, cmyk = io.BytesIO(), io.BytesIO()
  frames[0].save(several, "PNG", save_all=True, append_images=frames[1:])
  frames[0].convert("CMYK").save(cmyk, "JPEG")
  damaged = bytearray(png(image))
  damaged[len(damaged) // 2] ^= 1
  return {
      "deep.png": png(image[..., 0].astype(np.uint16) * 257),
      "alpha.png": png(image, "RGBA"), "grey_alpha.png": png(image, "LA"),
      "palette.png": png(image, "P"), "bit.png": png(image, "1"),
      "shallow.png": PNG + chunk(b"IHDR", header(30, 20, depth=4))
                     + chunk(b"IDAT", zlib.compress(bytes(16 * 20)))
                     + chunk(b"IEND", b""),
      "transparent.png": png(image, transparency=(1, 2, 3)),
      "several.png": several.getvalue(), "cmyk.jpg": cmyk.getvalue(),
      "cut.png": png(image)[:-300], "cut.jpg": jpeg(photo(96, 128))[:-300],
      "flipped.png": bytes(damaged), "text.txt": b"no picture",
      "empty.png": b"",
  }


def assembled(
    logits: np.ndarray, scheme: str, key: np.ndarray, block: int
) -> np.ndarray:
  """`layout.assemble` without its compilation, as labels [H, W]."""
  h, w, classes = logits.shape
  blocks = np.arange(h * w, dtype=np.uint8).reshape(h, w, 1)
  order = reference.encrypt(moves_of(scheme), key, blocks, 1).ravel()
  grid = np.empty((h * w, classes), np.float32)
  grid[order] = logits.reshape(h * w, classes)
  grid = grid.reshape(h, w, classes)
  size = (block * h, block * w, classes)
  large = jax.image.resize(grid, size, "bilinear")
  return np.asarray(large).argmax(-1)


def mean_weights(length: int, shorter: int) -> np.ndarray:
  """[shorter, length]: how much of a place lies in each longer one."""
  scale, at = length / shorter, np.arange(length)
  start = scale * np.arange(shorter)[:, None]
  shared = np.minimum(at + 1, start + scale) - np.maximum(at, start)
  return np.maximum(shared, 0) / scale


def permutations():
  # The last three have ties whose breaking changes the order.
  for n, column in ((1, 0), (2, 1), (3, 2), (3, 3), (768, 15), (768, 55),
                    (4096, 0)):
    order = reference.permutation(KEY, 512, column, n)
    yield {"n": n, "column": column, "order": order.tolist()}


def hidden(write):
  image, block = photo(16, 24), 4
  logits = np.random.default_rng(0).normal(size=(4, 6, 5)).astype(np.float16)
  file = io.BytesIO()
  np.save(file, logits)
  for scheme in ("blockwise_hidden", "etc_bands2",
                 "blockwise_scrambled_hidden"):
    cipher = reference.encrypt(get_scheme(scheme), KEY, image, block)
    labels = assembled(logits, scheme, KEY, block).astype(np.uint8)
    yield {
        "scheme": scheme, "block": block, "width": 24, "height": 16,
        "plain": write(f"{scheme}.plain", image.tobytes()),
        "cipher": write(f"{scheme}.cipher", cipher.tobytes()),
        "logits": write(f"{scheme}.npy", file.getvalue()),
        "labels": write(f"{scheme}.labels", labels.tobytes()),
    }


def pictures(write, folder):
  for name, content in taken().items():
    pixels = read_rgb(folder / write(name, content))
    height, width, _ = pixels.shape
    yield {"file": name, "width": width, "height": height,
           "pixels": write(f"{name}.pixels", pixels.tobytes())}


def refusals(write, folder):
  for name, content in refused().items():
    path = folder / write(name, content)
    with pytest.raises(UserError) as error:
      read_rgb(path)
    yield {"file": name, "sentence": str(error.value).removeprefix(f"{path} ")}


def padded(write):
  for i, (height, width, block, unit) in enumerate([
      (19, 37, 8, 8), (16, 24, 8, 8), (3, 5, 8, 8), (9, 2, 4, 4),
      (33, 25, 8, 24), (5, 9, 8, 16), (24, 8, 8, 40), (17, 30, 8, 16),
  ]):
    image = photo(height, width)
    whole = pad(pad(image, block), unit)
    yield {"width": width, "height": height, "block": block, "unit": unit,
           "whole": whole.shape[:2],
           "pixels": write(f"{i}.pixels", image.tobytes()),
           "padded": write(f"{i}.padded", whole.tobytes())}


def shrunk(write):
  image = photo(37, 51)
  file = write("large.pixels", image.tobytes())
  for height, width in ((14, 20), (37, 50), (1, 1)):
    means = np.einsum("ty,yxc,ux->tuc", mean_weights(37, height), image,
                      mean_weights(51, width))
    yield {"pixels": file, "height": height, "width": width,
           "means": means.ravel().tolist()}


def palettes(write):
  for colours in (2, 4, 16, 17):  # Pillow packs 1, 2, 4 and 8 bits a pixel
    labels = (np.arange(35).reshape(5, 7) % colours).astype(np.uint8)
    image, file = Image.fromarray(labels), io.BytesIO()
    image.putpalette(bytes(3 * colours))
    image.save(file, "PNG")
    yield {"file": write(f"{colours}.png", file.getvalue()), "width": 7,
           "height": 5, "labels": labels.ravel().tolist()}


def make_cases(folder) -> None:
  def write(name: str, content: bytes) -> str:
    (folder / name).write_bytes(content)
    return name

  (folder / "cases.json").write_text(json.dumps({
      "schemes": list(SCHEMES), "key": KEY.tolist(),
      "threefry": [
          (counter, KEY.tolist(), reference.threefry(KEY, counter).tolist())
          for counter in ([0] * 4, [1, 2**32 - 1, 3, 4])
      ],
      "permutations": list(permutations()), "hidden": list(hidden(write)),
      "pictures": list(pictures(write, folder)),
      "refused": list(refusals(write, folder)), "padded": list(padded(write)),
      "shrunk": list(shrunk(write)), "palettes": list(palettes(write)),
  }))


@pytest.mark.skipif(not NODE, reason="no node")
def test_the_page_gives_the_bytes_that_python_gives(tmp_path):
  make_cases(tmp_path)
  done = subprocess.run(
      [NODE, "--test", ROOT / "tests" / "server" / "page.test.mjs"],
      env={"PAGE_CASES": str(tmp_path), "PATH": ""}, capture_output=True,
      text=True, timeout=300,
  )
  assert done.returncode == 0, done.stdout


def test_the_wheel_has_all_of_the_page():
  setup = configparser.ConfigParser()
  setup.read(ROOT / "setup.cfg")
  patterns = setup["options.package_data"]["ppseg_jax.server"].split()
  shipped = {path for pattern in patterns
             for path in (PAGE.parent.glob(pattern)) if path.is_file()}
  files = {path for path in PAGE.rglob("*") if path.is_file()}
  assert files == shipped
  assert {"index.html", "mozjpeg_dec.wasm", "LICENSES.txt"} <= {
      path.name for path in files
  }
  assert sum(path.stat().st_size for path in files) < 600 * 1024


def test_the_page_names_no_other_server():
  for path in PAGE.glob("*.*"):
    text = path.read_text().replace("http://www.w3.org/2000/svg", "")
    if path.name == "pictures.js":  # a name in files, not an address
      text = text.replace("http://ns.adobe.com/xap/1.0/", "")
    assert not re.search(r"https?:|//[a-z]+\.|style=|onclick", text), path


def luminance(colour: str) -> float:
  values = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
  linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4
            for v in values]
  return sum(np.multiply((0.2126, 0.7152, 0.0722), linear))


def test_text_stands_out_from_its_ground_in_both_themes():
  """Contrast of WCAG 2, level AA: 4.5 for text."""
  css = (PAGE / "page.css").read_text()
  light, dark = (
      dict(re.findall(r"--([\w-]+): (#\w{6});", theme))
      for theme in re.findall(r":root \{(.*?)\}", css, re.DOTALL)
  )
  assert light.keys() == dark.keys()
  for theme in (light, dark):
    for text, ground in (
        ("ink", "back"), ("ink", "card"), ("ink", "tint"), ("soft", "back"),
        ("soft", "card"), ("soft", "tint"), ("accent", "back"),
        ("accent", "card"), ("on-accent", "accent"), ("bad", "card"),
        ("bad", "back"), ("card", "soft"),
    ):
      low, high = sorted(luminance(theme[name]) for name in (text, ground))
      assert (high + 0.05) / (low + 0.05) >= 4.5, (text, ground)
