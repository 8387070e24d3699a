"""What a server counts, for Prometheus; nothing of what is in a request."""

import prometheus_client as prometheus

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class Metrics:
  """The figures of one server."""

  def __init__(self):
    self._registry = prometheus.CollectorRegistry()
    prometheus.PlatformCollector(self._registry)
    prometheus.ProcessCollector(registry=self._registry)
    prometheus.GCCollector(self._registry)

    def make(kind, name, text, *labels, **more):
      return kind(
          f"ppseg_{name}", text, labels, registry=self._registry, **more
      )

    self.requests = make(
        prometheus.Counter, "requests", "Requests to segment, by their answer",
        "status",
    )
    self.images = make(prometheus.Counter, "images", "Images segmented")
    self.queue = make(
        prometheus.Gauge, "queue", "Requests to segment that are in work"
    )
    self.batch = make(
        prometheus.Histogram, "batch_images", "Images of a batch",
        buckets=(1, 2, 4, 8, 16, 32, 64),
    )
    self.seconds = make(
        prometheus.Histogram, "seconds", "From a request's head to its answer,"
        " of those that were segmented", buckets=_SECONDS,
    )
    self.sizes = make(
        prometheus.Gauge, "compiled_sizes", "Sizes that are compiled for"
    )
    self.compilations = make(
        prometheus.Counter, "compilations", "Compilations that requests began"
    )
    self.reading = make(
        prometheus.Gauge, "reading", "Requests whose body is on its way"
    )

  def text(self) -> bytes:
    return prometheus.generate_latest(self._registry)
