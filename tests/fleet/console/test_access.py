"""Every route as every role; forms from elsewhere; sessions; one-time links; brute force."""

from __future__ import annotations

import re
import stat
from pathlib import Path

import pytest

from agent.fleet.console import passwords
from agent.fleet.console.access import BODY_LIMIT_BYTES, Serving, local_path
from agent.fleet.console.accounts import IDLE_S, LINK_S, SESSION_S, Role
from agent.fleet.console.app import ROUTES, app
from agent.fleet.console.passwords import AccessError, Attempts
from tests.fleet.console.conftest import PASSWORD
from tests.support.web import HOST, Visitor

ROLES = (None, Role.VIEWER, Role.OPERATOR)


@pytest.fixture
def console(made):
    """Return a visitor of a console that is served like this."""
    return lambda **serving: Visitor(app=app(made(Serving(**serving))))


def url(path: str) -> str:
    return re.sub(r"\{\w+\}", "x", path)


@pytest.mark.parametrize("role", ROLES, ids=str)
@pytest.mark.parametrize("route", ROUTES, ids=lambda one: f"{one.method} {one.path}")
def test_every_route_answers_each_role_as_its_table_demands(route, role, signed_in):
    visitor = signed_in(role)
    visitor.leaves = True  # a live page continues for a minute
    ask = visitor.get if route.method == "GET" else visitor.post
    answer = ask(url(route.path))
    allowed = route.role is None or (role is not None and role.includes(route.role))
    if allowed:
        assert answer.status not in {401, 500}
        assert "this is for an operator" not in answer.text
    elif role is not None:
        assert (answer.status, "this is for an operator" in answer.text) == (403, True)
    elif route.method == "GET":
        assert answer.status == 303
        assert answer.headers["location"].startswith("/sign-in?next=%2F")
    else:
        assert answer.status == 401


@pytest.mark.parametrize(
    "route", [one for one in ROUTES if one.method == "POST"], ids=lambda one: one.path
)
@pytest.mark.parametrize(
    "headers",
    [
        {"sec_fetch_site": "cross-site", "origin": "https://evil.example"},
        {"sec_fetch_site": "same-site", "origin": f"http://{HOST}"},
        {"sec_fetch_site": "", "origin": "https://evil.example"},
        {"sec_fetch_site": "", "origin": "null"},
        {"sec_fetch_site": "", "origin": ""},
        {"sec_fetch_site": "", "origin": "null", "host": ""},
    ],
)  # fmt: skip
def test_no_form_from_elsewhere_is_taken(accounts, route, headers, signed_in):
    visitor = signed_in(Role.OPERATOR)
    before = accounts.audit()
    answer = visitor.post(url(route.path), {"name": "eve", "role": "operator"}, **headers)
    assert answer.status == 403
    assert "Not sent from this console" in answer.text
    assert accounts.audit() == before
    assert [one.name for one in accounts.users()] == ["kim"]


def test_routes_that_change_something_are_only_reached_by_post(signed_in):
    for route in ROUTES:
        if route.method == "POST" and not any(
            one.path == route.path and one.method == "GET" for one in ROUTES
        ):
            assert signed_in(Role.OPERATOR).get(url(route.path)).status == 405


def test_every_answer_forbids_scripts_of_others_frames_and_caches(console, signed_in):
    visitor = signed_in(Role.OPERATOR)
    for path in ("/sign-in", "/people", "/nowhere", "/static/nothing.js"):
        headers = visitor.get(path).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"
        assert "strict-transport-security" not in headers
    secure = console(secure=True).get("/sign-in").headers
    assert "max-age" in secure["strict-transport-security"]


def test_pages_have_nothing_inline_and_assets_may_be_kept(signed_in):
    visitor = signed_in(Role.OPERATOR)
    page = visitor.get("/people").text
    assert not re.search(r"<style|style=|<script>|\son\w+=|javascript:", page)
    for found in re.findall(r'(?:href|src)="(/static/[^"]+)"', page):
        answer = visitor.get(found)
        assert answer.status == 200
        assert "immutable" in answer.headers["cache-control"]


def test_the_first_link_makes_the_operator_and_works_once(accounts, tmp_path, console):
    visitor = console()
    token = accounts.first_link()
    assert "operator" in visitor.get(f"/link/{token}").text
    answer = visitor.post(f"/link/{token}", {"password": PASSWORD, "again": "another"})
    assert (answer.status, visitor.cookies) == (400, {})
    assert visitor.post(f"/link/{token}", {"password": "short", "again": "short"}).status == 400
    done = visitor.post(f"/link/{token}", {"password": PASSWORD, "again": PASSWORD})
    assert (done.status, done.headers["location"]) == (303, "/")
    assert visitor.get("/people").status == 200
    assert accounts.first_link() is None
    again = {"password": "somebody else's", "again": "somebody else's"}
    assert console().post(f"/link/{token}", again).status == 404
    assert console().get(f"/link/{token}").status == 404
    assert stat.S_IMODE((tmp_path / "console.db").stat().st_mode) == 0o600


