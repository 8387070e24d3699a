"""The README is one page, and what CI and readers take from it is there."""

import re

from tests.helpers import ROOT

README = (ROOT / "README.md").read_text()


def test_the_first_two_commands_are_the_main_job_and_the_tests():
  main_job, tests, *_ = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
  assert "pip install" in main_job and "configs/setr_enc.py" in main_job
  assert "[test]" in tests and "pytest" in tests


def test_the_readme_is_one_page():
  assert len(README.splitlines()) <= 130


def test_the_readme_says_what_is_claimed_in_three_sentences_before_all_else():
  _, claim, *_ = README.split("\n\n")
  assert len(re.findall(r"\.(?:\s|$)", claim)) == 3
  assert "does not claim" in claim
