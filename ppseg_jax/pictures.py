"""Picture files: what every command reads, and the PNG of a ciphertext.

Taken are 8-bit grey and RGB pictures; their values are kept exactly. A
picture's EXIF orientation is applied, so that it is read as it is looked at;
no metadata (place, date, camera, colour profile) goes into a ciphertext or
comes back. Everything that would lose something on the way is refused, and so
is a colour palette: it may be of a label map, or of a picture whose colours
were cut down to it.

A ciphertext is a lossless PNG of the same kind, padded to whole blocks, with
the text fields `ppseg_jax.format` (1), `.version` (of the package), `.scheme`,
`.block` and `.size` (the true width and height, as in 640x480); where regions
are protected also `.protect`, a hash of which blocks are; where noise was added
`.noise`, its budget. It never holds a key.
"""

import contextlib
import dataclasses
import io
import re
import warnings
from collections.abc import Iterator
from pathlib import Path

import imagecodecs
import numpy as np
from PIL import (
    ExifTags,
    Image,
    ImageOps,
    PngImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
)

from ppseg_jax import __version__
from ppseg_jax.errors import UserError

FORMATS = ("PNG", "JPEG", "MPO", "BMP", "TIFF", "WEBP")
# Files that claim to be pictures: not to be able to read one is an error.
_SUFFIXES = frozenset((
    ".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".jp2",
    ".ppm", ".pgm", ".avif", ".heic", ".heif",
))
# What Pillow knows by its first bytes, and cannot show: films and data files.
_OTHER = frozenset(("MPEG", "HDF5", "GRIB", "BUFR"))
_ALPHA = "has transparency"
_REASONS = {
    "RGBA": _ALPHA, "LA": _ALPHA, "PA": _ALPHA, "P": "has a colour palette",
    "1": "has one bit a pixel", "CMYK": "is in CMYK",
}
_DEEP = "has more than 8 bits a value"
_SHALLOW = ("L;2", "L;4", "BGR;15", "BGR;16")  # what raw modes begin with
_FIELD = "ppseg_jax."


@dataclasses.dataclass(frozen=True)
class Header:
  """What the text fields of a ciphertext say.

  Attributes:
    scheme: its name.
    block: of the scheme.
    width: the true one; likewise height.
    height: see above.
    protect: 16 hexadecimal digits that tell which blocks are protected from
      which others are; '' where none is.
    noise: the budget of the release that was encrypted; '' of an exact image.
  """

  scheme: str
  block: int
  width: int
  height: int
  protect: str = ""
  noise: str = ""


def is_picture(path: Path) -> bool:
  """Whether the file is a picture, or says so by its suffix."""
  if path.suffix.lower() in _SUFFIXES:
    return True
  try:
    with warnings.catch_warnings(action="ignore"), Image.open(path) as image:
      return image.format not in _OTHER
  except Image.DecompressionBombError:
    return True
  except Exception:  # decoders raise anything
    return False


def read_picture(path: Path) -> np.ndarray:
  """uint8 [H, W, 1 or 3], the picture's very values.

  Raises UserError, without the path, for a file that is damaged or that could
  not be given back exactly.
  """
  with opened(path) as image:
    _check_taken(image)
    pixels = decoded(image)
  return pixels[..., None] if pixels.ndim == 2 else pixels


def decoded(image: Image.Image) -> np.ndarray:
  """uint8 [H, W] or [H, W, 3] of an opened picture, as it is looked at."""
  content = _bare_png(image)
  if content:
    return imagecodecs.png_decode(content)
  image.load()
  return np.asarray(ImageOps.exif_transpose(image))


def _bare_png(image: Image.Image) -> bytes | None:
  """The file, if it is a PNG file of which pixels alone are left to be read.

  Pillow takes twice as long as libpng to decode these, but has to be asked
  where something stands behind the pixels, which may be an orientation.
  """
  if image.format != "PNG" or image.mode not in ("L", "RGB"):
    return None
  place = image.fp.tell()
  image.fp.seek(0)
  content = image.fp.read()
  image.fp.seek(place)
  at, pixels = 8, False
  while at < len(content) and content[at + 4 : at + 8] != b"IEND":
    if content[at + 4 : at + 8] == b"IDAT":
      pixels = True
    elif pixels:
      return None
    at += 12 + int.from_bytes(content[at : at + 4], "big")
  return None if _is_turned(image) else content


