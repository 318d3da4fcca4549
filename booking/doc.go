// Package booking is the core: the catalogue, seats, holds, orders, payments, tickets
// and the operators' calls on them.
//
// Postgres is the truth for all that is sold: one unique key (event, performance, index)
// guards every seat and every unit of an area, whatever Redis forgets and whatever clocks
// say. Redis holds what may be lost: holds, availability maps, copies of API keys and of
// which room stands before which event (usher:event-rooms); the last two are written
// again all the time, so a Redis that comes back empty is complete again a second later.
//
// A hold is a signed id and a lock in Redis, taken by one script, all or none. An order
// first turns its hold over, then owns its seats in Postgres, then has its payment made;
// each step can be repeated, and the order's id follows from the hold and the
// Idempotency-Key, so whoever resumes after a crash does the same again. Time alone frees
// no seat of an order: it is freed in the transaction that ends the order, after the
// provider's word that nothing can be paid any more. Money that comes all the same goes
// back by a job. The seat map in Redis follows Postgres, and every difference that a crash
// or a loss leaves is mended by a comparison (reconcile), every quarter of a minute; seats
// that Redis gives to an order and Postgres to nobody are believed for a minute.
//
// A seating plan is immutable and known by its hash; an event's performances pin one.
// What an index means (plan and areas) is a performance's layout; it can change only while
// nothing of it was ever ordered. What is read here is at most a second old in any process
// and exact in the one that made the change.
//
// With Postgres away every call answers 503 and changes nothing. With Redis away the
// catalogue is served from Postgres, and holds and sign-in answer 503.
//
// Passes are verified here again: no header of the gateway's is believed.
package booking
