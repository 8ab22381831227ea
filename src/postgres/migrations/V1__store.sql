-- The state that replicas share. docs/store.md describes it. The server calls the functions below, which run with the
-- rights of their owner, and reads the tables; it needs no other rights.

-- The audit log. `line` is the record as docs/audit.md describes it. The other columns repeat values of the line for
-- searches: `user_name` is `user`, and `user_ids` has the identifiers `user_...` that differ from it.
CREATE TABLE audit_record (
    seq        bigint PRIMARY KEY,
    ts         timestamptz NOT NULL,
    request_id text NOT NULL,
    event      text NOT NULL,
    outcome    text NOT NULL,
    caller     text NOT NULL,
    user_name  text NOT NULL,
    user_ids   text[] NOT NULL,
    since      timestamptz,
    line       text NOT NULL
);
CREATE INDEX audit_record_request_id ON audit_record (request_id);
CREATE INDEX audit_record_caller ON audit_record (caller, seq);
CREATE INDEX audit_record_user_name ON audit_record (user_name, seq);
CREATE INDEX audit_record_user_ids ON audit_record USING gin (user_ids) WITH (fastupdate = off) WHERE user_ids <> '{}';
CREATE INDEX audit_record_ts ON audit_record USING brin (ts);
CREATE INDEX audit_record_since ON audit_record (since) WHERE since IS NOT NULL;
CREATE INDEX audit_record_unknown ON audit_record (seq) WHERE outcome IN ('unknown', 'unknown_after_crash');

-- The last record of the chain, the only row. Its lock puts the records of all replicas in one order. The functions
-- find it as the last one in the index. While a long query or a backup keeps the database from removing old versions of
-- the row, a scan of the table would read all of them.
CREATE TABLE audit_head (
    seq  bigint PRIMARY KEY,
    hash text NOT NULL
);
INSERT INTO audit_head (seq, hash) VALUES (0, '');

-- Servers that write to the audit log. Only statements with the current epoch of a replica take effect, so that a
-- statement whose connection was lost cannot take effect later. No epoch is used again, even if the row is removed in
-- the meantime. After its lease a replica counts as dead.
CREATE TABLE replica (
    id          text PRIMARY KEY,
    epoch       bigint NOT NULL,
    lease_until timestamptz NOT NULL
);
CREATE SEQUENCE replica_epoch;

-- Intents without an outcome. If a replica dies, another one records the outcome `unknown_after_crash`, and
-- `closed_at` is set. The row is kept for a day, because the replica may be alive and record its outcome later.
CREATE TABLE open_intent (
    request_id     text PRIMARY KEY,
    replica        text NOT NULL,
    members        text NOT NULL,
    charged_caller text,
    charged_second bigint,
    closed_at      timestamptz
);
CREATE INDEX open_intent_replica ON open_intent (replica);
CREATE INDEX open_intent_closed ON open_intent (closed_at) WHERE closed_at IS NOT NULL;

-- Deletions of the last minute, by caller and second.
CREATE TABLE deletion_count (
    caller text NOT NULL,
    second bigint NOT NULL,
    count  integer NOT NULL,
    PRIMARY KEY (caller, second)
);

-- Refused logons by account (`user@host:port`) and keyed digest of the password. Logons in progress count as refused.
CREATE TABLE hmc_logon (
    account      text NOT NULL,
    digest       text NOT NULL,
    refused      integer NOT NULL,
    until        timestamptz NOT NULL,
    until_before timestamptz NOT NULL,
    PRIMARY KEY (account, digest)
);

-- Logons in progress. `holder` names one logon. A logon whose server has died ends at `until`.
CREATE TABLE hmc_logon_turn (
    account text PRIMARY KEY,
    holder  text NOT NULL,
    until   timestamptz NOT NULL
);

-- A part of the key of the digests. The other part is the password of the database, which a copy of the database
-- does not contain.
CREATE TABLE digest_key (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    key      text NOT NULL
);
INSERT INTO digest_key (key) VALUES (gen_random_uuid()::text || gen_random_uuid()::text);

-- Registers a new connection of a replica, and returns its epoch. Waits for a statement of an earlier connection that
-- is in progress.
CREATE FUNCTION register_replica(p_replica text, p_lease interval) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = useradmin, pg_temp SET enable_seqscan = off AS $$
DECLARE
    v_epoch bigint;
BEGIN
    PERFORM FROM audit_head ORDER BY seq DESC LIMIT 1 FOR UPDATE;
    INSERT INTO replica AS r (id, epoch, lease_until)
    VALUES (p_replica, nextval('replica_epoch'), clock_timestamp() + p_lease)
    ON CONFLICT (id) DO UPDATE SET epoch = excluded.epoch, lease_until = excluded.lease_until
    RETURNING epoch INTO v_epoch;
    RETURN v_epoch;
