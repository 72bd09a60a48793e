"""JSON read element by element is the whole JSON."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hmdiff.datasets import json_stream
from hmdiff.datasets.json_stream import elements

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=6,
)


def flat(content: dict) -> list:
    """What the elements of an object should be."""
    return [
        (key, item)
        for key, value in content.items()
        for item in (value if isinstance(value, list) else [value])
    ]


@given(
    content=st.dictionaries(st.text(), VALUES, max_size=4),
    chunk=st.integers(1, 40),
    indent=st.sampled_from([None, 2]),
    ascii_=st.booleans(),
)
def test_elements_are_those_of_the_whole_file(tmp_path_factory, content, chunk, indent, ascii_):
    path = tmp_path_factory.getbasetemp() / "stream.json"
    path.write_text(json.dumps(content, indent=indent, ensure_ascii=ascii_), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_stream, "CHUNK", chunk)
        assert list(elements(path)) == flat(content)


def test_every_cut_is_noticed(tmp_path):
    path = tmp_path / "x.json"
    whole = json.dumps({"images": [{"id": 1}, {"id": 23}], "n": 45, "info": {"a": [1]}})
    for length in range(len(whole)):
        path.write_text(whole[:length])
        with pytest.raises(ValueError, match="x.json: not whole JSON"):
            list(elements(path))
    path.write_text(whole + "]")
    with pytest.raises(ValueError, match="not whole JSON"):
        list(elements(path))


def test_memory_does_not_grow_with_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(json_stream, "CHUNK", 1000)
    path = tmp_path / "x.json"
    path.write_text(json.dumps({"a": [{"id": i, "x": "y" * 50} for i in range(2000)]}))
    longest = 0
    more = json_stream._Text.more

    def watched(self):
        nonlocal longest
        result = more(self)
        longest = max(longest, len(self.buffer))
        return result

    monkeypatch.setattr(json_stream._Text, "more", watched)
    assert sum(1 for _ in elements(path)) == 2000
    assert longest < 5000 < path.stat().st_size
