"""A canary key goes through every way to fail, and is looked for in everything that comes out."""

import copy
import io
import logging
import pickle
import traceback

import pytest
from tests.generate.hosted.asked import QUICK, ask, generator, questions
from tests.generate.hosted.fault_server import (
    Act,
    FaultServer,
    answered,
    chunk,
    error,
    faults,
    head,
    ok,
    stream_head,
)

from tenbin.config import ModelConfig, parse_study
from tenbin.errors import MissingExtra, ModelError, UserError
from tenbin.generate.hosted import open_hosted, read_prices
from tenbin.generate.hosted.secret import Secret

KEY = "sk-canary-0123456789/abcdef+XYZ"
ENCODED = "sk-canary-0123456789%2Fabcdef%2BXYZ"


@pytest.fixture
def log(monkeypatch):
    """Everything that any library logs, at the lowest level."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    root = logging.getLogger()
    loggers = [root, *(logging.getLogger(n) for n in ("openai", "httpx2", "httpcore2", "httpx", "httpcore"))]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(1)
    root.addHandler(handler)
    yield stream
    root.removeHandler(handler)
    for logger, level in zip(loggers, before, strict=True):
        logger.setLevel(level)


def assert_clean(folder, *texts):
    files = [path.read_bytes() for path in folder.rglob("*") if path.is_file()]
    for text in (*texts, *(f.decode("utf-8", "replace") for f in files)):
        assert KEY not in text
        assert ENCODED not in text
        assert "canary" not in text


def everything_of(caught):
    """The traceback as it is printed, with what caused it and with the locals of every frame."""
    found, error = [], caught
    while error is not None:
        found.append(
            "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
        )
        found += [str(error), repr(error), str(error.args), str(vars(error))]
        error = error.__cause__ or error.__context__
    return "\n".join(found)


def echoes(seen):
    """What a careless service may answer: what it was sent."""
    sent = f"{seen.header('authorization') or seen.header('api-key')} {ENCODED}"
    body = f"half {sent}".encode()
    return {
        "401": error(401, f"Incorrect API key provided: {sent}", "invalid_api_key"),
        "403 as text": Act((head(403, len(body)) + body,)),
        "404": error(404, sent, sent),
        "400": error(400, sent, sent),
        "429": error(429, sent, sent, [("Retry-After", sent)]),
        "500": error(500, sent),
        "302": Act((head(302, 0, [("Location", f"http://127.0.0.1:9/{sent}")]),)),
        "filtered": error(400, sent, "content_filter"),
        "in the answer": ok(f"The key is {sent}.", model=sent),
        "in the ending": ok("x", finish=sent),
        "malformed": Act((head(200, len(body)) + body,)),
        "malformed fields": ok("x", index=0, message={"content": {"key": sent}}),
        "status line": Act((f"HTTP/1.1 599 {sent}\r\nContent-Length: 0\r\n\r\n".encode(),)),
        "bad head": Act((f"HTTP/9 {sent}\r\n\r\n".encode(),), cut=True),
        "bad header": Act((f"HTTP/1.1 200 OK\r\n{sent}\x00\r\n\r\n".encode(),), cut=True),
    }


class _Any:
    @staticmethod
    def header(name):
        return KEY

    prompt, streams, json = "x", False, {}


def reveals_nothing(folder, log, made, say):
    texts = []
    try:
        found = ask(made, questions(3))
        texts += [repr(found)]
    except UserError as caught:
        texts += [everything_of(caught), caught.render()]
    assert_clean(folder, log.getvalue(), *texts, *say, repr(made), str(made), repr(made.usage()))


@pytest.mark.parametrize("name", list(echoes(_Any)))
@pytest.mark.parametrize("kind", ["openai", "azure"])
def test_a_service_that_repeats_the_key_does_not_get_it_written(
    tmp_path, monkeypatch, log, capfd, name, kind
):
    monkeypatch.setenv("MY_KEY", KEY)
    say = []
    with FaultServer(lambda seen, number: echoes(seen)[name]) as server:
        fields = {**QUICK, "api_key_env": "MY_KEY", "attempts": 2}
        source = f"{server.url}#m"
        if kind == "azure":
            source, fields = "azure:m", {**fields, "endpoint": server.url[:-3], "api_version": "1"}
        model = ModelConfig.model_validate({"source": source, "hosted": fields})
        made = open_hosted(model, tmp_path, prices=read_prices(), say=say.append)
        reveals_nothing(tmp_path, log, made, say)
        assert server.seen
        assert KEY in str(server.seen[0].headers)
    assert_clean(tmp_path, *capfd.readouterr())


@pytest.mark.parametrize("name", list(faults(_Any)))
def test_no_fault_shows_the_key(tmp_path, monkeypatch, log, name):
    monkeypatch.setenv("MY_KEY", KEY)
    with FaultServer(lambda seen, number: faults(seen)[name]) as server:
        made = generator(server, tmp_path, api_key_env="MY_KEY", attempts=2, timeout_s=1.0)
        reveals_nothing(tmp_path, log, made, [])


@pytest.mark.parametrize("last", ["error", "cut", "nonsense"])
def test_no_stream_shows_the_key(tmp_path, monkeypatch, log, last):
    monkeypatch.setenv("MY_KEY", KEY)
    pieces = {
        "error": chunk({"error": {"message": f"bad {KEY}", "code": KEY}}),
        "cut": b"",
        "nonsense": chunk(f"{KEY} is no JSON"),
    }
    with FaultServer(lambda seen, number: Act((stream_head(), pieces[last]), cut=True)) as server:
        made = generator(server, tmp_path, api_key_env="MY_KEY", attempts=2, stream=True)
        reveals_nothing(tmp_path, log, made, [])


def test_no_connection_shows_the_key(tmp_path, monkeypatch, log):
    monkeypatch.setenv("MY_KEY", KEY)
    with FaultServer(lambda seen, number: answered(seen)) as server:
        url = server.url
    reveals_nothing(tmp_path, log, generator(url, tmp_path, api_key_env="MY_KEY"), [])


def test_a_mistake_of_ours_does_not_show_the_key(tmp_path, monkeypatch, log):
    from tenbin.generate.hosted import connection

    def broken(content):
        raise ZeroDivisionError(f"with {KEY}")

    monkeypatch.setenv("MY_KEY", KEY)
    monkeypatch.setattr(connection, "read_reply", broken)
    with FaultServer(lambda seen, number: answered(seen)) as server:
        made = generator(server, tmp_path, api_key_env="MY_KEY")
        with pytest.raises(RuntimeError, match="ZeroDivisionError") as caught:
            ask(made, questions(2))
    shown = "".join(traceback.format_exception(caught.value))
    assert_clean(tmp_path, shown, log.getvalue())


@pytest.mark.parametrize("value", [f"{KEY} {KEY}", f"{KEY}\n{KEY}", f"ｓｋ-{KEY}", f"{KEY}\x00"])
def test_a_key_that_cannot_be_sent_is_refused_and_not_shown(tmp_path, monkeypatch, value):
    from tenbin.generate.hosted import secret

    monkeypatch.setattr(secret.os, "environ", {"MY_KEY": value})
    with pytest.raises(ModelError, match="holds no key that can be sent") as caught:
        generator("http://127.0.0.1:9/v1", tmp_path, api_key_env="MY_KEY")
    trace = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    frames = "".join(line for line in trace.format() if "/src/tenbin/" in line.split("\n")[0])
    assert frames
    assert_clean(tmp_path, frames, str(caught.value))


def test_a_missing_key_is_said_with_the_name_of_its_variable(tmp_path, monkeypatch):
    for variable, source, hosted in (
        ("OPENAI_API_KEY", "openai:m", {}),
        ("AZURE_OPENAI_API_KEY", "azure:m", {"endpoint": "https://x.example", "api_version": "1"}),
        ("MY_KEY", "http://127.0.0.1:9/v1#m", {"api_key_env": "MY_KEY"}),
    ):
        monkeypatch.setenv(variable, " ")
        model = ModelConfig.model_validate({"source": source, "hosted": hosted})
        with pytest.raises(ModelError, match=f"environment variable {variable} is not set"):
            open_hosted(model, tmp_path, prices=read_prices())
    assert not list(tmp_path.iterdir())


def test_the_keyring(tmp_path, monkeypatch, log):
    import keyring
    from keyring.backend import KeyringBackend

    class Fake(KeyringBackend):
        priority = 1

        def get_password(self, service, username):
            return KEY if (service, username) == ("tenbin", "openai") else None

        def set_password(self, service, username, password):
            raise NotImplementedError

        def delete_password(self, service, username):
            raise NotImplementedError

    before = keyring.get_keyring()
    keyring.set_keyring(Fake())
    try:
        with FaultServer(lambda seen, number: answered(seen)) as server:
            made = generator(server, tmp_path, keyring="tenbin/openai")
            ask(made, questions(1))
            assert server.seen[0].header("authorization") == f"Bearer {KEY}"
            with pytest.raises(ModelError, match="no entry tenbin/none") as caught:
                generator(server, tmp_path, keyring="tenbin/none")
    finally:
        keyring.set_keyring(before)
    assert "keyring set tenbin none" in str(caught.value)
    assert_clean(tmp_path, log.getvalue(), repr(made))


def test_without_the_library_the_keyring_says_how_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "keyring", None)
    with pytest.raises(MissingExtra, match=r"tenbin\[keyring\]"):
        generator("http://127.0.0.1:9/v1", tmp_path, keyring="a/b")


def test_a_secret_shows_itself_nowhere():
    secret = Secret(KEY)
    assert secret.reveal() == KEY
    assert_clean_text = [repr(secret), str(secret), f"{secret}", str(dir(secret)), str([secret])]
    assert not [text for text in assert_clean_text if "canary" in text]
    for way in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="never pickled"):
            way(secret)


def test_short_keys_are_not_struck_from_words():
    assert Secret("test").strike("a test") == "a test"
    assert Secret(KEY).strike(f"a {KEY} b {ENCODED}") == "a [key] b [key]"


def test_a_resolved_study_holds_the_name_of_the_variable_alone(monkeypatch):
    monkeypatch.setenv("MY_KEY", KEY)
    study = parse_study(
        {
            "name": "x",
            "task": "reading",
            "data": {"train": "a"},
            "model": [{"source": "openai:m", "hosted": {"api_key_env": "MY_KEY"}}],
        }
    )
    assert "MY_KEY" in study.to_toml()
    assert "canary" not in study.to_toml() + repr(study)
