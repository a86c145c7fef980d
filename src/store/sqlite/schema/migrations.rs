//! The store's tables, as each version of the schema has changed them.

/// What brings a file from schema version `i` to `i + 1`, in order. Never change one that was
/// released, not even its spaces: add another. A file carries their
/// [`fingerprint`](super::fingerprint).
pub(super) const MIGRATIONS: [&str; 10] = [
    FIRST,
    RETENTION,
    CHANGES,
    DAY_SUMS,
    CONFIRMED,
    REMOVALS,
    OWNERS_AND_STAMPS,
    SUSPENSION,
    OWNERS_BY_TENANT,
    ATTEMPTS,
];

/// Whatever the drain writes lies together on few pages, however many keys are busy: rows go to the
/// end of the table and of its two indexes, by time and by the event id, which begins with the time (UUIDv7),
/// and the roll-ups of the current hour are neighbours. With the key first in any of them, each batch wrote a
/// page or two for each key in it. Reports pay for that with a seek per hour.
///
/// Rows are too long for `WITHOUT ROWID`: whole rows would stand in the inner pages as well, and
/// SQLite has no short way of adding to the end of such a table.
const FIRST: &str = r#"
CREATE TABLE requests (
    event_id BLOB NOT NULL UNIQUE,
    tenant TEXT NOT NULL,
    key_id TEXT NOT NULL,
    model TEXT NOT NULL,
    model_served TEXT,
    upstream TEXT NOT NULL,
    endpoint TEXT NOT NULL,
    started_at_ms INTEGER NOT NULL,
    ttfb_ms INTEGER,
    duration_ms INTEGER NOT NULL,
    status INTEGER NOT NULL,
    upstream_status INTEGER,
    "end" TEXT NOT NULL,
    usage_source TEXT NOT NULL,
    input_tokens INTEGER NOT NULL,
    cached_tokens INTEGER NOT NULL,
    cache_write_tokens INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL,
    reasoning_tokens INTEGER NOT NULL,
    audio_input_tokens INTEGER NOT NULL,
    audio_output_tokens INTEGER NOT NULL,
    image_input_tokens INTEGER NOT NULL,
    image_output_tokens INTEGER NOT NULL,
    accepted_prediction_tokens INTEGER NOT NULL,
    rejected_prediction_tokens INTEGER NOT NULL,
    total_tokens INTEGER NOT NULL,
    output_images INTEGER NOT NULL,
    audio_ms INTEGER NOT NULL,
    raw_usage TEXT,
    reserved_tokens INTEGER NOT NULL,
    price_version INTEGER,
    cost_nano_usd INTEGER,
    reported_cost_nano_usd INTEGER,
    attempts INTEGER NOT NULL,
    streamed INTEGER NOT NULL,
    flags INTEGER NOT NULL,
    upstream_request_id TEXT
) STRICT;
CREATE INDEX requests_by_time ON requests (started_at_ms, event_id, key_id);

CREATE TABLE rollups (
    hour INTEGER NOT NULL,
    key_id TEXT NOT NULL,
    model TEXT NOT NULL,
    tenant TEXT NOT NULL,
    requests INTEGER NOT NULL,
    estimated_requests INTEGER NOT NULL,
    unpriced_requests INTEGER NOT NULL,
    input_tokens INTEGER NOT NULL,
    cached_tokens INTEGER NOT NULL,
    cache_write_tokens INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL,
    reasoning_tokens INTEGER NOT NULL,
    audio_input_tokens INTEGER NOT NULL,
    audio_output_tokens INTEGER NOT NULL,
    image_input_tokens INTEGER NOT NULL,
    image_output_tokens INTEGER NOT NULL,
    accepted_prediction_tokens INTEGER NOT NULL,
    rejected_prediction_tokens INTEGER NOT NULL,
    total_tokens INTEGER NOT NULL,
    cost_nano_usd INTEGER,
    PRIMARY KEY (hour, key_id, model, tenant)
) STRICT, WITHOUT ROWID;

