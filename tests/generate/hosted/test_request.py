import pytest

from tenbin.config_hosted import HostedSection, hosted_source
from tenbin.generate.hosted.request import Service, make_request
from tenbin.types import GenerationConfig, Message

PROMPT = [Message("system", "短く"), Message("user", "首都は？ ")]
CONFIG = GenerationConfig(max_new_tokens=16, stop=("\n", "###"))


def service(source="openai:gpt-4o", **hosted):
    return Service(source=hosted_source(source), hosted=HostedSection(**hosted))


def request(source="openai:gpt-4o", repeat=0, prompt=PROMPT, config=CONFIG, **hosted):
    return make_request(service(source, **hosted), prompt, config, repeat)


def test_a_chat_request():
    assert request().body == {
        "model": "gpt-4o",
        "messages": [{"role": "system", "content": "短く"}, {"role": "user", "content": "首都は？ "}],
        "max_completion_tokens": 16,
        "temperature": 0.0,
        "stop": ["###"],
    }


def test_a_plain_request_is_the_text_that_local_base_models_get():
    made = request("http://127.0.0.1:1/v1#g", endpoint_kind="completions")
    assert made.body == {
        "model": "g",
        "prompt": "短く首都は？",
        "max_tokens": 16,
        "temperature": 0.0,
        "stop": ["###"],
    }


def test_settings_of_the_request():
    body = request(
        temperature="unset",
        limit_key="max_tokens",
        reasoning_tokens=100,
        extra_body={"seed": 3, "reasoning_effort": "low"},
        config=GenerationConfig(max_new_tokens=16),
        stream=True,
    ).body
    assert body["max_tokens"] == 116
    assert not {"temperature", "stop", "max_completion_tokens"} & body.keys()
    assert (body["seed"], body["reasoning_effort"]) == (3, "low")
    assert (body["stream"], body["stream_options"]) == (True, {"include_usage": True})
    assert request(temperature=0.7).body["temperature"] == 0.7


def test_services_take_four_stop_texts_and_all_are_cut_here():
    config = GenerationConfig(max_new_tokens=1, stop=tuple("abcdef"))
    made = request(config=config)
    assert made.body["stop"] == ["a", "b", "c", "d"]
    assert made.stop == tuple("abcdef")


def test_equal_requests_have_one_name_and_others_have_others():
    azure = {"endpoint": "https://a.example", "api_version": "1"}
    names = [
        request().key,
        request(repeat=1).key,
        request(temperature=0.5).key,
        request(reasoning_tokens=1).key,
        request(extra_body={"seed": 1}).key,
        request("openai:gpt-4o-mini").key,
        request("http://127.0.0.1:1/v1#gpt-4o").key,
        request("http://127.0.0.1:2/v1#gpt-4o").key,
        request("http://127.0.0.1:2/v1#gpt-4o", endpoint_kind="completions").key,
        request("azure:gpt-4o", **azure).key,
        request("azure:gpt-4o", **{**azure, "api_version": "2"}).key,
        request(prompt=PROMPT[1:]).key,
        request(config=GenerationConfig(max_new_tokens=18, stop=CONFIG.stop)).key,
    ]
    assert len(set(names)) == len(names)
    assert request().key == names[0]


@pytest.mark.parametrize(
    "hosted", [{"concurrency": 2}, {"timeout_s": 3.0}, {"stream": True}, {"attempts": 2}]
)
def test_how_it_is_called_does_not_change_the_name(hosted):
    assert request(**hosted).key == request().key
    assert service(**hosted).fingerprint == service().fingerprint


def test_what_is_only_cut_here_does_not_change_the_name():
    assert request(config=GenerationConfig(max_new_tokens=16, stop=("###", "\n\n"))).key == request().key


def test_the_settings_hold_no_key():
    assert "key" not in str(service(api_key_env="MY_KEY", endpoint=None).settings).replace("limit_key", "")