def _is_turned(image: Image.Image) -> bool:
  """Whether an EXIF orientation is known of the opened file."""
  # Not image.getexif(): for a PNG file that decodes it.
  exif = Image.Image.getexif(image)
  return exif.get(ExifTags.Base.Orientation, 1) != 1


def read_size(path: Path) -> tuple[int, int]:
  """(width, height) of what `read_picture` reads, without decoding it.

  The orientation of a PNG file is not known where it stands behind the pixels.
  Raises UserError as `read_picture` does, but not for damaged pixels.
  """
  with opened(path) as image:
    _check_taken(image)
    turned = (
        image.format != "TIFF"  # whose size is that of the turned one
        # Not image.getexif(): for a PNG file that decodes it.
        and Image.Image.getexif(image).get(ExifTags.Base.Orientation, 1) >= 5
    )
    return image.size[::-1] if turned else image.size


def read_rgb(path: Path) -> np.ndarray:
  """uint8 [H, W, 3]: `read_picture`, of a grey picture three equal channels.

  Raises UserError, with the path, for what `read_picture` does not take.
  """
  try:
    pixels = read_picture(path)
  except UserError as error:
    raise UserError(f"{path} {error}") from None
  return np.broadcast_to(pixels, (*pixels.shape[:2], 3))


def list_pictures(folder: Path) -> tuple[list[Path], list[str]]:
  """(the pictures of a folder, the names of all else in it), both sorted.

  Subfolders and hidden files, whose names begin with a dot, are no pictures.
  """
  found, others = [], []
  for path in sorted(folder.iterdir()):
    hidden = path.name.startswith(".")
    if not hidden and path.is_file() and is_picture(path):
      found.append(path)
    else:
      others.append(path.name + "/" * path.is_dir())
  return found, others


def is_lossy(path: Path) -> bool:
  """Whether a picture's compression changes values: JPEG, most WebP."""
  with opened(path) as image:
    if image.format == "WEBP":
      return _is_lossy_webp(path.read_bytes())
    return (image.format in ("JPEG", "MPO")
            or image.info.get("compression") in ("jpeg", "webp"))


def _is_lossy_webp(content: bytes) -> bool:
  """RFC 9649: "RIFF", a size, "WEBP", then chunks, the pixels' among them."""
  at = 12
  while at < len(content):
    if (kind := content[at : at + 4]) in (b"VP8 ", b"VP8L"):
      return kind == b"VP8 "
    size = int.from_bytes(content[at + 4 : at + 8], "little")
    at += 8 + size + size % 2
  return True


def _check_taken(image: Image.Image) -> None:
  """Raises UserError for a picture that is not taken, before it is loaded."""
  reason = _refusal(image)
  if reason:
    raise UserError(
        f"{reason}, and only 8-bit grey and RGB pictures are taken, whose"
        " values stay as they are; convert it first."
    )


def _refusal(image: Image.Image) -> str | None:
  """Why a picture is not taken, before it is loaded."""
  if image.format not in FORMATS:
    return f"is a {image.format} file"
  # Of MPO, the format of many phones, the first picture is the photograph.
  if image.format != "MPO" and getattr(image, "n_frames", 1) > 1:
    return "holds several pictures"
  # Pillow reads 16-bit RGB as 8-bit RGB, dropping the lower half.
  bits = 8
  if isinstance(image, TiffImagePlugin.TiffImageFile):
    bits = np.max(image.tag_v2.get(TiffImagePlugin.BITSPERSAMPLE, 1))
  packed = str(image.tile)
  if is_shallow(image):
    return "has fewer than 8 bits a value"
  if bits > 8 or image.mode[0] in "IF" or ";16" in packed:
    return _DEEP
  if "transparency" in image.info:
    return _ALPHA
  if image.mode not in ("L", "RGB"):
    return _REASONS.get(image.mode, f"has mode {image.mode}")
  return None


def is_shallow(image: Image.Image) -> bool:
  """Whether values of fewer than 8 bits would be spread to 0 to 255.

  Asked before the image is loaded. One bit a pixel, mode 1, is not among them.
  """
  return any(kind in str(image.tile) for kind in _SHALLOW)


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
  """Image.open whose errors, those of the body too, are UserErrors."""
  try:
    with (
        warnings.catch_warnings(action="ignore"), Image.open(path) as image
    ):
      yield image
  except UserError:
    raise
  except FileNotFoundError:
    raise UserError("is missing; put the file there.") from None
  except UnidentifiedImageError:
    raise UserError("is not a readable picture; mend or remove it.") from None
  except Image.DecompressionBombError:
    raise UserError("is too large to be opened safely; cut it up.") from None
  except Exception as error:  # decoders of damaged files raise anything
    raise UserError(
        f"is not a readable picture ({error}); mend or remove it."
    ) from None


