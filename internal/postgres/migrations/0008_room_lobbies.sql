-- +goose Up

-- The size of a lobby whose draw waits for a public beacon: recorded first, then the round
-- is chosen, then the draw is recorded with it.
CREATE TABLE room_lobbies (
    room        text NOT NULL,
    epoch       uuid NOT NULL,
    lobby_size  bigint NOT NULL,
    round       bigint,      -- null until chosen
    round_at    timestamptz, -- when the beacon's chain gives the round
    fixed_at    timestamptz, -- when the size was on record already
    PRIMARY KEY (room, epoch),
    FOREIGN KEY (room, epoch) REFERENCES room_epochs (room, epoch)
);

-- Where the beacon of a draw came from, as published; null for a text.
ALTER TABLE room_draws ADD COLUMN source jsonb;
