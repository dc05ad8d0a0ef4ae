-- Two records: a transcription is paid once for one content and one set of settings; a job is what is owed
-- for one file. Moments are seconds since 1970 (REAL). Paths are the operating system's bytes. Numbers of a stat
-- are integers, or text where they have more than 63 bits (ANY keeps both as they are).

CREATE TABLE transcription (
    id             INTEGER PRIMARY KEY,
    sha256         TEXT    NOT NULL,
    size_bytes     INTEGER NOT NULL,
    profile        TEXT    NOT NULL,
    generation     INTEGER NOT NULL DEFAULT 0,    -- +1 at each redo; files that come later use the newest
    state          TEXT    NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'done', 'partial')),
    owner_job      TEXT,                          -- the job that does, or did, the work
    engine         TEXT,                          -- JSON; fixed once a chunk was paid
    engine_why     TEXT    NOT NULL DEFAULT '',   -- why it is not the first that was asked for
    encoding       TEXT,                          -- of the cuts below, as long as the server takes it
    max_s          REAL,                          -- the longest cut that the server took, where it refused longer ones
    media          TEXT,                          -- JSON
    cuts_complete  INTEGER NOT NULL DEFAULT 0,    -- 1: all of it was decoded; what no chunk row covers is owed
    samples        INTEGER,                       -- decoded length at 16 kHz
    bad_packets    INTEGER,
    transcript     TEXT,                          -- JSON
    summary        TEXT,                          -- the same without text and segments: a list of jobs is quick
    audio_s        REAL    NOT NULL DEFAULT 0,
    requests       INTEGER NOT NULL DEFAULT 0,
    uploaded_bytes INTEGER NOT NULL DEFAULT 0,
    cost_usd       REAL    NOT NULL DEFAULT 0,
    created_at     REAL    NOT NULL,
    finished_at    REAL,
    UNIQUE (sha256, size_bytes, profile, generation)
) STRICT;

CREATE TABLE chunk (
    transcription INTEGER NOT NULL REFERENCES transcription (id) ON DELETE CASCADE,
    idx           INTEGER NOT NULL,
    start_sample  INTEGER NOT NULL,
    end_sample    INTEGER NOT NULL,
    file          TEXT    NOT NULL,
    size_bytes    INTEGER NOT NULL,
    torn          INTEGER NOT NULL DEFAULT 0,     -- 1: its start is shared with its neighbour, 2: its end, 3: both
    silent        INTEGER NOT NULL DEFAULT 0,     -- 1: nothing audible, never sent
    engine        TEXT,                           -- JSON; which engine answered
    result        TEXT,                           -- JSON; null: owed
    error         TEXT,                           -- the code for which it was given up; null: not
    answered_at   REAL,
    PRIMARY KEY (transcription, idx)
) STRICT, WITHOUT ROWID;

CREATE TABLE job (
    id             TEXT    PRIMARY KEY,
    scope          TEXT    NOT NULL,              -- 'inbox:<path>' or 'batch:<id>'
    inbox          TEXT    NOT NULL,
    root           BLOB    NOT NULL,
    rel            BLOB    NOT NULL,
    path           BLOB    NOT NULL,              -- absolute: one file has one job, whoever found it
    dev            ANY     NOT NULL,
    ino            ANY     NOT NULL,
    size_bytes     INTEGER NOT NULL,
    mtime_ns       ANY     NOT NULL,
    ctime_ns       ANY     NOT NULL,
    sha256         TEXT,
    settings       TEXT    NOT NULL,              -- JSON, frozen at claim
    profile        TEXT    NOT NULL,
    engine         TEXT    NOT NULL,              -- the engine of the settings' list whose turn it is (routes)
    engine_why     TEXT    NOT NULL DEFAULT '',   -- why it is not the first of the list
    transcription  INTEGER REFERENCES transcription (id),
    state          TEXT    NOT NULL,
    state_since    REAL    NOT NULL,
    waiting_reason TEXT,
    waiting_until  REAL,
    waiting_detail TEXT    NOT NULL DEFAULT '',
    not_before     REAL    NOT NULL DEFAULT 0,
    priority       INTEGER NOT NULL DEFAULT 0,
    failures       INTEGER NOT NULL DEFAULT 0,
    lease_epoch    INTEGER NOT NULL DEFAULT 0,
    lease_owner    TEXT,
    error          TEXT,                          -- JSON
    flags          TEXT    NOT NULL DEFAULT '[]',
    duplicate_of   TEXT,
    adopted        TEXT,                          -- JSON; what a status file said that another tnfd wrote
    after_at       REAL,                          -- when to look after its files; null: nothing is owed
    after_tries    INTEGER NOT NULL DEFAULT 0,
    left_at        REAL,                          -- when the file was moved or deleted by after
    moved_to       BLOB,                          -- absolute
    seen_at        REAL    NOT NULL,
    settled_at     REAL,
    started_at     REAL,
    finished_at    REAL,
    updated_at     REAL    NOT NULL,
    revision       INTEGER NOT NULL DEFAULT 1,    -- +1 at each change that a status file shows
    status_revision INTEGER NOT NULL DEFAULT 0,   -- the revision that the status file on disk shows
    status_at      REAL    NOT NULL DEFAULT 0
) STRICT;

