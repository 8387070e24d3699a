"""Serves a trained run: python -m ppseg_jax.server --workdir=W

Clients send encrypted pictures and keep their keys; this program has no way to
take one. GET /v1/model says what it reads, /docs how it is asked, / has a page
for a person. It is plain HTTP, for this machine (127.0.0.1) or behind a proxy
that speaks TLS.
"""

import asyncio
import dataclasses
import re
import sys
from pathlib import Path

from ppseg_jax import command
from ppseg_jax.errors import UserError


def _size(text: str) -> tuple[int, int]:
  found = re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})", text.strip())
  if not found:
    raise UserError(f"'{text}' is no size; give height x width, as 512x1024.")
  return int(found[1]), int(found[2])


def _whole(name: str, text: str, least: int, most: int) -> int:
  if not re.fullmatch(r"\d{1,9}", text) or not least <= int(text) <= most:
    raise UserError(f"{name}={text} must be a number in {least} to {most}.")
  return int(text)


def _parser() -> command.Parser:
  parser = command.Parser(prog="python -m ppseg_jax.server",
                          description=__doc__)
  add = parser.add_argument
  add("--workdir", required=True, type=command.path,
      help="folder of the trained run")
  add("--host", default="127.0.0.1",
      help="address to listen on, 0.0.0.0 for all; default: this machine only")
  add("--port", default="8000", help="default: 8000")
  add("--scheme", default="",
      help="that clients encrypt by; default: the one it was trained for."
      " With _hidden or _bands2 behind it for a hidden layout")
  add("--sizes", default="",
      help="height x width of pictures to be ready for, as 512x1024,480x360;"
      " default: the size it was trained on")
  add("--batches", default="1,4",
      help="how many pictures are run together; default: 1,4")
  add("--largest", default="2048x2048",
      help="height x width that no picture is above; default: 2048x2048")
  add("--max-sizes", default="16",
      help="sizes that are kept compiled; default: 16")
  add("--queue", default="64",
      help="requests in work, beyond which others are turned down; default: 64")
  return parser


@dataclasses.dataclass(frozen=True)
class Settings:
  """A parsed command line; see the flags of these names."""

  workdir: Path
  host: str
  port: int
  scheme: str
  sizes: tuple[tuple[int, int], ...]
  batches: tuple[int, ...]
  largest: tuple[int, int]
  max_sizes: int
  queue: int


def read(argv: list[str]) -> Settings:
  """Raises UserError for what is wrong, SystemExit after --help."""
  args = _parser().parse_args(argv)
  batches = {1} | {
      _whole("--batches", part.strip(), 1, 1024)
      for part in args.batches.split(",")
  }
  return Settings(
      args.workdir, args.host, _whole("--port", args.port, 0, 65535),
      args.scheme, tuple(map(_size, filter(None, args.sizes.split(",")))),
      tuple(sorted(batches)), _size(args.largest),
      _whole("--max-sizes", args.max_sizes, 1, 10_000),
      _whole("--queue", args.queue, 1, 100_000),
  )


def _main(argv: list[str]) -> int:
  settings = read(argv)
  try:
    from ppseg_jax.server import listen
    from ppseg_jax.server.app import Cloud
  except ModuleNotFoundError as error:
    if (error.name or "").split(".")[0] == "ppseg_jax":
      raise
    raise UserError(
        f"the package {error.name} is missing; pip install"
        ' "ppseg_jax[server]" brings what a server needs.'
    ) from None
  from ppseg_jax import compiled
  from ppseg_jax.server import served
  from ppseg_jax.server.programs import Programs

  compiled.keep()
  model = served.load(settings.workdir, settings.scheme)
  programs = Programs(
      model, settings.sizes or (model.crop,), settings.batches,
      settings.largest, settings.max_sizes,
  )
  with listen.bind(settings.host, settings.port) as listening:
    host, port = listening.getsockname()[:2]
    where = f"[{host}]" if ":" in host else host

    def say(what: str) -> None:
      print(f"{what}: http://{where}:{port}/", flush=True)

    print(f"compiling for {', '.join(f'{h}x{w}' for h, w in programs.sizes)}",
          flush=True)
    asyncio.run(listen.serve(
        Cloud(model, programs, settings.queue), listening, say
    ))
  print("stopped: all that was taken is answered.")
  return 0


def main(argv: list[str] | None = None) -> int:
  return command.run(lambda: _main(sys.argv[1:] if argv is None else argv))


if __name__ == "__main__":
  sys.exit(main())
