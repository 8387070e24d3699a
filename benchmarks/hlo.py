"""What a program that XLA has partitioned sends between devices.

The text is that of the module after the SPMD partitioner, where types are still
those of the program: a CPU's compiler then makes float32 of bfloat16.
"""

import collections
import math
import re
from typing import NamedTuple

import numpy as np

_BYTES = {"pred": 1, "s8": 1, "u8": 1, "s16": 2, "u16": 2, "bf16": 2, "f16": 2,
          "s32": 4, "u32": 4, "f32": 4, "s64": 8, "u64": 8, "f64": 8}
_KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all",
          "collective-permute")
_COLLECTIVE = re.compile(
    rf"(%[\w.\-]+) = (.*?) ({'|'.join(_KINDS)})(?:-start)?\((.*)"
)


class Collective(NamedTuple):
  """Collectives of one kind among the same devices.

  Attributes:
    kind: one of `_KINDS`.
    group: numbers of the devices of its first group.
    bytes: of the whole array, in one step, all of them together: what goes in
      for all-reduce and reduce-scatter, what comes out for all-gather.
    count: of them in one step.
  """

  kind: str
  group: tuple[int, ...]
  bytes: float
  count: float


def collectives(text: str) -> list[Collective]:
  """Those of a module, summed up by kind and devices.

  A loop's count as often as it turns, once where that depends on data. An
  all-reduce of which every device keeps its own part is a reduce-scatter: the
  partitioner writes it as the first, and the compilers for GPU and TPU make
  the second of it.
  """
  bodies, turns = _computations(text), _turns(text)
  found = collections.defaultdict(lambda: [0.0, 0.0])
  for name, lines in bodies.items():
    users = _users(lines)
    for line in lines:
      match = _COLLECTIVE.search(line)
      if not match:
        continue
      result, shape, kind, rest = match.groups()
      if kind == "all-reduce" and users[result] == {"dynamic-slice"}:
        kind = "reduce-scatter"
      group = first_group(rest)
      size = nbytes(shape) * (len(group) if "reduce-scatter(" in line else 1)
      total = found[kind, group]
      total[0] += size * turns.get(name, 1)
      total[1] += turns.get(name, 1)
  return [Collective(*key, *total) for key, total in found.items()]


def nbytes(shape: str) -> int:
  """Of an HLO shape, or a tuple of them."""
  return sum(
      _BYTES[dtype] * math.prod(int(n) for n in dims.split(",") if n)
      for dtype, dims in re.findall(r"\b([a-z]+\d*)\[([\d,]*)\]", shape)
  )


def first_group(text: str) -> tuple[int, ...]:
  """Devices of the first of `replica_groups`, or of `source_target_pairs`.

  Raises ValueError for a notation that is not known here.
  """
  if match := re.search(r"source_target_pairs=\{\{(\d+),(\d+)\}", text):
    return tuple(map(int, match.groups()))
  if match := re.search(r"replica_groups=\{\{([\d,]+)\}", text):
    return tuple(int(n) for n in match[1].split(","))
  iota = r"\[[\d,]+\](?:T\([\d,]+\))?"
  if match := re.search(rf"replica_groups=\[(\d+),(\d+)\]<=({iota})", text):
    ids = _iota(match[3]).reshape(int(match[1]), int(match[2]))
    return tuple(ids[0].tolist())
  if match := re.search(
      rf"replica_groups=mesh\[([^\]]*)\](?:, device_ids=\(({iota})\))?"
      r" \{((?:'\w+',?)+)\}", text,
  ):
    axes = {name: int(size)
            for name, size in re.findall(r"'(\w+)'=(\d+)", match[1])}
    ids = np.arange(math.prod(axes.values()))
    if match[2]:
      ids = _iota(match[2]).ravel()
    ids = ids.reshape(tuple(axes.values()))
    among = re.findall(r"'(\w+)'", match[3])
    at = tuple(slice(None) if name in among else 0 for name in axes)
    return tuple(ids[at].ravel().tolist())
  where = text.find("replica_groups")
  raise ValueError(f"unknown notation of groups: {text[where:where + 100]}")


def _iota(text: str) -> np.ndarray:
  """[8,2]T(1,0): the numbers of 16 devices as 8x2, transposed."""
  dims, _, order = text.partition("T")
  shape = [int(n) for n in dims.strip("[]").split(",")]
  ids = np.arange(math.prod(shape)).reshape(shape)
  if order:
    ids = ids.transpose([int(n) for n in order.strip("()").split(",")])
  return ids


def _users(lines: list[str]) -> dict[str, set[str]]:
  """What each value of a computation is used by: names of operations."""
  users = collections.defaultdict(set)
  for line in lines:
    _, _, line = line.partition(" = ")
    if match := re.search(r" ([\w\-]+)\((%.*)", line):
      for name in re.findall(r"%[\w.\-]+", match[2]):
        users[name].add(match[1])
  return users


def _computations(text: str) -> dict[str, list[str]]:
  """The lines of each, by name; the one that is run is called ENTRY."""
  found, lines = {}, []
  for line in text.splitlines():
    if match := re.match(r"(ENTRY )?(%[\w.\-]+) \(.*\{$", line):
      lines = found["ENTRY" if match[1] else match[2]] = []
    else:
      lines.append(line)
  return found


def _turns(text: str) -> dict[str, int]:
  """How often each computation is run in one run of the whole."""
  bodies, turns = _computations(text), collections.Counter()

  def visit(name: str, times: int) -> None:
    turns[name] += times
    for line in bodies.get(name, ()):
      if loop := re.search(
          r" while\(.*condition=(%[\w.\-]+), body=(%[\w.\-]+)", line
      ):
        visit(loop[2], times * _trips(bodies[loop[1]]))
      else:
        for inner in re.findall(r"(?:calls|to_apply)=(%[\w.\-]+)", line):
          visit(inner, times)

  visit("ENTRY", 1)
  return turns


def _trips(condition: list[str]) -> int:
  """Of a loop that counts up to a constant; 1 where it does not."""
  ends = [int(n) for line in condition
          for n in re.findall(r"s32\[\] constant\((\d+)\)", line)]
  counts = any("direction=LT" in line for line in condition)
  return ends[0] if counts and len(ends) == 1 else 1
