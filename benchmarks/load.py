"""Clients that load a server, in a process that does nothing else.

`benchmarks.serving` starts it: python -m benchmarks.load < job.pickle

A job is (kind of loop, its arguments); the answers go to stdout as JSON.
"""

import collections
import http.client
import json
import pickle
import sys
import time
from concurrent.futures import ThreadPoolExecutor

Answers = list[tuple[int, float]]  # status, seconds; 0: never answered


def closed(
    place: str, path: str, bodies: list[bytes], clients: int
) -> Answers:
  """Each of the clients sends its next body when it has its answer."""
  waiting = collections.deque(bodies)

  def client() -> Answers:
    line, found = None, []
    while True:
      try:
        body = waiting.popleft()
      except IndexError:
        return found
      start = time.perf_counter()
      try:
        line = line or http.client.HTTPConnection(place, timeout=300)
        line.request("POST", path, body, {"Content-Type": "image/png"})
        answer = line.getresponse()
        answer.read()
        status = answer.status
      except (OSError, http.client.HTTPException):
        status, line = 0, None
      found.append((status, time.perf_counter() - start))

  with ThreadPoolExecutor(clients) as pool:
    parts = [pool.submit(client) for _ in range(clients)]
    return [each for part in parts for each in part.result()]


def at_rate(
    place: str, path: str, bodies: list[bytes], rate: float, seconds: float
) -> Answers:
  """Bodies are sent at a rate, whatever comes back."""
  count = int(rate * seconds)

  def one(number: int) -> Answers:
    time.sleep(max(0, begin + number / rate - time.perf_counter()))
    return closed(place, path, [bodies[number % len(bodies)]], 1)[0]

  with ThreadPoolExecutor(max(16, min(count, 256))) as pool:
    begin = time.perf_counter()
    return list(pool.map(one, range(count)))


def main() -> None:
  kind, args = pickle.load(sys.stdin.buffer)
  start = time.perf_counter()
  answers = {"closed": closed, "at_rate": at_rate}[kind](*args)
  json.dump([answers, time.perf_counter() - start], sys.stdout)


if __name__ == "__main__":
  main()