def check_block(block: int, flag: str = "--block") -> None:
  if not 1 <= block <= 1024:
    raise UserError(f"{flag}={block} must be in 1 to 1024.")


def pad(image: np.ndarray, block: int) -> np.ndarray:
  """Pads right and bottom to whole blocks, [H, W, C] -> [H', W', C].

  Each row below the picture is the one `block` rows above it, so that the last
  blocks hold each pixel of the picture's last `block` rows once, and none
  shows the form of fewer pixels than a block has; columns alike. (To repeat
  the edge would show the last rows on their own, and nearly exactly a single
  one.) It still shows more than whole blocks do, since these windows overlap
  the blocks before them: the two forms together tell by how much the last
  H mod `block` rows differ from as many rows farther up, and where those have
  no values in common, the form of just these rows. A picture smaller than a
  block is repeated, and the form is of the whole of it.
  """
  def sources(size: int) -> np.ndarray:
    place = np.arange(size + -size % block)
    return np.where(place < size, place, place - min(block, size)) % size

  height, width = image.shape[:2]
  return image[sources(height)][:, sources(width)]


def encode(pixels: np.ndarray, header: Header | None = None) -> bytes:
  """PNG of uint8 [H, W, 1 or 3], with the header's fields if there is one."""
  info = PngImagePlugin.PngInfo()
  if header is not None:
    for field, value in (
        ("format", "1"), ("version", __version__), ("scheme", header.scheme),
        ("block", str(header.block)),
        ("size", f"{header.width}x{header.height}"),
    ):
      info.add_text(_FIELD + field, value)
    for field in ("protect", "noise"):
      if getattr(header, field):
        info.add_text(_FIELD + field, getattr(header, field))
  image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
  file = io.BytesIO()
  image.save(file, format="PNG", pnginfo=info)
  return file.getvalue()


def encode_labels(labels: np.ndarray, palette: np.ndarray) -> bytes:
  """PNG of class ids, uint8 [H, W]; the palette, uint8 [256, 3], shows them."""
  image = Image.fromarray(labels)
  image.putpalette(palette.tobytes())
  file = io.BytesIO()
  image.save(file, format="PNG", compress_level=3)  # labels are even
  return file.getvalue()


def read_header(path: Path) -> Header:
  """The header of a ciphertext; UserError, without path, if it has none."""
  with opened(path) as image:
    return header_of(image)


def has_header(path: Path) -> bool:
  """Whether the file says that it is a ciphertext that `encrypt` wrote."""
  with opened(path) as image:
    return f"{_FIELD}format" in image.info


def read_cipher(path: Path) -> tuple[np.ndarray, Header]:
  """The ciphertext, uint8 [H, W, 1 or 3], and its header."""
  with opened(path) as image:
    header = header_of(image)
    image.load()
    pixels = np.asarray(image)
  return pixels[..., None] if pixels.ndim == 2 else pixels, header


def header_of(image: Image.Image) -> Header:
  """The header of an opened ciphertext; UserError, without path, if damaged."""
  fields = {
      key.removeprefix(_FIELD): str(value) for key, value in image.info.items()
      if isinstance(key, str) and key.startswith(_FIELD)
  }
  if image.format != "PNG" or "format" not in fields:
    raise UserError(
        "was not written by 'encrypt': it lacks the text fields of a"
        " ciphertext."
    )
  if fields["format"] != "1":
    raise UserError("was written by a newer version of ppseg_jax; update this"
                    " one.")
  size = re.fullmatch(r"(\d{1,6})x(\d{1,6})", fields.get("size", ""))
  block = fields.get("block", "")
  protect = fields.get("protect", "")
  if not size or not re.fullmatch(r"\d{1,5}", block) or (
      "scheme" not in fields or not re.fullmatch(r"|[0-9a-f]{16}", protect)
  ):
    raise UserError("has damaged text fields; get the file again.")
  header = Header(
      fields["scheme"], int(block), int(size[1]), int(size[2]), protect,
      fields.get("noise", ""),
  )
  padded = (_up(header.width, header.block), _up(header.height, header.block))
  if image.size != padded or image.mode not in ("L", "RGB"):
    raise UserError("has another size or mode than its text fields say; get"
                    " the file again.")
  return header


def _up(size: int, block: int) -> int:
  return size + -size % block if block else -1
