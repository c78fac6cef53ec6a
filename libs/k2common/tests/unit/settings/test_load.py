"""A service starts with the settings that were meant, or says which one is wrong."""

import socket

import pytest
from k2common.errors import SetupError
from k2common.settings.block import Block
from k2common.settings.load import effective, load
from k2common.settings.registry import RegistrySettings
from k2common.settings.service import HttpSettings, ServiceSettings
from pydantic import SecretStr


class Example(Block):
    service: ServiceSettings
    http: HttpSettings
    registry: RegistrySettings


GOOD = {"K2_HTTP__PORT": "8001", "K2_REGISTRY__URL": "http://127.0.0.1:9", "HOME": "x", "K2_HOME": "y"}


def test_fields_are_read_and_the_rest_has_defaults() -> None:
    settings = load(Example, {**GOOD, "K2_SERVICE__REPLICA": "b"})
    assert (settings.http.port, settings.service.replica, settings.service.drain_seconds) == (8001, "b", 20)


def test_a_replica_can_have_the_name_of_its_machine() -> None:
    settings = load(Example, {**GOOD, "K2_SERVICE__REPLICA": "hostname"})
    assert settings.service.replica == socket.gethostname()[:64]


@pytest.mark.parametrize(
    ("variable", "sentence"),
    [
        ("K2_HTTP__PROT", "K2_HTTP__PROT is no setting of this service; did you mean K2_HTTP__PORT?"),
        ("K2_HTP__PORT", "K2_HTP__PORT is no setting of this service; did you mean K2_HTTP__PORT?"),
    ],
)
def test_a_misspelt_variable_is_named_with_the_nearest(variable: str, sentence: str) -> None:
    with pytest.raises(SetupError) as refused:
        load(Example, {**GOOD, variable: "1"})
    assert str(refused.value) == sentence


def test_every_missing_and_every_wild_value_is_named() -> None:
    with pytest.raises(SetupError) as refused:
        load(Example, {"K2_HTTP__PORT": "0"})
    assert "K2_HTTP__PORT: Input should be greater than or equal to 1" in str(refused.value)
    assert "K2_REGISTRY__URL: Field required" in str(refused.value)


def test_secrets_are_masked_in_the_effective_settings() -> None:
    class Keys(Block):
        secret: SecretStr
        plain: str

    class WithKeys(Block):
        keys: Keys

    settings = load(WithKeys, {"K2_KEYS__SECRET": "hush", "K2_KEYS__PLAIN": "seen"})
    assert effective(settings) == {"keys": {"secret": "**********", "plain": "seen"}}


def test_blocks_of_other_services_are_passed_over_and_maps_are_json() -> None:
    class Lake(Block):
        properties: dict[str, str]

    class WithLake(Block):
        iceberg: Lake

    settings = load(WithLake, {"K2_ICEBERG__PROPERTIES": '{"s3.region": "x"}', "K2_KAFKA__ANY": "1"})
    assert settings.iceberg.properties == {"s3.region": "x"}
    with pytest.raises(SetupError, match="K2_ICEBERG__PROPERTIES: not JSON"):
        load(WithLake, {"K2_ICEBERG__PROPERTIES": "{"})
