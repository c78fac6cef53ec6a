"""What the settings of catalogue and store become for the libraries that use them."""

import logging

import pytest
from k2common.errors import SetupError, TransientError
from k2common.iceberg.catalogs.catalog import open_catalog, store_properties
from k2common.settings.block import Block
from k2common.settings.iceberg import IcebergSettings
from k2common.settings.load import effective, load

BASE = {"K2_ICEBERG__CATALOG_URI": "sqlite:///x.db", "K2_ICEBERG__WAREHOUSE": "file:///w"}
KEY = {"K2_ICEBERG__S3_ACCESS_KEY_ID": "id", "K2_ICEBERG__S3_SECRET_ACCESS_KEY": "hidden-secret"}


class Settings(Block):
    iceberg: IcebergSettings


def iceberg(**more: str) -> IcebergSettings:
    return load(Settings, {**BASE, **more}).iceberg


def test_a_folder_needs_no_store() -> None:
    assert not iceberg().on_s3
    assert store_properties(iceberg()) == {}


@pytest.mark.parametrize(
    "more",
    [
        {"K2_ICEBERG__WAREHOUSE": "s3://tables"},
        {"K2_ICEBERG__ARCHIVE": "s3://bytes"},
        {"K2_ICEBERG__S3_ENDPOINT": "http://127.0.0.1:9000"},
        KEY,
    ],
)
def test_any_word_about_a_store_means_one(more: dict[str, str]) -> None:
    assert iceberg(**more).on_s3
    assert store_properties(iceberg(**more))["s3.region"] == "us-east-1"


def test_a_key_without_its_secret_is_refused() -> None:
    with pytest.raises(SetupError, match="together"):
        iceberg(K2_ICEBERG__S3_ACCESS_KEY_ID="id")


def test_secrets_are_masked_in_the_log() -> None:
    more = {
        "K2_ICEBERG__CATALOG_PASSWORD": "hidden-password",
        "K2_ICEBERG__CATALOG_CREDENTIAL": "me:hidden-credential",
        "K2_ICEBERG__PROPERTIES": '{"token": "hidden-token"}',
    }
    assert "hidden" not in str(effective(load(Settings, {**BASE, **KEY, **more})))


def test_postgresql_away_is_an_outage_and_tells_no_password(caplog: pytest.LogCaptureFixture) -> None:
    settings = iceberg(
        K2_ICEBERG__CATALOG_URI="postgresql+psycopg://k2@127.0.0.1:9/k2",
        K2_ICEBERG__CATALOG_PASSWORD="hidden-password",  # noqa: S106
        K2_ICEBERG__CATALOG_TIMEOUT_SECONDS="2",
    )
    with caplog.at_level(logging.DEBUG), pytest.raises(TransientError) as caught:
        open_catalog(settings)
    assert "hidden" not in str(caught.value) + caplog.text
