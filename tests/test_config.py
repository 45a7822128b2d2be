"""study.toml: strict, every mistake by its key's path, all at once."""

import pytest
import tomli_w

from tenbin.config import parse_study, read_study, study_folder
from tenbin.errors import ConfigError

LEAST = {"name": "s", "task": "reading", "data": {"train": "t.json"}, "model": [{"source": "org/some-model"}]}


def problems(raw):
    with pytest.raises(ConfigError) as caught:
        parse_study(raw, "study.toml")
    return {p.where.removeprefix("study.toml: "): (p.found, p.remedy) for p in caught.value.problems}


def changed(**changes):
    return {**LEAST, **changes}


def test_the_least_study():
    config = parse_study(LEAST)
    assert config.training.learning_rates == [2e-4, 5e-5, 2e-5, 1e-5]
    assert config.model[0].label == "some-model"
    assert config.lora.rank == 16


def test_every_mistake_is_named_at_once():
    found = problems(
        {
            "name": "s",
            "task": "redaing",
            "data": {"train": "t.json", "colums": {}},
            "model": [{"source": "a"}, {"sorce": "b"}],
            "training": {"epochs": 0, "learning_rate": [1e-4], "max_length": "fitt"},
            "budgett": {},
        }
    )
    assert found["task"][1] == "did you mean `reading`?"
    assert found["data.colums"] == ("unknown key", "did you mean `columns`?")
    assert found["model[1].source"][0] == "is missing"
    assert found["model[1].sorce"][1] == "did you mean `source`?"
    assert found["training.learning_rate"][1] == "did you mean `learning_rates`?"
    assert "greater than or equal to 1" in found["training.epochs"][0]
    assert "'fitt'" in found["training.max_length"][0]
    assert found["budgett"][1] == "did you mean `budget`?"
    assert len(found) == 8


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("training", "learning_rates", ["2e-4"]),
        ("training", "learning_rates", [2.0]),
        ("training", "learning_rates", [1e-4, 1e-4]),
        ("training", "epochs", 1.5),
        ("training", "epochs", True),
        ("lora", "dropout", 1.0),
        ("budget", "vram_mib", 0),
        ("generation", "batch_size", "16"),
        ("evaluation", "level", 95),
        ("data", "split", {"validation": 0.6, "test": 0.4}),
        ("data", "categories", ["one"]),
    ],
)
def test_values_are_not_coerced_or_passed(section, key, value):
    base = LEAST["data"] if section == "data" else {}
    found = problems(changed(**{section: {**base, key: value}}))
    assert any(where.startswith(section) for where in found), found


@pytest.mark.parametrize(
    ("section", "key", "value", "remedy"),
    [
        ("budget", "host_mib", -1, "write 0 or more"),
        ("budget", "vram_mib", 0, "write more than 0"),
        ("budget", "host_mib", 1.5, "write a whole number"),
        ("budget", "host_mib", "much", "write a whole number"),
        ("lora", "dropout", 1.0, "write less than 1.0"),
    ],
)
def test_a_number_out_of_its_bounds_is_told_them(section, key, value, remedy):
    assert problems(changed(**{section: {key: value}}))[f"{section}.{key}"][1] == remedy


def test_two_models_of_one_name():
    found = problems(changed(model=[{"source": "a/m"}, {"source": "b/m"}]))
    assert "m is there twice" in next(iter(found.values()))[0]


def test_the_resolved_study_reads_back_as_itself(tmp_path):
    config = parse_study(changed(training={"learning_rates": [1e-4], "seeds": [1, 2]}))
    path = tmp_path / "study.toml"
    path.write_text(config.to_toml(), encoding="utf-8")
    assert read_study(path) == config


def test_set_changes_a_key_before_checking(tmp_path):
    path = tmp_path / "study.toml"
    path.write_text(tomli_w.dumps(LEAST), encoding="utf-8")
    changes = {"training.epochs": 2, "model.0.name": "x", "budget.vram_mib": 46000, "output": "out"}
    config = read_study(path, changes)
    assert config.output == "out"
    assert (config.training.epochs, config.model[0].label, config.budget.vram_mib) == (2, "x", 46000)
    with pytest.raises(ConfigError, match="did you mean `epochs`"):
        read_study(path, {"training.epoch": 2})


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"name = ", "not TOML"),
        ('name = "レビュー"'.encode("cp932"), "is not UTF-8"),
        (b"", "is missing"),
        ("\ufeffname = 1".encode(), "name"),
    ],
)
def test_files_that_are_no_study(tmp_path, content, words):
    path = tmp_path / "study.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=words):
        read_study(path)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError, match="no such file"):
        read_study(tmp_path / "study.toml")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_study(tmp_path)


def test_the_folder_of_a_study(tmp_path):
    assert study_folder(parse_study(LEAST), tmp_path / "s.toml") == tmp_path / "runs" / "s"
    assert study_folder(parse_study(changed(output="out")), tmp_path / "s.toml") == tmp_path / "out"
