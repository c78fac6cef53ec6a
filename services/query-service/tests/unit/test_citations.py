"""A signature is checked whatever characters somebody put into it."""

import pytest
from query_service.citations.citations import is_genuine


@pytest.mark.parametrize("signature", ["", "é", "\ud987", "a" * 64])
def test_what_others_signed_is_not_genuine(signature: str) -> None:
    assert not is_genuine({"endpoint": "trades", "signature": signature}, b"key")
