"""Text, JSON and YAML from outside: a value, or a refusal that names the file and the fault."""

import codecs
import json
import time

import pytest

from easyanimate_core.errors import CheckpointError, MediaError
from easyanimate_core.files import json_value, read_bytes, read_json, read_text, short, text_of
from easyanimate_core.files.yaml_text import read_yaml, yaml_value

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n"


def refusal_of_bytes(folder, content: bytes) -> str:
    path = folder / "config.json"
    path.write_bytes(content)
    with pytest.raises(CheckpointError) as refused:
        read_json(path, dict, error=CheckpointError, remedy="Download it again.")
    assert str(path) in str(refused.value)
    return str(refused.value)


def refusal_of_json(text: str, kind=dict) -> str:
    with pytest.raises(CheckpointError) as refused:
        json_value(text, kind, "The text", error=CheckpointError)
    return str(refused.value)


def refusal_of_yaml(text: str, kind=dict) -> str:
    with pytest.raises(CheckpointError) as refused:
        yaml_value(text, kind, "The text", error=CheckpointError)
    return str(refused.value)


def test_a_byte_order_mark_is_read_over(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(codecs.BOM_UTF8 + '{"a": "é"}\r\n'.encode())
    assert read_json(path, dict, error=MediaError) == {"a": "é"}
    assert read_yaml(path, dict, error=MediaError) == {"a": "é"}
    assert read_text(path, error=MediaError) == '{"a": "é"}\n'


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_wide_text_is_refused_by_its_name(tmp_path, encoding):
    said = refusal_of_bytes(tmp_path, '{"patch_size": 2}'.encode(encoding))
    assert "UTF-16" in said and "Save it as UTF-8" in said


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (POINTER, "is a git-lfs pointer to a file of 5 bytes"),
        ('{"a": "é"}'.encode("latin-1"), "byte 7 is 0xe9, which is not valid UTF-8"),
        ('{"a": "好"}'.encode("gbk"), "which is not valid UTF-8"),
        (b'{"a": 1}\0', "character 8 is NUL"),
        (b"\x80\x04pickle", "not valid UTF-8"),
        (b"", "is not valid JSON: it is empty. Download it again."),
        (b" \n", "is not valid JSON: it is empty"),
        (b"\n<!DOCTYPE html><html>", "is a web page, not the file"),
        (b"<HTML lang=en>", "download button"),
    ],
)
def test_bytes_that_are_no_text_are_refused(tmp_path, content, said):
    assert said in refusal_of_bytes(tmp_path, content)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("gone.json", "gone.json cannot be read: it does not exist. Get it."),
        ("", "it is a folder"),
        ("a\0b", "no file can have this name"),
        ("x" * 300, "name too long"),
        ("\udcff", None),
        ("a/" * 3000, "name too long"),
    ],
)
def test_names_that_lead_nowhere_are_refused(tmp_path, name, said):
    with pytest.raises(MediaError) as refused:
        read_bytes(f"{tmp_path}/{name}", error=MediaError, remedy="Get it.")
    assert (said or "cannot be read").lower() in str(refused.value).lower()


def test_size_is_bounded_before_anything_is_read_whole():
    with pytest.raises(MediaError, match=r"/dev/zero cannot be read: it is larger than 1,000"):
        read_bytes("/dev/zero", error=MediaError, limit=1000)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[" * 100_000, "nested too deeply"),
        ('{"a":' * 100_000, "nested too deeply"),
        ("[" * 70 + "]" * 70, "nested too deeply"),
        ('{"a": ' + "9" * 5000 + "}", "a number has 5000 digits; at most 100"),
        ('{"a": 1e999}', "a number is 1e999, which is not finite"),
        ('{"a": NaN}', "a number is NaN"),
        ('{"a": -Infinity}', "a number is -Infinity"),
        ('{"a": 1, "a": 2}', "the key 'a' appears twice"),
        ('{"a": "\\ud800"}', "lone surrogate"),
        ('{"\\udfff": 1}', "lone surrogate"),
        ("{'a': 1}", "is not valid JSON"),
        ('{"a": 1} x', "is not valid JSON"),
        ("[1]", "holds a list, not a JSON object"),
        ("null", "holds null, not a JSON object"),
        ("1.5", "holds a number, not a JSON object"),
    ],
)
def test_json_that_would_fail_later_is_refused_at_once(text, said):
    assert said in refusal_of_json(text)


