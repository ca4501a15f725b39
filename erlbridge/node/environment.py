"""Which of the node's environment variables workers get. Knows names; reads nothing.

A job may name any variable as that of its key, so what is taken away is listed, not what stays.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

_REDIRECTING: Final = re.compile(r".+_(API_BASE|BASE_URL)\Z", re.IGNORECASE)
"""Variables such as OPENAI_BASE_URL, which would silently send model calls, and keys with them, elsewhere than the
request says. Those of proxies stay: they name the way out of the operator's network, not who is called."""

_OTHERS: Final = re.compile(
    r"RELEASE_.*|ERL_.*|ELIXIR_ERL_OPTIONS|SECRET_KEY_BASE|PG[A-Z]+|(.+_)?DATABASE_URL|(.+_)?(PASSWORD|PASSWD|DSN)"
    r"|(.+_)?(REDIS|AMQP|MONGO[A-Z]*|POSTGRES[A-Z]*|MYSQL)_UR[IL]|SSH_.*|GPG_.*|DBUS_.*|XDG_RUNTIME_DIR|KUBECONFIG"
    r"|ERLBRIDGE_STORE_.*|FSSPEC_.*|DOCKER_.*|CONTAINER_HOST|VAULT_.*|GIT_.*|TWINE_.*|NPM_TOKEN|HEX_.*|(CI|GITHUB|GITLAB)_.*TOKEN",
    re.IGNORECASE,
)
"""Secrets of the application around the node, among them the cookie that opens a running BEAM, and the doors to other
services of its user. No model is called with one."""


def worker_environment(environment: Mapping[str, str], *, confined: bool) -> dict[str, str]:
    """The variables of the node's that its workers get.

    >>> worker_environment({"OPENAI_API_KEY": "k", "RELEASE_COOKIE": "c", "X_BASE_URL": "u"}, confined=True)
    {'OPENAI_API_KEY': 'k'}
    """
    return {
        name: value
        for name, value in environment.items()
        if not _REDIRECTING.match(name) and not (confined and _OTHERS.fullmatch(name))
    }
