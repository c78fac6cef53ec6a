"""A REST catalogue every call of which ends in time, with tokens that are renewed before they run out."""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Lock
from typing import Any

import requests
from pydantic import BaseModel, ValidationError
from pyiceberg.catalog.rest import RestCatalog
from pyiceberg.catalog.rest.auth import AuthManager, AuthManagerAdapter
from pyiceberg.exceptions import OAuthError
from requests.adapters import HTTPAdapter

from k2common.settings.loopback import is_loopback

RENEW_BEFORE_SECONDS = 60.0
UNAUTHORIZED = 401


class TimedRestCatalog(RestCatalog):
    """pyiceberg's REST catalogue; its own sessions wait for ever."""

    def __init__(
        self, name: str, *, seconds: float, tokens: ClientCredentials | None = None, **properties: str
    ) -> None:
        self._seconds = seconds
        self._tokens = tokens
        super().__init__(name, **properties)

    def _create_session(self) -> requests.Session:
        session = super()._create_session()
        session.trust_env = not is_loopback(self.uri)
        adapter = _Timed(self._seconds, self._tokens)
        for scheme in ("http://", "https://"):
            session.mount(scheme, adapter)
        if self._tokens is not None:
            session.auth = AuthManagerAdapter(self._tokens)
        return session


class ClientCredentials(AuthManager):
    """Tokens by the client credentials grant (RFC 6749, 4.4); safe for threads.

    Raises OAuthError when the client is refused or the answer is none, requests' errors when nobody answers.
    """

    def __init__(
        self,
        credential: str,
        *,
        url: str,
        scope: str | None,
        seconds: float,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """`credential` is client:secret, `now` gives seconds."""
        client, _, secret = credential.partition(":")
        self._form = {"grant_type": "client_credentials", "client_id": client, "client_secret": secret}
        if scope is not None:
            self._form["scope"] = scope
        self._url = url
        self._seconds = seconds
        self._now = now
        self._lock = Lock()
        self._token: str | None = None
        self._renew_at = 0.0

    def auth_header(self) -> str:
        """The header of a request that is sent now."""
        with self._lock:
            if self._token is None or self._now() >= self._renew_at:
                granted = self._grant()
                self._token = granted.access_token
                self._renew_at = self._now() + granted.expires_in - RENEW_BEFORE_SECONDS
            return f"Bearer {self._token}"

    def forget(self) -> None:
        """Ask for a new token next time; a catalogue that was restarted may not know the old ones."""
        with self._lock:
            self._token = None

    def _grant(self) -> _Grant:
        with requests.Session() as session:
            session.trust_env = not is_loopback(self._url)
            answer = session.post(self._url, data=self._form, timeout=self._seconds)
        if answer.status_code in (400, UNAUTHORIZED, 403):
            raise OAuthError(f"the client {self._form['client_id']} is refused: {answer.status_code}")
        answer.raise_for_status()
        try:
            return _Grant.model_validate_json(answer.content)
        except ValidationError as error:
            raise OAuthError(f"{self._url} gives no token") from error


class _Grant(BaseModel):
    access_token: str
    expires_in: float = 3600.0


class _Timed(HTTPAdapter):
    def __init__(self, seconds: float, tokens: ClientCredentials | None) -> None:
        self._seconds = seconds
        self._tokens = tokens
        super().__init__()

    def send(self, request: requests.PreparedRequest, *args: Any, **options: Any) -> requests.Response:
        answer = super().send(request, *args, **{**options, "timeout": self._seconds})
        # pyiceberg tries once more what was refused so.
        if answer.status_code == UNAUTHORIZED and self._tokens is not None:
            self._tokens.forget()
        return answer
