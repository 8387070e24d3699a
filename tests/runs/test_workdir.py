"""What a workdir remembers of the run that it was made for."""

import pytest

from ppseg_jax.configs import setr_enc
from ppseg_jax.errors import UserError
from ppseg_jax.fields import UNSTORED
from ppseg_jax.runs import workdir


@pytest.mark.parametrize("field", UNSTORED)
def test_a_config_stored_before_a_field_existed_is_one_with_its_default(
    field, tmp_path
):
  now = setr_enc.get_config().to_dict()
  stored = setr_enc.get_config().to_dict()
  *sections, last = field.split(".")
  section = stored
  for name in sections:
    section = section[name]
  del section[last]
  folder = workdir.Workdir(tmp_path)
  workdir.write_json(folder.config, stored)
  workdir.check_config(tmp_path, now)
  # As a server asks, which knows the stored config alone.
  workdir.check_config(tmp_path, workdir.read_json(folder.config))
  with pytest.raises(UserError, match="steps is"):
    workdir.check_config(tmp_path, now | {"steps": now["steps"] + 1})
