import json

import pytest
from tests.generate.hosted.asked import QUICK, ask, generator, questions, right
from tests.generate.hosted.fault_server import FaultServer, answered

from tenbin.config import ModelConfig
from tenbin.errors import ModelError
from tenbin.generate.hosted import connection, open_hosted, read_prices

KEY = "canary-0123456789abcdefghij"
NAMES_OF_OURS = {
    *("host", "accept", "accept-encoding", "connection", "content-type", "content-length", "user-agent"),
    *("authorization", "api-key"),
}


def always(seen, number):
    return answered(seen)


def azure(server, tmp_path, **hosted):
    fields = {"endpoint": f"http://127.0.0.1:{server.port}", "api_version": "2024-10-21", **QUICK, **hosted}
    model = ModelConfig.model_validate({"source": "azure:my-gpt", "hosted": fields})
    return open_hosted(model, tmp_path, prices=read_prices())


def only(server):
    (seen,) = server.seen
    assert {name.lower() for name, _ in seen.headers} <= NAMES_OF_OURS
    return seen


@pytest.mark.parametrize(
    ("hosted", "line", "body"),
    [
        (
            {},
            "POST /openai/deployments/my-gpt/chat/completions?api-version=2024-10-21 HTTP/1.1",
            '{"model":"my-gpt","messages":[{"role":"user","content":"問0"}],'
            '"max_completion_tokens":8,"temperature":0.0}',
        ),
        (
            {"endpoint_kind": "completions", "api_version": "2025-04-01-preview"},
            "POST /openai/deployments/my-gpt/completions?api-version=2025-04-01-preview HTTP/1.1",
            '{"model":"my-gpt","prompt":"問0","max_tokens":8,"temperature":0.0}',
        ),
    ],
    ids=["chat", "completions"],
)
def test_azure_byte_for_byte(tmp_path, monkeypatch, hosted, line, body):
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", KEY)
    with FaultServer(always) as server:
        assert ask(azure(server, tmp_path, **hosted), questions(1))[0].text == right(0)
    seen = only(server)
    assert seen.line == line
    assert seen.body == body.encode()
    assert seen.header("api-key") == KEY
    assert seen.header("authorization") is None
    assert seen.header("content-type") == "application/json"
    assert seen.header("host") == f"127.0.0.1:{server.port}"


def test_azure_with_an_entra_token(tmp_path, monkeypatch):
    monkeypatch.setenv("AZURE_OPENAI_AD_TOKEN", KEY)
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", "another-key-that-must-stay")
    with FaultServer(always) as server:
        ask(azure(server, tmp_path, auth="entra"), questions(1))
    seen = only(server)
    assert seen.header("authorization") == f"Bearer {KEY}"
    assert seen.header("api-key") is None


def test_azure_with_a_key_does_not_send_the_token_of_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("AZURE_OPENAI_AD_TOKEN", "a-token-that-must-stay")
    monkeypatch.setenv("MY_KEY", KEY)
    with FaultServer(always) as server:
        ask(azure(server, tmp_path, api_key_env="MY_KEY"), questions(1))
    seen = only(server)
    assert (seen.header("api-key"), seen.header("authorization")) == (KEY, None)


def test_azure_with_a_token_of_azure_identity(tmp_path, monkeypatch):
    from azure import identity

    asked = []

    def provider(credential, scope):
        asked.append(scope)
        return lambda: KEY

    monkeypatch.delenv("AZURE_OPENAI_AD_TOKEN", raising=False)
    monkeypatch.setattr(identity, "get_bearer_token_provider", provider)
    with FaultServer(always) as server:
        ask(azure(server, tmp_path, auth="entra"), questions(1))
    assert only(server).header("authorization") == f"Bearer {KEY}"
    assert asked == ["https://cognitiveservices.azure.com/.default"]


def test_openai_itself(tmp_path, monkeypatch):
    """What would go to OpenAI: the address alone is put in its place."""
    from tenbin.generate.hosted import request

    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/elsewhere")
    model = ModelConfig.model_validate({"source": "openai:gpt-4o", "hosted": QUICK})
    with FaultServer(always) as server:
        assert request.OPENAI_URL == "https://api.openai.com/v1"
        monkeypatch.setattr(request, "OPENAI_URL", server.url)
        ask(open_hosted(model, tmp_path, prices=read_prices()), questions(1))
    seen = only(server)
    assert seen.line == "POST /v1/chat/completions HTTP/1.1"
    assert seen.header("authorization") == f"Bearer {KEY}"


def test_other_servers_get_no_key_and_no_organization_unless_told(tmp_path, monkeypatch):
    for name in ("OPENAI_API_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "OPENAI_ADMIN_KEY"):
        monkeypatch.setenv(name, KEY)
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", f"Authorization: Bearer other\nX-Mine: {KEY}")
    with FaultServer(always) as server:
        ask(generator(server, tmp_path), questions(1))
    seen = only(server)
    assert KEY not in str(seen.headers)
    assert seen.header("authorization") is None

    monkeypatch.setenv("MY_KEY", KEY)
    with FaultServer(always) as server:
        ask(generator(server, tmp_path, api_key_env="MY_KEY"), questions(1))
    assert only(server).header("authorization") == f"Bearer {KEY}"


def test_extra_parameters_are_sent_as_they_are(tmp_path):
    with FaultServer(always) as server:
        ask(generator(server, tmp_path, extra_body={"seed": 7, "top_k": [1, {"a": None}]}), questions(1))
    body = json.loads(only(server).body)
    assert (body["seed"], body["top_k"]) == (7, [1, {"a": None}])


def test_the_library_never_tries_again_by_itself(tmp_path, monkeypatch):
    made = generator("http://127.0.0.1:9/v1", tmp_path)
    client = connection.Connection(made.terms.service, None)._client
    assert client.max_retries == 0


def test_the_own_machine_is_reached_past_the_proxy(tmp_path, monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    with FaultServer(always) as server:
        assert ask(generator(server, tmp_path), questions(1))[0].text == right(0)


def test_a_proxy_that_refuses_ends_the_run(tmp_path, monkeypatch):
    import socket
    import threading

    listener = socket.create_server(("127.0.0.1", 0))

    def refuse():
        connection, _ = listener.accept()
        with connection:
            connection.recv(4096)
            connection.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")

    thread = threading.Thread(target=refuse)
    thread.start()
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{listener.getsockname()[1]}")
    with listener, pytest.raises(ModelError, match="the proxy refuses the connection"):
        ask(generator("https://nowhere.invalid/v1", tmp_path), questions(3))
    thread.join()


def test_a_certificate_that_cannot_be_verified_ends_the_run(tmp_path):
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*own_certificate(tmp_path))
    with FaultServer(always, tls=context) as server:
        url = server.url.replace("http://", "https://")
        with pytest.raises(ModelError, match=f"the certificate of {url} cannot be verified") as caught:
            ask(generator(url, tmp_path / "study"), questions(3))
    assert "SSL_CERT_FILE" in str(caught.value)


def test_a_company_certificate_is_taken_from_the_environment(tmp_path, monkeypatch):
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate, key = own_certificate(tmp_path)
    context.load_cert_chain(certificate, key)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with FaultServer(always, tls=context) as server:
        url = server.url.replace("http://", "https://")
        assert ask(generator(url, tmp_path / "study"), questions(1))[0].text == right(0)


def own_certificate(folder):
    """A certificate for 127.0.0.1 that nobody knows."""
    from datetime import UTC, datetime, timedelta
    from ipaddress import ip_address

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    names = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    paths = folder / "certificate.pem", folder / "key.pem"
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return paths