def test_a_link_ends_with_its_time_and_with_the_next_one(accounts, clock):
    old = accounts.link("kim", Role.OPERATOR)
    new = accounts.link("kim", Role.OPERATOR)
    assert (accounts.link_name(old), accounts.link_name(new)) == (None, "kim")
    clock.now += LINK_S + 1
    assert accounts.link_name(new) is None
    with pytest.raises(AccessError, match="too old"):
        accounts.use_link(new, PASSWORD)


def test_the_database_has_no_secret_that_opens_a_session(accounts, tmp_path):
    token = accounts.link("kim", Role.OPERATOR)
    _, session = accounts.use_link(token, PASSWORD)
    other = accounts.link("lee", Role.VIEWER)
    stored = b"".join(file.read_bytes() for file in Path(tmp_path).iterdir())
    assert b"kim" in stored
    for secret in (token, session, other, PASSWORD):
        assert secret.encode() not in stored


def test_signing_in_begins_a_new_session_and_ends_the_one_that_was_brought(accounts, console):
    accounts.use_link(accounts.link("kim", Role.VIEWER), PASSWORD)
    visitor = console()
    visitor.cookies["quantd"] = "planted"
    answer = visitor.post("/sign-in?next=/people%3Fa=1", {"name": "kim", "password": PASSWORD})
    assert (answer.status, answer.headers["location"]) == (303, "/people?a=1")
    first = visitor.cookies["quantd"]
    assert first != "planted"
    assert accounts.user_of("planted") is None
    assert re.search(r"HttpOnly", visitor.set_cookie)
    assert re.search(r"samesite=strict", visitor.set_cookie, re.IGNORECASE)
    visitor.post("/sign-in", {"name": "kim", "password": PASSWORD})
    assert visitor.cookies["quantd"] != first
    assert accounts.user_of(first) is None
    last = visitor.cookies["quantd"]
    assert visitor.post("/sign-out").status == 303
    assert "quantd" not in visitor.cookies
    assert accounts.user_of(last) is None


def test_over_https_the_cookie_belongs_to_this_host_alone(accounts, console):
    accounts.use_link(accounts.link("kim", Role.VIEWER), PASSWORD)
    visitor = console(secure=True)
    visitor.post("/sign-in", {"name": "kim", "password": PASSWORD}, origin=f"https://{HOST}")
    assert visitor.set_cookie.startswith("__Host-quantd=")
    assert "Secure" in visitor.set_cookie
    assert "Path=/;" in visitor.set_cookie
    assert "domain" not in visitor.set_cookie.lower()


