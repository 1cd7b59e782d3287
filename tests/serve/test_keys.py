"""Keys: hashed, scoped, budgeted; and settings that would leave a server open are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="needs the extra `serve`")

from tiny_server import TEXTS, Served, run
from typer.testing import CliRunner

from adaptive.bundle.contents import Bundle
from adaptive.cli import app
from adaptive.errors import ConfigError
from adaptive.serve.keys import CREDIT, MOST, Account, Bucket, hash_of, new_key
from adaptive.serve.settings import load_settings

KEY, LITTLE, OPERATOR = "ak_one", "ak_two", "ak_three"


def key(name: str, secret: str, *scopes: str, **budget: Any) -> dict[str, Any]:
    return {"name": name, "sha256": hash_of(secret), "scopes": scopes, **budget}


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


def test_a_key_that_sends_only_dear_texts_costs_five_percent_more_than_the_full_tier() -> None:
    account, spent, full = Account(), 0.0, 0.0
    for _ in range(5000):  # dear texts cost 1.2 where the full tier costs 1
        cost = 1.0 if account.spent else 1.2
        spent, full = spent + cost, full + 1.0
        account.note(cost, 1.0, longest=1.0)
        assert spent <= MOST * full + CREDIT + 1.2
    assert spent / full == pytest.approx(MOST, abs=0.01)
    for _ in range(1000):  # cheap ones make up for it, and lay by no more than the credit
        account.note(0.05, 1.0, longest=1.0)
    dear = 0
    while not account.spent:
        account.note(1.2, 1.0, longest=1.0)
        dear += 1
    assert dear == pytest.approx(CREDIT / 0.15, abs=1)


def test_an_account_that_is_spent_is_answered_by_the_full_tier_alone(tiny_cascade: Bundle) -> None:
    async def work(server: Served) -> None:
        body = {"inputs": TEXTS}
        first = (await server.post("/", body)).json()
        assert {each[0]["routing"]["tier"] for each in first} != {"full"}
        account = server.app.state.keyring.caller(None, "predict").account
        account.note(1e9, 1.0, 1.0)
        asked = (await server.post("/", body)).json()
        assert {each[0]["routing"]["tier"] for each in asked} == {"full"}

    run(tiny_cascade, work)


KEYS = (
    key("app", KEY, "predict", "routing"),
    key("guest", LITTLE, "predict", requests_a_minute=3),
    key("operator", OPERATOR, "admin", "metrics"),
)


def test_a_key_may_do_what_its_scopes_say(tiny_cascade: Bundle) -> None:
    async def work(server: Served) -> None:
        body = {"inputs": TEXTS}
        assert (await server.post("/", body)).status_code == 401
        wrong = await server.post("/", body, headers=bearer("ak_wrong"))
        assert wrong.status_code == 401 and wrong.headers["www-authenticate"] == "Bearer"
        assert (await server.post("/", body, headers=bearer(OPERATOR))).status_code == 403
        shown = await server.post("/", body, headers={"X-API-Key": KEY})
        assert "routing" in shown.json()[0][0]
        for path, given in (
            ("/", body),
            ("/v1/classify", {"input": TEXTS}),
        ):
            hidden = await server.post(path, given, headers=bearer(LITTLE))
            assert hidden.status_code == 200 and "routing" not in hidden.text
        streamed = await server.client.post(
            "/v1/stream", content=b'"word1"', headers=bearer(LITTLE)
        )
        assert "routing" not in streamed.text and "label" in streamed.text
        spent = await server.post("/", body, headers=bearer(LITTLE))
        assert spent.status_code == 429 and int(spent.headers["retry-after"]) <= 20
        for path, may in (("/metrics", OPERATOR), ("/stats", OPERATOR)):
            assert (await server.client.get(path)).status_code == 401
            assert (await server.client.get(path, headers=bearer(KEY))).status_code == 403
            assert (await server.client.get(path, headers=bearer(may))).status_code == 200
        assert (await server.client.post("/admin/reload", headers=bearer(KEY))).status_code == 403
        for path in ("/health/live", "/health/ready", "/health/startup", "/openapi.json", "/"):
            assert (await server.client.get(path)).status_code == 200

    run(tiny_cascade, work, keys=KEYS)


def test_a_key_never_spends_more_than_its_cost(tiny_cascade: Bundle) -> None:
    async def work(server: Served) -> None:
        server.service.deployment.ms = 1.0
        statuses, cost = [], 0.0
        for _ in range(30):
            got = await server.post("/v1/classify", {"input": TEXTS}, headers=bearer(KEY))
            statuses.append(got.status_code)
            if got.status_code == 200:
                cost += sum(each["routing"]["cost"] for each in got.json()["data"])
        assert {200, 429} == set(statuses)
        assert cost < 2000.0  # the budget, and what refills it meanwhile

    keys = (key("app", KEY, "predict", "routing", cost_a_minute=1500),)
    run(tiny_cascade, work, keys=keys)


def test_without_keys_nobody_administers(tiny_cascade: Bundle) -> None:
    async def work(server: Served) -> None:
        got = await server.client.post("/admin/reload")
        assert got.status_code == 403 and "no keys" in got.json()["error"]

    run(tiny_cascade, work)


def test_a_bucket_refills_evenly_and_owes_what_was_more_than_it_holds() -> None:
    now = [0.0]
    bucket = Bucket(60.0, lambda: now[0])
    assert bucket.take(60.0) is None
    assert bucket.take(10.0) == pytest.approx(10.0)
    now[0] = 10.0
    assert bucket.take(10.0) is None
    now[0] = 70.0
    assert bucket.take(90.0) is None  # from a full one
    now[0] = 90.0
    assert bucket.take(1.0) == pytest.approx(11.0)
    bucket.give_back(90.0)
    assert bucket.take(60.0) is None


def test_only_the_hash_of_a_new_key_is_for_the_settings() -> None:
    one, digest = new_key()
    assert hash_of(one) == digest and len(one) > 43 and one not in digest
    assert new_key()[0] != one
    result = CliRunner().invoke(app, ["serve", "--new-key", "web"])
    assert result.exit_code == 0, result.output
    shown = result.stdout.split()[0]
    assert f"sha256: {hash_of(shown)}" in result.stdout


def test_settings_are_read_with_every_fault_and_paths_beside_the_file(tmp_path: Path) -> None:
    file = tmp_path / "serve.yaml"
    file.write_text("port: 1\ntls: {certificate: c.pem, key: k.pem}\nlimits: {items: 5}\n")
    found = load_settings(file, {"port": 0})
    assert (found.port, found.limits.items, found.host) == (0, 5, "127.0.0.1")
    assert found.tls is not None and found.tls.certificate == str(tmp_path / "c.pem")
    file.write_text("ports: 1\nlimits: {items: 0}\nkeys: [{name: a, sha256: secret}]\n")
    with pytest.raises(ConfigError, match="3 faults") as caught:
        load_settings(file)
    assert "did you mean 'port'" in str(caught.value)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example"])
def test_a_server_that_others_reach_needs_keys(host: str) -> None:
    with pytest.raises(ConfigError, match="there are no keys"):
        load_settings(None, {"host": host})
    assert load_settings(None, {"host": host, "insecure": True}).host == host
    keys = [key("a", KEY, "predict")]
    assert load_settings(None, {"host": host, "keys": keys}).keys[0].name == "a"
