// Package challenge makes a new place cost something to a program that wants hundreds of
// them, and next to nothing to a person who wants one.
//
// # What it guarantees
//
// An answer is good once (the store settles it in one step, so of two at the same time
// one wins), in the room that it was made for, for ten minutes, and only for who asked:
// the same client prefix or the same browser. A phone that changes from IPv6 to IPv4
// while it computes is still the same browser, and no exact address is in it.
//
// What a proof has to cost is judged when it is spent, not when it was asked for: many
// challenges fetched ahead at the first price are worth one place. The price follows the
// debt of the prefix that asked, of its IPv6 /48, and of how many proofs the room gets;
// price.go is the whole tariff. It is bounded: nobody is ever asked for more than
// 2^mostBits rounds.
//
// # The kinds of answer
//
//   - altcha: proof of work in ALTCHA's second format, PBKDF2 with SHA-256 (altcha.go).
//     Making a challenge costs a MAC, refusing a forged answer too; only an answer to a
//     challenge of ours costs a derivation, once a challenge.
//   - turnstile, hcaptcha: their word, asked for by their siteverify protocol
//     (outside.go), where an operator has configured one. While it does not answer,
//     challenges are altcha's: nobody gets in unchecked, and nobody meets an error page.
//   - wait: for who cannot compute. A prefix has one such place every Config.Wait and at
//     most maxWaits in advance, so that waiting gains a program nothing.
//
// # Who is authoritative
//
// Redis for what is spent and what is owed, all of it expiring; a challenge itself is
// signed and stored nowhere. Spent proofs are eight bytes each in sets of integers, not
// a key each.
//
// # What happens on each failure
//
//   - Redis away: no answer can be spent, so Check returns an error and nobody gets a
//     place by it; without Redis there are no places anyway. Challenges are still made,
//     at the first price.
//   - Redis wiped: debts are forgotten; proofs spent within the last ten minutes could be
//     spent once more, which their work has paid for once.
//   - A process killed between spending and the place: that proof is lost, and the page
//     computes another.
package challenge