def test_a_session_ends_idle_and_after_half_a_day(accounts, clock):
    _, session = accounts.use_link(accounts.link("kim", Role.VIEWER), PASSWORD)
    for _ in range(SESSION_S // (IDLE_S - 60)):
        clock.now += IDLE_S - 60
        assert accounts.user_of(session)
    clock.now += IDLE_S - 60
    assert accounts.user_of(session) is None
    other = accounts.sign_in("kim", PASSWORD)
    clock.now += IDLE_S + 1
    assert accounts.user_of(other) is None


def test_a_new_password_or_role_or_removal_counts_at_once(accounts, signed_in):
    operator = signed_in(Role.OPERATOR)
    viewer = signed_in(Role.VIEWER, "lee")
    assert operator.post("/people", {"name": "lee", "role": "operator"}).status == 200
    assert viewer.get("/people").status == 200
    token = re.search(r'data-link="/link/([^"]+)"', operator.post("/people", {"name": "lee", "role": "viewer"}).text)[1]  # fmt: skip
    assert viewer.get("/people").status == 403
    accounts.use_link(token, "another passphrase")
    assert viewer.get("/people").status == 303
    with pytest.raises(AccessError):
        accounts.sign_in("lee", PASSWORD)
    session = accounts.sign_in("lee", "another passphrase")
    assert operator.post("/people/lee/remove").status == 303
    assert accounts.user_of(session) is None
    with pytest.raises(AccessError):
        accounts.sign_in("lee", "another passphrase")


def test_the_only_operator_stays(signed_in):
    operator = signed_in(Role.OPERATOR)
    signed_in(Role.VIEWER, "lee")
    assert "only operator" in operator.post("/people/kim/remove").text
    assert "only operator" in operator.post("/people", {"name": "kim", "role": "viewer"}).text
    assert operator.get("/people").status == 200


@pytest.mark.parametrize("name", ["", "a b", "<script>", "x" * 65, "-x", "é"])
def test_odd_names_are_refused(name, signed_in):
    operator = signed_in(Role.OPERATOR)
    answer = operator.post("/people", {"name": name, "role": "viewer"})
    assert answer.status == 400
    assert "<script>" not in answer.text.replace("<script src", "")


def test_what_changes_people_is_in_the_audit_log(accounts, console, signed_in):
    operator = signed_in(Role.OPERATOR)
    operator.post("/people", {"name": "lee", "role": "viewer"})
    operator.post("/people/lee/remove")
    console().post("/sign-in", {"name": "<b>eve", "password": "x"})
    actions = [(one.user, one.action, one.subject) for one in accounts.audit()]
    assert actions == [
        ("<b>eve", "sign-in refused", ""),
        ("kim", "removed a user", "lee"),
        ("kim", "made a sign-in link", "lee"),
    ]
    page = operator.get("/audit").text
    assert "&lt;b&gt;eve" in page
    assert "192.0.2.7" in page


# Brute force --------------------------------------------------------------------------------


def test_attempts_wait_longer_each_time_known_or_not():
    attempts, now_s, waits = Attempts(), 0.0, []
    for _ in range(12):
        attempts.begin("kim", now_s)
        step = 0
        while True:
            try:
                attempts._failed["kim"]
                if attempts._failed["kim"][1] <= now_s + step:
                    break
            finally:
                step += 1
        waits.append(attempts._failed["kim"][1] - now_s)
        now_s = attempts._failed["kim"][1]
    assert waits == [0, 0, 1, 2, 4, 8, 16, 32, 60, 60, 60, 60]


@pytest.mark.parametrize("name", ["kim", "unknown"])
def test_many_wrong_passwords_are_refused_unread(accounts, name, monkeypatch, console):
    accounts.use_link(accounts.link("kim", Role.VIEWER), PASSWORD)
    hashed: list[str] = []
    known = passwords._scrypt
    monkeypatch.setattr(
        passwords, "_scrypt", lambda text, *rest: hashed.append(text) or known(text, *rest)
    )
    visitor = console()
    statuses = [
        visitor.post("/sign-in", {"name": name, "password": f"guess {n}"}).status for n in range(20)
    ]
    assert statuses[:3] == [403, 403, 403]
    assert statuses.count(429) >= 15
    assert len(hashed) == statuses.count(403)
    assert "wait" in visitor.post("/sign-in", {"name": name, "password": PASSWORD}).text


def test_names_that_failed_are_remembered_within_bounds():
    attempts = Attempts()
    for n in range(10_500):
        attempts.begin(str(n), 0.0)
    assert len(attempts._failed) == 10_000


def test_the_hash_is_scrypt_of_32_mb_with_a_salt_and_passwords_have_a_length(monkeypatch):
    monkeypatch.undo()
    stored = passwords.password_hash(PASSWORD)
    assert stored.startswith("scrypt$15$8$1$")
    assert stored != passwords.password_hash(PASSWORD)
    assert passwords.matches(PASSWORD, stored)
    assert not passwords.matches(PASSWORD + ".", stored)
    assert not passwords.matches("", None)
    for wrong in ("x" * 11, "x" * 257):
        with pytest.raises(AccessError, match="12 to 256"):
            passwords.check_new(wrong)


# A proxy that authenticates -----------------------------------------------------------------


def test_the_proxys_user_counts_only_from_the_proxy(accounts, console):
    accounts.use_link(accounts.link("kim", Role.OPERATOR), PASSWORD)
    proxied = {"secure": True, "user_header": "x-user", "proxies": ("10.0.0.1",)}
    visitor = console(**proxied)
    assert visitor.get("/people", x_user="kim").status == 401
    visitor.peer = "10.0.0.1"
    assert visitor.get("/people", x_user="kim").status == 200
    assert visitor.get("/people", x_user="new").status == 403
    assert "The proxy named no user" in visitor.get("/people").text
    assert console().get("/people", x_user="kim").status == 303
    visitor.post(
        "/sign-in", {"name": "eve"}, origin=f"https://{HOST}", x_forwarded_for="6.6.6.6, 9.9.9.9"
    )
    assert accounts.audit()[0].address == "9.9.9.9"


# Sizes and odd input ------------------------------------------------------------------------


def test_large_and_odd_requests_are_refused(console):
    visitor = console()
    assert visitor.post("/sign-in", {"name": "x" * BODY_LIMIT_BYTES}).status == 413
    assert visitor.post("/sign-in", {str(n): "" for n in range(200)}).status == 400
    assert visitor.get("/sign-in?" + "a=1&" * 200).status == 400
    assert visitor.get("/%00/..%2f..%2fetc/passwd").status == 404
    assert visitor.get("/static/..%2fapp.py").status == 404


@pytest.mark.parametrize(
    "target",
    ["https://evil.example", "//evil.example", "/\\evil.example", "javascript:1", "", "/a\nb"],
)
def test_signing_in_leads_nowhere_else(target):
    assert local_path(target) == "/"


def test_signing_in_leads_back():
    assert local_path("/devices/x?page=2") == "/devices/x?page=2"
