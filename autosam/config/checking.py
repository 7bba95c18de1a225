"""The sentence that refuses a setting."""

from autosam.errors import ConfigError


def check(rule: bool, setting: str, must: str, value: object, remedy: str) -> None:
    """Refuse a value that breaks a rule.

    Args:
        rule: Whether it holds.
        setting: The setting's full name.
        must: What is allowed, after the word "must".
        value: What came.
        remedy: The next step, a sentence.

    Raises:
        ConfigError: It does not hold.
    """
    if not rule:
        raise ConfigError(f"{setting} must {must}, got {value!r}. {remedy}")