CREATE INDEX job_ready ON job (scope, priority DESC, failures, id)
    WHERE state = 'queued' AND waiting_reason IS NULL;
CREATE INDEX job_waiting ON job (scope, waiting_reason, not_before)
    WHERE state = 'queued' AND waiting_reason IS NOT NULL;
CREATE INDEX job_since ON job (scope, state_since) WHERE state = 'queued' AND waiting_reason IS NOT NULL;
CREATE INDEX job_inode ON job (ino);
CREATE INDEX job_path ON job (path);
CREATE INDEX job_transcription ON job (transcription);
CREATE INDEX job_state ON job (state, id);
CREATE INDEX job_after ON job (after_at) WHERE after_at IS NOT NULL;
CREATE INDEX job_moved ON job (moved_to) WHERE moved_to IS NOT NULL;
CREATE INDEX job_status ON job (updated_at) WHERE revision <> status_revision;

CREATE TABLE output (
    job    TEXT NOT NULL REFERENCES job (id) ON DELETE CASCADE,
    format TEXT NOT NULL,                         -- txt, json, ... and 'status'
    folder BLOB NOT NULL,                         -- absolute path
    name   BLOB NOT NULL,
    folded TEXT NOT NULL,                         -- as names are compared
    sha256 TEXT,                                  -- null: reserved, not known to be written
    PRIMARY KEY (job, format)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX output_name ON output (folder, folded);

-- Files of finished jobs on their way (after = move, delete): written before they are touched, gone once they
-- have arrived. Outputs are reserved under their new name from the start.
CREATE TABLE errand (
    job        TEXT    NOT NULL REFERENCES job (id) ON DELETE CASCADE,
    seq        INTEGER NOT NULL,                  -- the order of doing
    part       TEXT    NOT NULL,                  -- source, status, or a format
    act        TEXT    NOT NULL,                  -- move, delete
    folder     BLOB    NOT NULL,                  -- absolute
    name       BLOB    NOT NULL,
    to_folder  BLOB    NOT NULL,
    to_name    BLOB    NOT NULL,
    copied_ino ANY,                               -- a whole copy lies in to_folder, perhaps without its name
    PRIMARY KEY (job, seq)
) STRICT, WITHOUT ROWID;

-- What intake has dealt with: a file whose stat still equals this is not looked at again.
CREATE TABLE sight (
    root       BLOB    NOT NULL,
    rel        BLOB    NOT NULL,
    dev        ANY     NOT NULL,
    ino        ANY     NOT NULL,
    size_bytes INTEGER NOT NULL,
    mtime_ns   ANY     NOT NULL,
    ctime_ns   ANY     NOT NULL,
    PRIMARY KEY (root, rel)
) STRICT, WITHOUT ROWID;

-- Roots whose first scan was finished (existing = "skip" concerns that one alone).
CREATE TABLE started (root BLOB PRIMARY KEY, at REAL NOT NULL) STRICT, WITHOUT ROWID;

CREATE TABLE history (
    id     INTEGER PRIMARY KEY,
    job    TEXT NOT NULL REFERENCES job (id) ON DELETE CASCADE,
    at     REAL NOT NULL,
    event  TEXT NOT NULL,
    detail TEXT NOT NULL
) STRICT;
CREATE INDEX history_job ON history (job, id);

CREATE TABLE control (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    at       REAL NOT NULL,
    command  TEXT NOT NULL,
    argument TEXT NOT NULL DEFAULT ''
) STRICT;

-- Processes at work on this state folder; whether one lives is told by its lock file, never by a time-out.
CREATE TABLE process (
    owner      TEXT PRIMARY KEY,
    pid        INTEGER NOT NULL,
    kind       TEXT NOT NULL,
    started_at REAL NOT NULL
) STRICT;

-- The ledger: pauses, requests in flight with the money set aside for them, money spent.
CREATE TABLE engine (
    name          TEXT PRIMARY KEY,
    paused_at     REAL,                           -- null: not paused
    code          TEXT NOT NULL DEFAULT '',
    detail        TEXT NOT NULL DEFAULT '',
    probe_at      REAL,                           -- when one request may try
    probes        INTEGER NOT NULL DEFAULT 0,
    blocked_until REAL NOT NULL DEFAULT 0,        -- the server asked for patience
    set_at        REAL NOT NULL DEFAULT 0,        -- when the two moments above were last set
    streak        INTEGER NOT NULL DEFAULT 0,     -- failures of the attempt in a row, over all files
    throttles     INTEGER NOT NULL DEFAULT 0,     -- refusals for its rate in a row
    heard         INTEGER NOT NULL DEFAULT 0,     -- 1: some answer has come, so its limits are known if it has any
    interval_s    REAL,                           -- the server's token bucket (rules.throttle); null: none stated
    burst         REAL NOT NULL DEFAULT 1,
    full_at       REAL NOT NULL DEFAULT 0,
    learned_at    REAL NOT NULL DEFAULT 0,        -- the moment that the newest statement is about
    paced_full_at REAL NOT NULL DEFAULT 0,        -- the same of requests_per_minute
    level         INTEGER,                        -- requests at once when it was last lowered; null: as configured
    level_at      REAL NOT NULL DEFAULT 0
) STRICT;

-- Files on which an engine fails, until it does them: is it the file, or is the engine down?
CREATE TABLE stumble (
    engine  TEXT NOT NULL,
    job     TEXT NOT NULL,
    strikes INTEGER NOT NULL,                     -- failures with another file's success before the next
    passed  INTEGER NOT NULL,                     -- 1: another file has passed since the last failure
    in_row  INTEGER NOT NULL,                     -- failures since any file has passed
    forgivable INTEGER NOT NULL,                  -- those of them that count only if the engine is not down
    since   REAL NOT NULL,                        -- the first of them
    PRIMARY KEY (engine, job)
) STRICT, WITHOUT ROWID;

-- Pauses by command: of one engine, or of all ('').
CREATE TABLE hold (engine TEXT PRIMARY KEY, at REAL NOT NULL) STRICT, WITHOUT ROWID;

CREATE TABLE reservation (
    id           INTEGER PRIMARY KEY,
    engine       TEXT NOT NULL,
    owner        TEXT NOT NULL REFERENCES process (owner),
    job          TEXT NOT NULL,
    inbox        TEXT NOT NULL,
    at           REAL NOT NULL,
    day          TEXT NOT NULL,                   -- local calendar day
    audio_s      REAL NOT NULL,
    estimate_usd REAL NOT NULL,
    most         INTEGER NOT NULL,                -- requests at once that were asked for
    probe        INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX reservation_engine ON reservation (engine);

CREATE TABLE spend (
    day      TEXT NOT NULL,
    engine   TEXT NOT NULL,
    inbox    TEXT NOT NULL,
    usd      REAL NOT NULL DEFAULT 0,
    audio_s  REAL NOT NULL DEFAULT 0,
    requests INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (day, engine, inbox)
) STRICT, WITHOUT ROWID;

-- Redos by a batch that have not ended: the same command goes on with them instead of paying once more.
CREATE TABLE redo (fingerprint TEXT PRIMARY KEY, begun_at REAL NOT NULL) STRICT, WITHOUT ROWID;
