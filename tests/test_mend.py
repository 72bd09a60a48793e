"""What a kill leaves of DVC's files is put away, and whole ones are left alone."""

import json

import pytest
from tiny import ROOT

from hmdiff.pipeline.mend import mend


@pytest.fixture
def project(tmp_path):
    (tmp_path / ".dvc/tmp").mkdir(parents=True)
    (tmp_path / "dvc.lock").write_bytes((ROOT / "dvc.lock").read_bytes())
    info = {"pid": 1, "cmd": "dvc repro"}
    (tmp_path / ".dvc/tmp/rwlock").write_text(json.dumps({"read": {"a": [info]}, "write": {}}))
    return tmp_path


def test_whole_files_stay_as_they_are(project):
    assert mend(project) == []
    assert (project / "dvc.lock").read_bytes() == (ROOT / "dvc.lock").read_bytes()
    (project / "dvc.lock").unlink()
    assert mend(project) == []


@pytest.mark.parametrize("name", ["dvc.lock", ".dvc/tmp/rwlock"])
@pytest.mark.parametrize(
    "content", [b"", b"{", b"schema: '2.0'\nstages:\n  a:\n    cmd: x\n    outs:\n"]
)
def test_half_a_file_is_put_away(project, name, content):
    (project / name).write_bytes(content)
    assert mend(project) == [project / name]
    assert not (project / name).exists()
    assert (project / f"{name}.broken").read_bytes() == content