CREATE TABLE price_versions (
    version INTEGER PRIMARY KEY,
    model TEXT NOT NULL,
    from_ms INTEGER NOT NULL,
    input_pico_usd INTEGER NOT NULL,
    cached_input_pico_usd INTEGER NOT NULL,
    cache_write_pico_usd INTEGER NOT NULL,
    output_pico_usd INTEGER NOT NULL,
    reasoning_pico_usd INTEGER NOT NULL,
    image_input_pico_usd INTEGER NOT NULL,
    image_output_pico_usd INTEGER NOT NULL,
    audio_input_pico_usd INTEGER NOT NULL,
    audio_output_pico_usd INTEGER NOT NULL,
    per_request_nano_usd INTEGER NOT NULL,
    per_image_nano_usd INTEGER NOT NULL,
    per_second_nano_usd INTEGER NOT NULL
) STRICT;

CREATE TABLE positions (
    segment TEXT PRIMARY KEY,
    "offset" INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE tenants (
    name TEXT PRIMARY KEY,
    created_at_ms INTEGER NOT NULL,
    time_zone TEXT,
    rpm INTEGER, tpm INTEGER, concurrency INTEGER,
    daily_tokens INTEGER, monthly_tokens INTEGER,
    daily_requests INTEGER, monthly_requests INTEGER,
    daily_nano_usd INTEGER, monthly_nano_usd INTEGER
) STRICT;
CREATE TABLE keys (
    id TEXT PRIMARY KEY,
    tenant TEXT NOT NULL REFERENCES tenants (name),
    name TEXT NOT NULL,
    models TEXT,
    created_at_ms INTEGER NOT NULL,
    expires_at_ms INTEGER,
    revoked_at_ms INTEGER,
    clamp INTEGER NOT NULL,
    cut INTEGER NOT NULL,
    rpm INTEGER, tpm INTEGER, concurrency INTEGER,
    daily_tokens INTEGER, monthly_tokens INTEGER,
    daily_requests INTEGER, monthly_requests INTEGER,
    daily_nano_usd INTEGER, monthly_nano_usd INTEGER
) STRICT;
CREATE TABLE secrets (
    digest BLOB PRIMARY KEY,
    key_id TEXT NOT NULL REFERENCES keys (id),
    last4 TEXT NOT NULL,
    expires_at_ms INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX secrets_by_key ON secrets (key_id);

CREATE TABLE meta (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    keys_version INTEGER NOT NULL
) STRICT;
INSERT INTO meta (one, keys_version) VALUES (1, 0);
CREATE TRIGGER tenants_added AFTER INSERT ON tenants
    BEGIN UPDATE meta SET keys_version = keys_version + 1; END;
CREATE TRIGGER tenants_changed AFTER UPDATE ON tenants
    BEGIN UPDATE meta SET keys_version = keys_version + 1; END;
CREATE TRIGGER tenants_removed AFTER DELETE ON tenants
    BEGIN UPDATE meta SET keys_version = keys_version + 1; END;
CREATE TRIGGER keys_added AFTER INSERT ON keys
    BEGIN UPDATE meta SET keys_version = keys_version + 1; END;
CREATE TRIGGER keys_changed AFTER UPDATE ON keys
    BEGIN UPDATE meta SET keys_version = keys_version + 1; END;
CREATE TRIGGER keys_removed AFTER DELETE ON keys
    BEGIN UPDATE meta SET keys_version = keys_version + 1; END;
CREATE TRIGGER secrets_added AFTER INSERT ON secrets
    BEGIN UPDATE meta SET keys_version = keys_version + 1; END;
CREATE TRIGGER secrets_changed AFTER UPDATE ON secrets
    BEGIN UPDATE meta SET keys_version = keys_version + 1; END;
CREATE TRIGGER secrets_removed AFTER DELETE ON secrets
    BEGIN UPDATE meta SET keys_version = keys_version + 1; END;
"#;

/// Rows can be deleted when they are old, and then their roll-ups stand alone: from which moment on
/// every row is there, in milliseconds since the epoch.
const RETENTION: &str = "ALTER TABLE meta ADD COLUMN rows_from_ms INTEGER NOT NULL DEFAULT 0";

/// A server that follows tenants and keys reads what changed since the version that it knows, and not
/// all there is. So each tenant and each key has the version of its last change, that of its secrets
/// included, and what was deleted is logged: the last 100,000 of them.
///
/// Triggers do it, so that nobody who writes can forget it. An update that sets the version itself is
/// theirs; that ends the circle, whatever `recursive_triggers` says. `secrets_by_key` has all that is
/// asked of a secret, so that a key's secrets are found with one look.
const CHANGES: &str = r#"
ALTER TABLE tenants ADD COLUMN changed_at_version INTEGER NOT NULL DEFAULT 0;
ALTER TABLE keys ADD COLUMN changed_at_version INTEGER NOT NULL DEFAULT 0;
CREATE INDEX tenants_by_change ON tenants (changed_at_version);
CREATE INDEX keys_by_change ON keys (changed_at_version);
CREATE INDEX keys_by_tenant ON keys (tenant);
DROP INDEX secrets_by_key;
CREATE INDEX secrets_by_key ON secrets (key_id, expires_at_ms, last4);

CREATE TABLE deletions (
    number INTEGER PRIMARY KEY,
    version INTEGER NOT NULL,
    kind TEXT NOT NULL,
    id TEXT NOT NULL
) STRICT;
CREATE INDEX deletions_by_version ON deletions (version);
CREATE TRIGGER deletions_pruned AFTER INSERT ON deletions
    BEGIN DELETE FROM deletions WHERE number <= NEW.number - 100000; END;

DROP TRIGGER tenants_added;
DROP TRIGGER tenants_changed;
DROP TRIGGER tenants_removed;
DROP TRIGGER keys_added;
DROP TRIGGER keys_changed;
DROP TRIGGER keys_removed;
DROP TRIGGER secrets_added;
DROP TRIGGER secrets_changed;
DROP TRIGGER secrets_removed;

CREATE TRIGGER tenants_added AFTER INSERT ON tenants BEGIN
    UPDATE meta SET keys_version = keys_version + 1;
    UPDATE tenants SET changed_at_version = (SELECT keys_version FROM meta)
        WHERE name = NEW.name;
END;
CREATE TRIGGER tenants_changed AFTER UPDATE ON tenants
WHEN NEW.changed_at_version = OLD.changed_at_version BEGIN
    UPDATE meta SET keys_version = keys_version + 1;
    UPDATE tenants SET changed_at_version = (SELECT keys_version FROM meta)
        WHERE name = NEW.name;
    INSERT INTO deletions (version, kind, id)
        SELECT keys_version, 'tenant', OLD.name FROM meta WHERE OLD.name <> NEW.name;
END;
CREATE TRIGGER tenants_removed AFTER DELETE ON tenants BEGIN
    UPDATE meta SET keys_version = keys_version + 1;
    INSERT INTO deletions (version, kind, id) SELECT keys_version, 'tenant', OLD.name FROM meta;
END;

CREATE TRIGGER keys_added AFTER INSERT ON keys BEGIN
    UPDATE meta SET keys_version = keys_version + 1;
    UPDATE keys SET changed_at_version = (SELECT keys_version FROM meta) WHERE id = NEW.id;
END;
CREATE TRIGGER keys_changed AFTER UPDATE ON keys
WHEN NEW.changed_at_version = OLD.changed_at_version BEGIN
    UPDATE meta SET keys_version = keys_version + 1;
    UPDATE keys SET changed_at_version = (SELECT keys_version FROM meta) WHERE id = NEW.id;
    INSERT INTO deletions (version, kind, id)
        SELECT keys_version, 'key', OLD.id FROM meta WHERE OLD.id <> NEW.id;
END;
CREATE TRIGGER keys_removed AFTER DELETE ON keys BEGIN
    UPDATE meta SET keys_version = keys_version + 1;
    INSERT INTO deletions (version, kind, id) SELECT keys_version, 'key', OLD.id FROM meta;
END;

CREATE TRIGGER secrets_added AFTER INSERT ON secrets BEGIN
    UPDATE meta SET keys_version = keys_version + 1;
    UPDATE keys SET changed_at_version = (SELECT keys_version FROM meta) WHERE id = NEW.key_id;
END;
CREATE TRIGGER secrets_changed AFTER UPDATE ON secrets BEGIN
    UPDATE meta SET keys_version = keys_version + 1;
    UPDATE keys SET changed_at_version = (SELECT keys_version FROM meta)
        WHERE id IN (OLD.key_id, NEW.key_id);
END;
CREATE TRIGGER secrets_removed AFTER DELETE ON secrets BEGIN
    UPDATE meta SET keys_version = keys_version + 1;
    UPDATE keys SET changed_at_version = (SELECT keys_version FROM meta) WHERE id = OLD.key_id;
END;
"#;

/// Roll-ups are folded by the day. The position begins before all of them, so that a server folds what an
/// older one left, a batch at a time. A day's sums lie together, as what is folded does; those of a tenant
/// are one range of each day.
const DAY_SUMS: &str = "
CREATE TABLE day_sums (
    day INTEGER NOT NULL,
    tenant TEXT NOT NULL,
    key_id TEXT NOT NULL,
    requests INTEGER NOT NULL,
    total_tokens INTEGER NOT NULL,
    nano_usd INTEGER NOT NULL,
    PRIMARY KEY (day, tenant, key_id)
) STRICT, WITHOUT ROWID;
CREATE TABLE folded (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    hour INTEGER NOT NULL,
    key_id TEXT NOT NULL,
    model TEXT NOT NULL,
    tenant TEXT NOT NULL
) STRICT;
INSERT INTO folded (one, hour, key_id, model, tenant) VALUES (1, -9223372036854775808, '', '', '');
";

/// The clock can be wrong: the time that was confirmed last, in milliseconds since the epoch.
const CONFIRMED: &str = "ALTER TABLE meta ADD COLUMN confirmed_ms INTEGER";

/// How often segments of the journal were removed: what the transaction changes that is synced for it.
const REMOVALS: &str = "ALTER TABLE meta ADD COLUMN removals INTEGER NOT NULL DEFAULT 0";

/// Keys can be suspended, and resumed: since when, in milliseconds since the epoch.
const SUSPENSION: &str = "ALTER TABLE keys ADD COLUMN suspended_at_ms INTEGER";

/// Whose the latest responses are, as hashes, in the order in which they were stored: an index by hash would
/// write a page for each.
///
/// And what tells a version of the keys from the same number in another history, as a backup has that was
/// restored and then changed: a random stamp for each of the last 200,000. A deletion takes two, that of the
/// key's secret being one.
const OWNERS_AND_STAMPS: &str = "
CREATE TABLE response_owners (
    number INTEGER PRIMARY KEY,
    owner INTEGER NOT NULL
) STRICT;
CREATE TABLE key_stamps (
    version INTEGER PRIMARY KEY,
    stamp INTEGER NOT NULL
) STRICT;
INSERT INTO key_stamps (version, stamp) SELECT keys_version, random() FROM meta;
CREATE TRIGGER keys_stamped AFTER UPDATE OF keys_version ON meta BEGIN
    INSERT OR REPLACE INTO key_stamps (version, stamp) VALUES (NEW.keys_version, random());
    DELETE FROM key_stamps WHERE version < NEW.keys_version - 200000;
END;
";

/// How many responses each tenant has that it is remembered of, for the one that has most loses its oldest. Whose the
/// earlier ones are no hash tells: they are of a tenant without a name.
const OWNERS_BY_TENANT: &str = "
ALTER TABLE response_owners ADD COLUMN tenant TEXT NOT NULL DEFAULT '';
CREATE INDEX response_owners_by_tenant ON response_owners (tenant);
CREATE TABLE response_owner_counts (
    tenant TEXT NOT NULL PRIMARY KEY,
    owners INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX response_owner_counts_by_owners ON response_owner_counts (owners);
INSERT INTO response_owner_counts (tenant, owners) SELECT '', count(*) FROM response_owners;
";

/// With which of an upstream's keys a request was served, and where it had been before, as JSON.
const ATTEMPTS: &str = "
ALTER TABLE requests ADD COLUMN upstream_key TEXT;
ALTER TABLE requests ADD COLUMN failed_attempts TEXT;
";