END $$;

-- Renews the lease of a replica, removes rows that are not needed any more, and returns the members of the intents
-- that dead replicas have left open. Every open intent has a row of its replica. Except for old counts, which no other
-- function changes, rows are locked after the head, so that functions never wait for each other in a circle.
CREATE FUNCTION maintain(p_replica text, p_epoch bigint, p_lease interval) RETURNS SETOF text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = useradmin, pg_temp SET enable_seqscan = off AS $$
BEGIN
    DELETE FROM deletion_count WHERE (caller, second) IN (
        SELECT caller, second FROM deletion_count
        WHERE second <= floor(extract(epoch FROM clock_timestamp()))::bigint - 120 FOR UPDATE SKIP LOCKED
    );
    PERFORM FROM audit_head ORDER BY seq DESC LIMIT 1 FOR UPDATE;
    UPDATE replica SET lease_until = clock_timestamp() + p_lease WHERE id = p_replica AND epoch = p_epoch;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the replica has a newer connection, or its lease has ended' USING ERRCODE = 'UA001';
    END IF;
    DELETE FROM open_intent WHERE closed_at < clock_timestamp() - interval '1 day';
    DELETE FROM hmc_logon WHERE until < clock_timestamp() - interval '1 day';
    DELETE FROM replica AS r
    WHERE r.lease_until < clock_timestamp()
        AND NOT EXISTS (SELECT FROM open_intent AS o WHERE o.replica = r.id AND o.closed_at IS NULL);
    RETURN QUERY
        SELECT o.members FROM replica AS r JOIN open_intent AS o ON o.replica = r.id
        WHERE r.lease_until < clock_timestamp() AND o.closed_at IS NULL
        LIMIT 1000;
END $$;

-- Counts one more deletion of a caller in the current second. Returns NULL, or the time in seconds until the caller has
-- capacity again. Counts whole seconds, so that no period of 60 seconds has more deletions than the limit.
CREATE FUNCTION charge(p_caller text, p_limit integer, p_second bigint) RETURNS integer
LANGUAGE plpgsql AS $$
DECLARE
    v_used bigint;
    v_newest bigint;
    v_wait integer;
BEGIN
    SELECT coalesce(sum(count), 0), max(second) INTO v_used, v_newest
    FROM deletion_count WHERE caller = p_caller AND second > p_second - 61;
    -- The clock was set back. Deletions in the future count as if they had begun now, not until the clock is there
    -- again.
    IF v_newest > p_second THEN
        DELETE FROM deletion_count WHERE caller = p_caller AND second >= p_second;
        INSERT INTO deletion_count (caller, second, count)
        SELECT p_caller, p_second, v_used - coalesce(sum(count), 0)
        FROM deletion_count WHERE caller = p_caller AND second > p_second - 61;
    END IF;
    IF v_used < p_limit THEN
        INSERT INTO deletion_count AS d (caller, second, count) VALUES (p_caller, p_second, 1)
        ON CONFLICT (caller, second) DO UPDATE SET count = d.count + 1;
        RETURN NULL;
    END IF;
    SELECT second + 61 - p_second INTO v_wait
    FROM (
        SELECT second, sum(count) OVER (ORDER BY second) AS released
        FROM deletion_count WHERE caller = p_caller AND second > p_second - 61
    ) AS released_by_second
    WHERE released > v_used - p_limit ORDER BY second LIMIT 1;
    RETURN coalesce(v_wait, 60);
END $$;

-- Appends records to the chain, all in one transaction. `p_kind` is `intent`, `outcome` (of an intent of this replica),
-- `crash` (the outcome of an intent of a dead replica), `finding`, or `other` (the outcome of a call without an
-- intent). `p_retained` marks records that an earlier statement may have appended already. Returns the new head of the
-- chain, and for each record 0, -1 if the record was not needed, -2 if it cannot be recorded any more, or the wait in
-- seconds of an intent beyond the caller's quota.
CREATE FUNCTION append_records(
    p_replica text, p_epoch bigint, p_lease interval,
    p_kind text[], p_retained boolean[], p_version integer[], p_ts text[], p_request_id text[], p_outcome text[],
    p_caller text[], p_user_name text[], p_user_ids text[], p_since text[], p_members text[],
    p_charged_caller text[], p_limit integer[],
    OUT seq bigint, OUT hash text, OUT results integer[]
)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = useradmin, pg_temp SET enable_seqscan = off AS $$
#variable_conflict use_column
DECLARE
    v_head bigint;
    v_lease_until timestamptz;
    v_second bigint;
    v_wait integer;
    v_open open_intent%ROWTYPE;
    v_event text;
    v_members text;
    v_version integer;
    v_line text;
