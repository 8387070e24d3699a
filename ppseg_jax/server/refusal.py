"""How a request is turned down: a status, a sentence, when to come again."""


class Refused(Exception):
  """A request that gets no answer.

  Attributes:
    status: of HTTP.
    sentence: for whoever sent it.
    retry_after: seconds after which the same request may be taken; 0: never.
  """

  def __init__(self, status: int, sentence: str, retry_after: int = 0):
    super().__init__(sentence)
    self.status, self.sentence = status, sentence
    self.retry_after = retry_after
