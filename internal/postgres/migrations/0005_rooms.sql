-- +goose Up

-- What is recorded of the waiting rooms. Redis holds the version in force; these rows
-- are what a room is restored from when Redis has lost it.
CREATE TABLE rooms (
    room        text PRIMARY KEY,
    settings    jsonb NOT NULL,
    revision    bigint NOT NULL, -- of the settings; only a newer one is written
    epoch       uuid NOT NULL,   -- the life in force
    updated_at  timestamptz NOT NULL
);

-- One row a life of a room. Numbers below the ceiling may have been given; it only grows.
CREATE TABLE room_epochs (
    room        text NOT NULL REFERENCES rooms (room),
    epoch       uuid NOT NULL,
    commitment  text NOT NULL, -- SHA-256 of the draw's secret, in hex
    ceiling     bigint NOT NULL,
    started_at  timestamptz NOT NULL,
    PRIMARY KEY (room, epoch)
);

-- The one draw of an epoch, written once and before any rank is shown.
CREATE TABLE room_draws (
    room        text NOT NULL,
    epoch       uuid NOT NULL,
    lobby_size  bigint NOT NULL,
    beacon      text NOT NULL,
    recorded_at timestamptz NOT NULL,
    PRIMARY KEY (room, epoch),
    FOREIGN KEY (room, epoch) REFERENCES room_epochs (room, epoch)
);

-- The figures of a room a moment ago, the newest only: frontier, base, next number,
-- sessions and totals, as the scripts keep them.
CREATE TABLE room_checkpoints (
    room        text NOT NULL,
    epoch       uuid NOT NULL,
    taken_at    timestamptz NOT NULL,
    figures     jsonb NOT NULL,
    PRIMARY KEY (room, epoch),
    FOREIGN KEY (room, epoch) REFERENCES room_epochs (room, epoch)
);
