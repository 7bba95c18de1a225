"""Settings are checked where they enter, and the reference file says what they are."""

from pathlib import Path

import pytest
import yaml

from autosam.config import Config, config_from_dict, dump_config, load_config, reference_yaml
from autosam.errors import ConfigError, MissingPathError

CONFIGS = Path(__file__).resolve().parents[1] / "configs"


def test_defaults_come_from_nothing():
    assert load_config() == Config()


def test_a_file_holds_only_differences(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("method: scratch\ntrain: {epochs: 3, learning_rate: 1e-4}\n")
    config = load_config(path, ["train.epochs=5", "data.source=[a, b]"])
    assert (config.method, config.train.epochs, config.train.learning_rate) == ("scratch", 5, 1e-4)
    assert config.data.source == ("a", "b")
    assert config.train.batch_size == Config().train.batch_size


def test_what_is_dumped_is_loaded_again():
    config = config_from_dict({"train": {"loss": {"bce": 1, "cldice": 0.5}}, "seed": 3})
    assert config_from_dict(yaml.safe_load(dump_config(config))) == config


def test_the_reference_file_is_current_and_resolves_to_the_defaults():
    assert (CONFIGS / "reference.yaml").read_text(encoding="utf-8") == reference_yaml()
    assert load_config(CONFIGS / "reference.yaml") == Config()


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.name)
def test_every_shipped_configuration_loads(path):
    assert isinstance(load_config(path), Config)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "train.learning_rat=1",
            "train.learning_rat is not a setting. Did you mean 'learning_rate'",
        ),
        ("trian.epochs=1", "trian is not a setting. Did you mean 'train'"),
        (
            "method=autosm",
            "method must be one of its choices, got 'autosm'. Did you mean 'autosam'",
        ),
        ("train.epochs=true", "train.epochs must be a whole number, got True"),
        ("train.epochs=2.5", "train.epochs must be a whole number, got 2.5"),
        ("train.epochs=0", "train.epochs must be 1 or more, got 0"),
        ("train.learning_rate=fast", "train.learning_rate must be a finite number, got 'fast'"),
        ("train.learning_rate=.nan", "finite number"),
        ("train.learning_rate=2", r"train.learning_rate must be in 0..1, got 2"),
        ("train.loss={bcd: 1}", "train.loss.bcd is not a loss. Did you mean 'bce'"),
        ("train.loss={bce: 0}", "have a term above 0"),
        ("train.loss=bce", "train.loss must be a mapping"),
        ("train.views=3", "train.views must be one of its choices, got 3"),
        ("train.trackers=[wandbb]", "'wandbb' is not a tracker. Did you mean 'wandb'"),
        ("prompt.side=250", "prompt.side must be a multiple of 16, at least 32, got 250"),
        ("data.test_share=1.5", "data.test_share must be in 0..1, got 1.5"),
        ("data={validation_share: 0.6, test_share: 0.6}", "must be below 1, got 1.2"),
        ("data.source=[]", "name at least one source"),
        ("data.synthetic_count=1", "at least 3"),
        ("train=5", "train must be a section"),
        ("train.epochs", "--set must be key=value, got 'train.epochs'"),
        ("=5", "--set must be key=value"),
        ("seed.a=5", "seed must be a whole number"),
        ("sam.name=5", "sam.name must be text, got 5. Put it in quotes"),
        ("train.cache=1", "train.cache must be true or false, got 1"),
        ("train.epochs=[", "must be a YAML value"),
    ],
)
def test_a_bad_setting_is_one_clear_sentence(override, message):
    with pytest.raises(ConfigError, match=message.replace("(", r"\(").replace("[", r"\[")):
        load_config(None, [override])


def test_a_missing_or_broken_file_is_named(tmp_path):
    with pytest.raises(MissingPathError, match=r"none\.yaml"):
        load_config(tmp_path / "none.yaml")
    (tmp_path / "bad.yaml").write_text("train: [1,\n")
    with pytest.raises(ConfigError, match=r"bad\.yaml must be YAML"):
        load_config(tmp_path / "bad.yaml")
    (tmp_path / "list.yaml").write_text("- 1\n")
    with pytest.raises(ConfigError, match="got a list"):
        load_config(tmp_path / "list.yaml")


def test_an_empty_file_is_the_defaults(tmp_path):
    (tmp_path / "empty.yaml").write_text("# nothing differs\n")
    assert load_config(tmp_path / "empty.yaml") == Config()
