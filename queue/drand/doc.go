// Package drand reads rounds of a drand chain: public randomness that nobody knows before
// its time (https://docs.drand.love).
//
// A chain is named by its address, https://HOST/CHAIN-HASH. The hash is made of the chain's
// public key and schedule, so that the address alone decides what is believed: an answer of
// the host counts only where it fits the hash (Chain.Check) and where the round is signed
// with that key (Chain.Verify). The host can hold a round back, and nothing else.
//
// Chains of the scheme bls-unchained-g1-rfc9380 are read, which is that of drand's quicknet.
//
// Whatever a setting names, only hosts that the caller lists are asked, by https or on a
// loopback address, without following redirects, for a few seconds and a few kilobytes.
package drand