def test_json_that_is_odd_and_harmless_is_read():
    huge = {"model_max_length": int(1e30), "pair": "😀", "null": "a\0b"}
    assert json_value(json.dumps(huge), dict, "x", error=MediaError) == huge
    assert json_value('{"a": 1, "a": 1}', dict, "x", error=MediaError) == {"a": 1}
    assert json_value("[Infinity, 1e999]", list, "x", error=MediaError, finite=False)[0] > 1e308
    assert json_value("5", object, "x", error=MediaError) == 5


def test_long_values_are_shown_short():
    nested = [[["x" * 1000] * 1000] * 1000] * 1000
    assert len(short(nested)) <= 80 and len(short("\n" * 1000)) <= 80
    assert short({"a": 1}) == "{'a': 1}"


BOMB = "a0: &a0 [x, x]\n" + "\n".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)
)
MERGE_BOMB = "a0: &a0 {x: 1}\n" + "\n".join(
    f"a{i}: &a{i}\n  <<: [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)
)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (BOMB, "aliases expand to more than 100,000 values"),
        (MERGE_BOMB, "aliases expand to more than 100,000 values"),
        ("a: &a [*a]", "contains itself through an alias (line 1)"),
        ("a: &a {b: *a}", "contains itself through an alias"),
        ("[" * 5000, "nested too deeply"),
        ("- " * 5000, "nested too deeply"),
        ("a: !!python/object/apply:os.system [echo]", "os.system' is not supported (line 1)"),
        ("a: !!binary aGk=", "is not supported"),
        ("a: !!timestamp 2024-01-01", "is not supported"),
        ("a: !!bool perhaps", "does not fit its tag"),
        ("a: !!int ''", "is not valid YAML"),
        ("a: .inf", "'.inf' is not a finite number (line 1)"),
        ("a: " + "9" * 5000, "a number has 5000 digits (line 1)"),
        ("a: 0x" + "f" * 5000, "digits"),
        ("b: 1\na: 1\na: 1", "the key 'a' appears twice (line 3)"),
        ("on: 1", "the key 'on' is not text (line 1); put it in quotes"),
        ("? [a]\n: 1", "the key a list or a mapping is not text"),
        ("\ta: 1", "cannot start any token"),
        ("a: 1\n---\nb: 1", "a single document"),
        ("a: *b", "undefined alias"),
        ("a: \x01", "special characters"),
        ("- 1", "holds [1]; write `key: value` lines"),
        ("", "holds nothing; write `key: value` lines"),
    ],
)
def test_yaml_that_is_more_than_plain_values_is_refused(text, said):
    begun = time.monotonic()
    assert said in refusal_of_yaml(text)
    assert time.monotonic() - begun < 5


def test_yaml_keeps_dates_as_text_and_reads_aliases():
    text = "a: 2024-01-31\nb: &b {x: 1}\nc:\n  <<: *b\n  y: 2.5\nd: no\n'1': 0x10"
    value = {"a": "2024-01-31", "b": {"x": 1}, "c": {"x": 1, "y": 2.5}, "d": False, "1": 16}
    assert yaml_value(text, dict, "x", error=MediaError) == value
    assert yaml_value("", object, "x", error=MediaError) is None


def test_yaml_in_another_encoding_or_too_large_is_refused(tmp_path):
    path = tmp_path / "run.yaml"
    for content, said in (
        ("task: 视频".encode("gbk"), "not valid UTF-8. It seems to be GBK.* Save it as UTF-8"),
        ("task: x".encode("utf-16"), "UTF-16"),
        (b"a: 1\n" * 100_000, "larger than 262,144 bytes"),
    ):
        path.write_bytes(content)
        with pytest.raises(MediaError, match=said):
            read_yaml(path, dict, error=MediaError)


def test_text_of_a_file_without_its_name():
    assert text_of(b"a\r\nb\rc", "x", error=MediaError) == "a\nb\nc"
