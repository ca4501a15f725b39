"""Which of the node's variables its workers get."""

from __future__ import annotations

import pytest

from erlbridge.node.environment import worker_environment

FOR_MODELS = (
    "OPENAI_API_KEY", "HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "AWS_SHARED_CREDENTIALS_FILE", "MY_ENDPOINT", "PATH", "HOME",
    "LC_ALL", "HTTPS_PROXY", "SSL_CERT_FILE", "PYTHONPATH", "ERLBRIDGE_CODEC", "AZURE_API_VERSION",
)  # fmt: skip
REDIRECTING = ("OPENAI_BASE_URL", "OPENAI_API_BASE", "anthropic_base_url")
OTHERS = (
    "RELEASE_COOKIE", "ERL_FLAGS", "SECRET_KEY_BASE", "DATABASE_URL", "MY_DATABASE_URL", "PGPASSWORD", "SMTP_PASSWORD",
    "SENTRY_DSN", "REDIS_URL", "SSH_AUTH_SOCK", "DBUS_SESSION_BUS_ADDRESS", "XDG_RUNTIME_DIR", "KUBECONFIG",
    "DOCKER_HOST", "VAULT_TOKEN", "HEX_API_KEY",
)  # fmt: skip


@pytest.mark.parametrize("name", FOR_MODELS)
def test_workers_get_what_models_are_called_with(name: str) -> None:
    assert worker_environment({name: "x"}, confined=True) == {name: "x"}


@pytest.mark.parametrize("name", REDIRECTING)
@pytest.mark.parametrize("confined", [True, False])
def test_what_sends_calls_elsewhere_is_never_given(name: str, confined: bool) -> None:
    assert worker_environment({name: "x"}, confined=confined) == {}


@pytest.mark.parametrize("name", OTHERS)
def test_secrets_of_other_services_are_kept_from_confined_workers(name: str) -> None:
    assert worker_environment({name: "x"}, confined=True) == {}
    assert worker_environment({name: "x"}, confined=False) == {name: "x"}
