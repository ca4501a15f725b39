"""What the doctor finds around a node: Elixir and OTP, the endpoints of models, and whether the clock is right."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import erlbridge
from erlbridge.tools.finding import FAILED, OK, WARNING, Finding

_ELIXIR_S: Final = 20.0
"""For `elixir --version`, which takes half a second."""
_ENDPOINT_S: Final = 5.0
_LEAST_ELIXIR: Final = (1, 14)
_LEAST_OTP: Final = 25
_OTP: Final = re.compile(r"Erlang/OTP (\d+)")
_ELIXIR: Final = re.compile(r"Elixir (\d+)\.(\d+)(\S*)")
_SKEW_S: Final = 60.0
"""More than that, and endpoints refuse signatures, and nodes of one store disagree about who is late."""


def beam() -> Iterator[Finding]:
    """Elixir and OTP, as far as this process's PATH has them."""
    path = shutil.which("elixir")
    said = "" if path is None else _version(path)
    elixir, otp = _ELIXIR.search(said), _OTP.search(said)
    where = "the node does without; the application that opens it needs it"
    if elixir is None:
        found = "not found on PATH" if path is None else f"{path} does not say its version"
        yield Finding("elixir", WARNING, found, f"{where}: install it, or ask where that runs")
    else:
        known = (int(elixir[1]), int(elixir[2]))
        state = OK if known >= _LEAST_ELIXIR else WARNING
        advice = "" if state == OK else f"use Elixir {'.'.join(map(str, _LEAST_ELIXIR))} or newer"
        yield Finding("elixir", state, f"{elixir[1]}.{elixir[2]}{elixir[3]}, {path}", advice)
    if otp is not None:
        state = OK if int(otp[1]) >= _LEAST_OTP else WARNING
        yield Finding("otp", state, otp[1], "" if state == OK else f"use OTP {_LEAST_OTP} or newer")
    elif (erl := shutil.which("erl")) is not None:
        yield Finding("otp", OK, erl)
    else:
        yield Finding("otp", WARNING, "not found on PATH", f"{where}: it comes with Elixir")


def _version(path: str) -> str:
    try:
        ran = subprocess.run(  # noqa: S603 - what PATH calls elixir
            [path, "--version"],
            capture_output=True,
            text=True,
            errors="replace",
            stdin=subprocess.DEVNULL,
            timeout=_ELIXIR_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return ran.stdout


class Endpoints:
    """The endpoints that somebody names, each asked once; `skews_s` is how far this clock is ahead of theirs."""

    def __init__(self, models: Sequence[str], key_variable: str | None) -> None:
        self.skews_s: list[float] = []
        self._models = models
        self._key_variable = key_variable

    def findings(self) -> Iterator[Finding]:
        """Whether each is there and takes the key that is set; no model is asked, so it costs nothing."""
        for model in self._models:
            yield self._asked(model)

    def _asked(self, model: str) -> Finding:
        from erlbridge.programs.reachable import PROVIDERS  # noqa: PLC0415 - an HTTP client, for those who name one

        name = f"lm.{_shown(model)}"
        if model == "offline" or model.startswith("offline:"):
            return Finding(name, OK, "needs no network and no key")
        variable, bearer = self._key_variable, True
        if model.startswith(("http://", "https://")):
            address = model
        else:
            provider = PROVIDERS.get(model.partition("/")[0])
            if provider is None:
                return Finding(
                    name, WARNING, "nobody knows its address here", "give it instead: --lm https://…, as its api_base"
                )
            address, bearer = provider.address, provider.bearer
            variable = variable or provider.key_variable
        key = os.environ.get(variable, "").strip() if variable else ""
        if variable and not key:
            return _with(self._ask(name, address, ""), f"{variable} is not set", "set it where the node is started")
        return self._ask(name, address, key if bearer else "", of=variable)

    def _ask(self, name: str, address: str, key: str, of: str | None = None) -> Finding:
        from erlbridge.programs.reachable import ask_for_models  # noqa: PLC0415 - the same

        try:
            heard = ask_for_models(address, key or None, _ENDPOINT_S)
        except OSError as error:
            return Finding(
                name,
                FAILED,
                f"{_shown(address)} is not reached: {error}",
                "see to the address, DNS, the firewall, and HTTPS_PROXY",
            )
        if heard.date is not None:
            self.skews_s.append(time.time() - heard.date)
        found = f"{_shown(address)} answers within {heard.took_s * 1000:.0f} ms"
        if heard.status in (401, 403) and key:
            return Finding(name, FAILED, f"{found}, and refuses the key", f"see to {of}")
        if heard.status == 429 or heard.status >= 500:
            return Finding(name, WARNING, f"{found}, with HTTP {heard.status}", "it is busy or broken; ask again later")
        taken = ", and takes the key" if key and heard.status == 200 else ""
        return Finding(name, OK, f"{found}{taken}")


def clock(data: Path, skews_s: Sequence[float]) -> Finding:
    """Whether this machine's clock is right, as far as that shows: by endpoints, and by files that cannot be newer."""
    now = time.time()
    found = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now))
    keep = "have it kept by NTP (chrony, systemd-timesyncd)"
    worst = max(skews_s, key=abs, default=0.0)
    if abs(worst) > _SKEW_S:
        how = "ahead of" if worst > 0 else "behind"
        return Finding("clock", WARNING, f"{found}, {abs(worst):.0f} s {how} an endpoint's", keep)
    newest = max(map(_changed_at, (Path(erlbridge.__file__), data, *data.glob("*"))))
    if newest > now + _SKEW_S:
        return Finding("clock", WARNING, f"{found}, {newest - now:.0f} s behind the newest file", keep)
    agreed = f", {abs(worst):.0f} s from an endpoint's" if skews_s else ""
    return Finding("clock", OK, found + agreed)


def _changed_at(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _with(finding: Finding, more: str, advice: str) -> Finding:
    """The same with one more thing to warn of."""
    if finding.state == FAILED:
        return finding
    return Finding(finding.name, WARNING, f"{finding.found}, but {more}", advice)


def _shown(address: str) -> str:
    """An address without what may be a secret: user, password, query."""
    scheme, found, rest = address.partition("://")
    return f"{scheme}://{re.split('[?#]', rest)[0].rpartition('@')[2]}" if found else address
