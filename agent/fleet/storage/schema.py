"""The tables, written once for both databases.

Types are those that SQLite and PostgreSQL share, but for BYTES and CODE, a text sorted by its bytes.
A step is never changed once it was released: what a later version needs is a step of its own.
"""

from __future__ import annotations

from typing import NamedTuple

from agent.core.fleet.messages import FIGURES

STREAMS = {"event": 0, "report": 1, "result": 2}
"""The streams of which each message counts, as `stream.kind`."""


class Days(NamedTuple):
    """How a table is partitioned: days of a partition, and how many days late a message may be."""

    span: int
    late: int


DAYS = {"telemetry": Days(1, 3), "event": Days(7, 31), "result": Days(7, 31)}
_FIGURES = "".join(f", {name} DOUBLE PRECISION" for name in FIGURES)
_FIRST = f"""
CREATE TABLE device (
    id KEY, name CODE NOT NULL UNIQUE, first_ms BIGINT NOT NULL,
    rolled_hour INTEGER NOT NULL DEFAULT 0, seen_ms BIGINT NOT NULL DEFAULT 0,
    status TEXT NOT NULL DEFAULT '', state_at_ms BIGINT NOT NULL DEFAULT 0,
    state_sess BIGINT NOT NULL DEFAULT -1, state_will SMALLINT NOT NULL DEFAULT 0,
    state_seq BIGINT NOT NULL DEFAULT 0,
    agent TEXT NOT NULL DEFAULT '', release TEXT NOT NULL DEFAULT '',
    model TEXT NOT NULL DEFAULT '', precision TEXT NOT NULL DEFAULT '',
    job TEXT NOT NULL DEFAULT '', waiting BIGINT NOT NULL DEFAULT 0,
    dropped BIGINT NOT NULL DEFAULT 0,
    meta_sess BIGINT NOT NULL DEFAULT -1, meta_seq BIGINT NOT NULL DEFAULT 0,
    board TEXT NOT NULL DEFAULT '', jetpack TEXT NOT NULL DEFAULT '',
    releases_sess BIGINT NOT NULL DEFAULT -1, releases_seq BIGINT NOT NULL DEFAULT 0,
    newest_release TEXT NOT NULL DEFAULT '', pinned SMALLINT NOT NULL DEFAULT 0,
    figures TEXT NOT NULL DEFAULT '', figures_at_ms BIGINT NOT NULL DEFAULT 0,
    figures_id BYTES NOT NULL DEFAULT ZERO,
    report_id BYTES NOT NULL DEFAULT ZERO, report_at_ms BIGINT NOT NULL DEFAULT 0,
    report_model TEXT NOT NULL DEFAULT '', report_p50_ms DOUBLE PRECISION,
    report_agreement DOUBLE PRECISION,
    trouble_id BYTES NOT NULL DEFAULT ZERO, trouble TEXT NOT NULL DEFAULT '',
    missing BIGINT NOT NULL DEFAULT 0, missing_ms BIGINT NOT NULL DEFAULT 0,
    quarantined BIGINT NOT NULL DEFAULT 0, quarantined_ms BIGINT NOT NULL DEFAULT 0{_FIGURES});
CREATE INDEX device_seen ON device (seen_ms);
CREATE TABLE inventory (
    dev INTEGER PRIMARY KEY, environment TEXT NOT NULL DEFAULT '{{}}',
    models TEXT NOT NULL DEFAULT '[]', commands TEXT NOT NULL DEFAULT '[]',
    releases TEXT NOT NULL DEFAULT '[]');
CREATE TABLE label (
    dev INTEGER NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (dev, key)) CLUSTERED;
CREATE INDEX label_value ON label (key, value);
CREATE TABLE telemetry (
    dev INTEGER NOT NULL, id BYTES NOT NULL, at_ms BIGINT NOT NULL, figures TEXT NOT NULL,
    PRIMARY KEY (dev, id)) PARTED;
CREATE TABLE hourly (
    dev INTEGER NOT NULL, hour INTEGER NOT NULL, figures TEXT NOT NULL,
    PRIMARY KEY (dev, hour)) CLUSTERED;
CREATE TABLE event (
    dev INTEGER NOT NULL, id BYTES NOT NULL, at_ms BIGINT NOT NULL, kind TEXT NOT NULL,
    severity TEXT NOT NULL, facts TEXT NOT NULL, PRIMARY KEY (dev, id)) PARTED;
CREATE INDEX event_id ON event (id);
CREATE TABLE result (
    dev INTEGER NOT NULL, id BYTES NOT NULL, at_ms BIGINT NOT NULL, command CODE NOT NULL,
    stage TEXT NOT NULL, version BIGINT NOT NULL, step TEXT NOT NULL, pct DOUBLE PRECISION,
    code TEXT NOT NULL, detail TEXT NOT NULL, reference TEXT NOT NULL,
    PRIMARY KEY (dev, id)) PARTED;
CREATE INDEX result_id ON result (id);
CREATE TABLE answer (
    command CODE NOT NULL, dev INTEGER NOT NULL, id BYTES NOT NULL, stage TEXT NOT NULL,
    version BIGINT NOT NULL, PRIMARY KEY (command, dev)) CLUSTERED;
CREATE TABLE report (
    dev INTEGER NOT NULL, id BYTES NOT NULL, at_ms BIGINT NOT NULL, model CODE NOT NULL,
    model_sha256 TEXT NOT NULL, run TEXT NOT NULL, precision TEXT NOT NULL, runtime TEXT NOT NULL,
    candidate TEXT NOT NULL, release TEXT NOT NULL, activation TEXT NOT NULL,
    headline TEXT NOT NULL, trouble TEXT NOT NULL, size BIGINT NOT NULL, body BYTES NOT NULL
    {_FIGURES}, PRIMARY KEY (dev, id));
CREATE INDEX report_model ON report (model, dev, id);
CREATE INDEX report_id ON report (id);
CREATE TABLE stream (
    dev INTEGER NOT NULL, kind SMALLINT NOT NULL, following BIGINT NOT NULL, newest BYTES NOT NULL,
    holes TEXT NOT NULL, missing BIGINT NOT NULL, PRIMARY KEY (dev, kind)) CLUSTERED;
CREATE TABLE quarantine (
    dev INTEGER NOT NULL, slot INTEGER NOT NULL, at_ms BIGINT NOT NULL, topic TEXT NOT NULL,
    sha256 TEXT NOT NULL, size BIGINT NOT NULL, head BYTES NOT NULL, why TEXT NOT NULL,
    PRIMARY KEY (dev, slot));
CREATE TABLE worker (
    name TEXT PRIMARY KEY, started_ms BIGINT NOT NULL, seen_ms BIGINT NOT NULL,
    stored BIGINT NOT NULL, duplicates BIGINT NOT NULL, quarantined BIGINT NOT NULL,
    retired SMALLINT NOT NULL DEFAULT 0);
INSERT INTO device (id, name, first_ms) VALUES (0, '', 0);
"""
STEPS = (_FIRST,)


def for_sqlite(step: str) -> str:
    """Return a step as SQLite reads it; rows lie in the order of their primary key."""
    words = {
        "id KEY": "id INTEGER PRIMARY KEY",
        "BYTES": "BLOB",
        "CODE": "TEXT",
        "ZERO": "x'00'",
        "CLUSTERED": "WITHOUT ROWID",
        "PARTED": "WITHOUT ROWID",
    }
    return _replaced(step, words)


def for_postgres(step: str) -> str:
    """Return a step as PostgreSQL reads it; PARTED tables are partitioned by the time of the id."""
    words = {
        "id KEY": "id INTEGER GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY",
        "BYTES": "BYTEA",
        "CODE": 'TEXT COLLATE "C"',
        "ZERO": "'\\x00'",
        "CLUSTERED": "",
        "PARTED": "PARTITION BY RANGE (id)",
    }
    return _replaced(step, words)


def _replaced(step: str, words: dict[str, str]) -> str:
    for ours, theirs in words.items():
        step = step.replace(ours, theirs)
    return step