BEGIN
    SELECT h.seq, h.hash INTO append_records.seq, append_records.hash
    FROM audit_head AS h ORDER BY h.seq DESC LIMIT 1 FOR UPDATE;
    v_head := append_records.seq;
    SELECT r.lease_until INTO v_lease_until FROM replica AS r WHERE r.id = p_replica AND r.epoch = p_epoch;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the replica has a newer connection, or its lease has ended' USING ERRCODE = 'UA001';
    END IF;
    -- Renewed not at each call, because each renewal leaves an old version of the row.
    IF v_lease_until < clock_timestamp() + p_lease * 0.7 THEN
        UPDATE replica SET lease_until = clock_timestamp() + p_lease WHERE id = p_replica;
    END IF;
    v_second := floor(extract(epoch FROM clock_timestamp()))::bigint;
    results := array_fill(0, ARRAY[cardinality(p_kind)]);
    FOR i IN 1 .. cardinality(p_kind) LOOP
        v_event := 'outcome';
        v_members := p_members[i];
        v_version := p_version[i];
        CASE p_kind[i]
        WHEN 'intent' THEN
            v_event := 'intent';
            IF p_limit[i] IS NOT NULL THEN
                v_wait := charge(p_charged_caller[i], p_limit[i], v_second);
                IF v_wait IS NOT NULL THEN
                    results[i] := v_wait;
                    CONTINUE;
                END IF;
            END IF;
            INSERT INTO open_intent (request_id, replica, members, charged_caller, charged_second)
            VALUES (p_request_id[i], p_replica, v_members, p_charged_caller[i],
                CASE WHEN p_limit[i] IS NOT NULL THEN v_second END);
        WHEN 'outcome' THEN
            DELETE FROM open_intent WHERE request_id = p_request_id[i] RETURNING * INTO v_open;
            IF NOT FOUND THEN
                -- The outcome was recorded before, or nothing was sent because the intent was not recorded. Otherwise
                -- the intent has been lost, or was closed more than a day ago.
                IF p_outcome[i] = 'not_sent' OR EXISTS (
                    SELECT FROM audit_record AS a WHERE a.request_id = p_request_id[i] AND a.event = 'outcome'
                        AND a.outcome <> 'unknown_after_crash'
                ) THEN
                    results[i] := -1;
                ELSE
                    results[i] := -2;
                END IF;
                CONTINUE;
            END IF;
            -- A call that sent nothing does not count.
            IF p_outcome[i] = 'not_sent' AND v_open.charged_second > v_second - 61 THEN
                UPDATE deletion_count SET count = count - 1
                WHERE caller = v_open.charged_caller AND second = v_open.charged_second AND count > 0;
            END IF;
            -- Another replica has recorded the outcome `unknown_after_crash`; the true one is a finding about it.
            IF v_open.closed_at IS NOT NULL THEN
                IF p_outcome[i] = 'unknown' THEN
                    results[i] := -1;
                    CONTINUE;
                END IF;
                -- A replica has read the user in the meantime.
                IF EXISTS (
                    SELECT FROM audit_record AS a
                    WHERE a.request_id = p_request_id[i] AND a.event = 'reconciled' AND a.outcome <> 'unreadable'
                ) THEN
                    results[i] := -2;
                    CONTINUE;
                END IF;
                v_event := 'reconciled';
                v_members := replace(v_members, '"event":"outcome"', '"event":"reconciled"');
                v_version := 2;
            END IF;
        WHEN 'crash' THEN
            UPDATE open_intent AS o SET closed_at = clock_timestamp()
            WHERE o.request_id = p_request_id[i] AND o.closed_at IS NULL
                AND NOT EXISTS (SELECT FROM replica AS r WHERE r.id = o.replica AND r.lease_until >= clock_timestamp());
            IF NOT FOUND THEN
                results[i] := -1;
                CONTINUE;
            END IF;
        WHEN 'finding' THEN
            v_event := 'reconciled';
            IF EXISTS (
                SELECT FROM audit_record AS a
                WHERE a.request_id = p_request_id[i] AND a.event = 'reconciled'
                    AND (a.outcome <> 'unreadable' OR (p_retained[i] AND a.outcome = p_outcome[i]))
            ) THEN
                results[i] := -1;
                CONTINUE;
            END IF;
        ELSE
            IF p_retained[i] AND EXISTS (
                SELECT FROM audit_record AS a WHERE a.request_id = p_request_id[i] AND a.event = 'outcome'
            ) THEN
                results[i] := -1;
                CONTINUE;
            END IF;
        END CASE;
        append_records.seq := append_records.seq + 1;
        v_line := '{"v":' || v_version || ',"ts":"' || p_ts[i] || '","seq":' || append_records.seq || ',' || v_members
            || ',"replica":"' || p_replica || '","prev":"' || append_records.hash || '"}';
        append_records.hash := encode(sha256(convert_to(v_line, 'UTF8')), 'hex');
        INSERT INTO audit_record (seq, ts, request_id, event, outcome, caller, user_name, user_ids, since, line)
        VALUES (append_records.seq, p_ts[i]::timestamptz, p_request_id[i], v_event, p_outcome[i], p_caller[i],
            p_user_name[i], p_user_ids[i]::text[], p_since[i]::timestamptz, v_line);
    END LOOP;
    IF append_records.seq > v_head THEN
        UPDATE audit_head AS h SET seq = append_records.seq, hash = append_records.hash WHERE h.seq = v_head;
    END IF;
