import json

import pytest

from hf_clipselect.runtime.redaction import hide_secrets, names_of_options


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("https://me:pass@host/a.csv", "https://host/a.csv"),
        ("https://me:p@ss@host/a.csv?x=1#y=2", "https://host/a.csv"),
        ("s3://b/a.parquet?X-Amz-Signature=ab%2F&X-Amz-Date=1", "s3://b/a.parquet"),
        ("403, url='https://h/a?token=abc&b=c' was refused", "403, url='https://h/a' was refused"),
        ("https://h/a#access_token=abc", "https://h/a"),
        ("https://h/a?download&sig=abc", "https://h/a"),
        ("https://h/a?v;x:y=1,sig=abc", "https://h/a"),
        ("s3://KEY:SE/CR+ET@bucket/a.csv", "s3://bucket/a.csv"),
        ("http://host:8080/pets@main/a.csv", "http://host:8080/pets@main/a.csv"),
        ("s3://b/day-?/month=1/*.parquet", "s3://b/day-?/month=1/*.parquet"),
        ("two https://a:b@h/x and https://c:d@h/y?sig=z.", "two https://h/x and https://h/y"),
        ("hf://datasets/me/pets@main/a.csv", "hf://datasets/me/pets@main/a.csv"),
        ("s3://bucket/train-?.parquet", "s3://bucket/train-?.parquet"),
        ("memory://a/x[1]=2.csv", "memory://a/x[1]=2.csv"),
        ("/home/me@work/a?b=c.csv", "/home/me@work/a?b=c.csv"),
    ],
)
def test_urls(text, left):
    assert hide_secrets(text) == left


def test_values_of_options():
    options = {"key": "AKIA123456", "secret": "a/b+c=d", "pin": 7, "anon": False, "deep": {"headers": [["x", "ÿ\n"]]}}
    text = hide_secrets('AKIA123456 a/b+c=d a%2Fb%2Bc%3Dd 7 77 False "\\u00ff\\n" xy x: ÿ\n', options)
    assert text == '*** *** *** *** 77 False "***" xy ***: ***'
    assert json.loads(names_of_options(json.dumps(options))) == dict.fromkeys(options)
