-- +goose Up

-- Which history of Redis' writes the numbers below the ceiling are reserved for: after a
-- restart or a failover another one begins, and counts on from the ceiling.
ALTER TABLE room_epochs ADD COLUMN lineage text NOT NULL DEFAULT '';