END $$;

-- Fails if a record cannot be appended, for example because the disk is full. Appends nothing.
CREATE FUNCTION probe() RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = useradmin, pg_temp AS $$
BEGIN
    INSERT INTO audit_record (seq, ts, request_id, event, outcome, caller, user_name, user_ids, line)
    SELECT -1, clock_timestamp(), '', '', '', '', '', '{}', string_agg(gen_random_uuid()::text, '') FROM generate_series(1, 40);
    RAISE EXCEPTION USING ERRCODE = 'UA002';
EXCEPTION WHEN SQLSTATE 'UA002' THEN
    RETURN;
END $$;

-- Begins a logon, which `p_holder` names. Returns `granted`, `suspended`, or `busy` while another logon to the account
-- is in progress, whose result may change the count. A granted logon counts as refused until `end_logon` is called.
CREATE FUNCTION begin_logon(
    p_account text, p_digest text, p_holder text, p_max_refused integer, p_suspension interval, p_turn interval
) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = useradmin, pg_temp AS $$
DECLARE
    v_now timestamptz;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('useradmin.hmc_logon ' || p_account, 0));
    v_now := clock_timestamp();
    IF EXISTS (SELECT FROM hmc_logon_turn WHERE account = p_account AND until > v_now) THEN
        RETURN 'busy';
    END IF;
    IF EXISTS (
        SELECT FROM hmc_logon
        WHERE account = p_account AND digest = p_digest AND refused >= p_max_refused AND until > v_now
    ) THEN
        RETURN 'suspended';
    END IF;
    INSERT INTO hmc_logon AS l (account, digest, refused, until, until_before)
    VALUES (p_account, p_digest, 1, v_now + p_suspension, v_now)
    ON CONFLICT (account, digest) DO UPDATE
        SET refused = l.refused + 1, until = excluded.until, until_before = l.until;
    INSERT INTO hmc_logon_turn (account, holder, until) VALUES (p_account, p_holder, v_now + p_turn)
    ON CONFLICT (account) DO UPDATE SET holder = excluded.holder, until = excluded.until;
    RETURN 'granted';
END $$;

-- Ends a logon with the result `accepted`, `refused` or `failed` (for another reason). Returns the number of refused
-- logons with this password if it was refused. Can be repeated, and can be late: it has no effect after another logon
-- has begun, except that a refusal always counts, even of a logon that `begin_logon` has not counted. A refusal that
-- is recorded again, because the answer was lost, therefore counts twice.
CREATE FUNCTION end_logon(
    p_account text, p_digest text, p_holder text, p_result text, p_suspension interval
) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = useradmin, pg_temp AS $$
DECLARE
    v_counted boolean;
    v_refused integer;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('useradmin.hmc_logon ' || p_account, 0));
    DELETE FROM hmc_logon_turn WHERE account = p_account AND holder = p_holder;
    v_counted := FOUND;
    IF p_result = 'refused' THEN
        INSERT INTO hmc_logon AS l (account, digest, refused, until, until_before)
        VALUES (p_account, p_digest, 1, clock_timestamp() + p_suspension, clock_timestamp())
        ON CONFLICT (account, digest) DO UPDATE
            SET refused = l.refused + CASE WHEN v_counted THEN 0 ELSE 1 END, until = excluded.until
        RETURNING refused INTO v_refused;
    ELSIF v_counted AND p_result = 'accepted' THEN
        DELETE FROM hmc_logon WHERE account = p_account AND digest = p_digest;
    ELSIF v_counted THEN
        UPDATE hmc_logon SET refused = refused - 1, until = until_before
        WHERE account = p_account AND digest = p_digest;
        DELETE FROM hmc_logon WHERE account = p_account AND digest = p_digest AND refused <= 0;
    END IF;
    RETURN coalesce(v_refused, 0);
END $$;

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA useradmin FROM PUBLIC;
